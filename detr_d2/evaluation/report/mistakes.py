"""What each mistake of a panoptic prediction is, and what its cure would change.

Every true segment that isn't found and every predicted one that is wrong belongs to exactly one mistake, of the first
kind in the list below that fits. A cure repairs one kind and leaves everything else as it is.

Source: the idea of errors told apart, each cured alone, is of Bolya et al. 2020, "TIDE: A General Toolbox for
Identifying Object Detection Errors", section 2. The kinds are those of panoptic maps, whose segments never overlap.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from detr_d2.evaluation.overlaps import VOID
from detr_d2.evaluation.report.scene import Scene

#: A true and a predicted segment of one class with an IoU above this, and no match, are one object cut poorly.
LEAST_IOU = 0.1

#: The kinds, in the order in which they are looked for; the last is of segments that are found.
KINDS = (
    "wrong_class",
    "split",
    "merged",
    "poorly_cut",
    "duplicate",
    "on_void",
    "made_up",
    "missed",
    "loose_borders",
)


class Change(NamedTuple):
    """What a cure adds to the counts of a class.

    Args:
        label: the class.
        true_positives, false_positives, false_negatives: what is added to them.
        iou: what is added to the sum of IoU.
        usual: how many of the new true positives have the IoU that the class's matches usually have; it isn't in
            ``iou``, as it is known only when all pictures have been seen.
    """

    label: int
    true_positives: int = 0
    false_positives: int = 0
    false_negatives: int = 0
    iou: float = 0.0
    usual: int = 0


@dataclass(frozen=True)
class Mistake:
    """One mistake: which segments it is made of, and the cure.

    Args:
        kind: one of ``KINDS``.
        true_ids, predicted_ids: the segments it explains; a match that takes part is only in ``beside``.
        changes: of the counts, if it were cured.
        beside: a predicted segment that is right, but takes part: the one that swallowed another, or was there first.
    """

    kind: str
    true_ids: tuple[int, ...]
    predicted_ids: tuple[int, ...]
    changes: tuple[Change, ...]
    beside: int | None = None


@dataclass(frozen=True)
class Findings:
    """All that is to be said of a picture's segments.

    Args:
        matches: true id and IoU of each predicted segment that is right.
        mistakes: the others, each in exactly one, but for ``ignored``; and a "loose_borders" for every match.
        ignored: predicted segments that count neither as right nor as wrong, being mostly void (or crowd).
    """

    matches: dict[int, tuple[int, float]]
    mistakes: tuple[Mistake, ...]
    ignored: tuple[int, ...]


def find_mistakes(scene: Scene) -> Findings:
    """Tells a picture's mistakes apart.

    * ``wrong_class``: a predicted and a true segment of different classes with an IoU above 0.5. Cure: the predicted
      one gets the true class, and its own IoU.
    * ``split``: a true segment that wasn't found, though two or more wrong predicted segments of its class that lie
      mostly on it together have an IoU above 0.5. Cure: they become one.
    * ``merged``: true segments that weren't found, each mostly under a predicted one of their class that either is
      right for another true segment, or is wrong and covers two or more of them. Cure: the predicted one is cut along
      their borders, and each gets what covers it; a match loses the pixels of those that it had swallowed.
    * ``poorly_cut``: a wrong predicted segment and a true one of its class that wasn't found, with an IoU above 0.1,
      or the predicted one mostly on the true one; pairs with the largest IoU first. Cure: it is cut as well as the
      matches of the class usually are.
    * ``duplicate``: a wrong predicted segment that lies, with its largest part, on a true one of its class which is
      found already, or belongs to one of the mistakes above. Cure: it is gone.
    * ``on_void``: a wrong predicted segment whose largest part is void, where nobody labelled anything. Cure: it is
      gone. Those that are void for more than half aren't wrong to panoptic quality; they are in ``Findings.ignored``.
    * ``made_up``: every other wrong predicted segment. Cure: it is gone.
    * ``missed``: every other true segment that wasn't found. Cure: it is found, and cut as well as the matches of the
      class usually are.
    * ``loose_borders``: every match. Cure: its IoU is 1.
    """
    return _Search(scene).run()


class _Search:
    """A picture's segments that still have to be explained, and the mistakes found so far."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.matches: dict[int, tuple[int, float]] = {}
        for true_id, predicted_id in sorted(scene.pixels):
            iou = self._iou_of_class(true_id, predicted_id)
            if iou > 0.5:
                self.matches[predicted_id] = true_id, iou
        found = {true_id for true_id, _ in self.matches.values()}
        unmatched = [i for i in scene.predicted_class if i not in self.matches]
        self.ignored = tuple(i for i in unmatched if scene.is_ignored(i))
        #: In the order of the ids, so that the same mistakes are found whatever the order of the files.
        self.wrong = sorted(set(unmatched) - set(self.ignored))
        self.lost = sorted(scene.true_class.keys() - found)
        self.taken = found
        self.mistakes: list[Mistake] = []

    def run(self) -> Findings:
        for search in (self._wrong_class, self._split, self._merged, self._poorly_cut, self._rest, self._borders):
            for mistake in search():
                self._note(mistake)
        return Findings(self.matches, tuple(self.mistakes), self.ignored)

    def _note(self, mistake: Mistake) -> None:
        self.mistakes.append(mistake)
        self.wrong = [i for i in self.wrong if i not in mistake.predicted_ids]
        self.lost = [i for i in self.lost if i not in mistake.true_ids]
        self.taken = self.taken | set(mistake.true_ids)

    def _iou_of_class(self, true_id: int, predicted_id: int) -> float:
        """0 where the classes differ, or one of them is void or crowd."""
        scene = self.scene
        label = scene.true_class.get(true_id, -1)
        return scene.iou(true_id, [predicted_id]) if label == scene.predicted_class.get(predicted_id) else 0.0

    def _wrong_class(self) -> Iterator[Mistake]:
        scene = self.scene
        for true_id in self.lost:
            for predicted_id in sorted(scene.under[true_id].keys() - {VOID}):
                iou = scene.iou(true_id, [predicted_id])
                if iou > 0.5:  # of different classes, or it would be a match; one such pair only is possible
                    found = Change(scene.true_class[true_id], true_positives=1, false_negatives=-1, iou=iou)
                    counted = predicted_id in self.wrong
                    freed = Change(scene.predicted_class[predicted_id], false_positives=-int(counted))
                    yield Mistake("wrong_class", (true_id,), (predicted_id,), (found, freed))

    def _split(self) -> Iterator[Mistake]:
        scene = self.scene
        for true_id in self.lost:
            label = scene.true_class[true_id]
            parts = tuple(i for i in self._wrong_of(label) if scene.mostly_on(i, true_id))
            iou = scene.iou(true_id, parts)
            if len(parts) >= 2 and iou > 0.5:
                change = Change(label, true_positives=1, false_positives=-len(parts), false_negatives=-1, iou=iou)
                yield Mistake("split", (true_id,), parts, (change,))

    def _merged(self) -> Iterator[Mistake]:
        scene = self.scene
        for predicted_id, label in sorted(scene.predicted_class.items()):
            covered = tuple(i for i in self._lost_of(label) if scene.mostly_under(i, predicted_id))
            match = self.matches.get(predicted_id)
            if len(covered) >= (2 if match is None else 1) and (match or predicted_id in self.wrong):
                gained = sum(scene.overlap(i, predicted_id) / scene.true_areas[i] for i in covered)
                if match is not None:
                    gained += self._without(predicted_id, match[0], covered) - match[1]
                own = () if match else (predicted_id,)
                change = Change(label, len(covered), -len(own), -len(covered), gained)
                yield Mistake("merged", covered, own, (change,), None if own else predicted_id)

    def _without(self, predicted_id: int, true_id: int, covered: tuple[int, ...]) -> float:
        """IoU of a match once the predicted segment has lost the pixels of others."""
        shared = self.scene.overlap(true_id, predicted_id)
        lost = sum(self.scene.overlap(i, predicted_id) for i in covered)
        return shared / (self.scene.counted_area(predicted_id) - lost + self.scene.true_areas[true_id] - shared)

    def _poorly_cut(self) -> Iterator[Mistake]:
        scene = self.scene
        pairs = []
        for true_id in self.lost:
            label = scene.true_class[true_id]
            for predicted_id in self._wrong_of(label):
                iou = scene.iou(true_id, [predicted_id])
                if iou > LEAST_IOU or scene.mostly_on(predicted_id, true_id):
                    pairs.append((-iou, true_id, predicted_id))
        for _, true_id, predicted_id in sorted(pairs):
            if true_id in self.lost and predicted_id in self.wrong:
                change = Change(scene.true_class[true_id], 1, -1, -1, usual=1)
                yield Mistake("poorly_cut", (true_id,), (predicted_id,), (change,))

    def _rest(self) -> Iterator[Mistake]:
        scene = self.scene
        for predicted_id in self.wrong:
            label, home = scene.predicted_class[predicted_id], scene.home(predicted_id)
            kind = "on_void" if home == VOID else "made_up"
            if home in self.taken and scene.true_class[home] == label:
                kind = "duplicate"
            yield Mistake(kind, (), (predicted_id,), (Change(label, false_positives=-1),))
        for true_id in self.lost:
            yield Mistake("missed", (true_id,), (), (Change(scene.true_class[true_id], 1, 0, -1, usual=1),))

    def _borders(self) -> Iterator[Mistake]:
        for predicted_id, (true_id, iou) in self.matches.items():
            change = Change(self.scene.true_class[true_id], iou=1 - iou)
            yield Mistake("loose_borders", (true_id,), (predicted_id,), (change,))

    def _wrong_of(self, label: int) -> list[int]:
        return [i for i in self.wrong if self.scene.predicted_class[i] == label]

    def _lost_of(self, label: int) -> list[int]:
        return [i for i in self.lost if self.scene.true_class[i] == label]
