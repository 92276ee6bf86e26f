"""What each mistake of a panoptic prediction is, and what its fix would change.

Every true segment that isn't found and every predicted one that is wrong belongs to exactly one mistake, of the first
kind in the list below that fits. A fix repairs one kind and leaves everything else as it is.

Source: the idea of errors told apart, each fixed alone, is of Bolya et al. 2020, "TIDE: A General Toolbox for
Identifying Object Detection Errors", section 2. The kinds are those of panoptic maps, whose segments never overlap.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from detr_d2.evaluation.matching import MATCH_IOU, ComparedImage, Count
from detr_d2.evaluation.overlaps import VOID
from detr_d2.evaluation.panoptic_quality import IOU, PanopticQuality, class_qualities
from detr_d2.evaluation.results import group_means

#: A true and a predicted segment of one class with an IoU above this, and no match, are one object cut poorly.
LEAST_IOU = 0.1
#: A threshold as high as this leaves no room for a higher one.
HIGHEST_OVERLAP = 0.9
_HIGHER_OVERLAP = (
    "A higher MODEL.DETR.OVERLAP_THRESHOLD leaves an object to one query and drops those that others mostly cover "
    "('detr-d2 sweep' tries it); no training is needed. "
)


class Kind(NamedTuple):
    """A kind of mistake.

    Args:
        name: in tables.
        meaning: in a few words.
        caption: of one mistake, with the classes ``{true}`` and ``{predicted}``.
        title: of what to do about it, as an order.
        advice: how to go about it.
    """

    name: str
    meaning: str
    caption: str
    title: str
    advice: str

    def advice_with(self, settings: Mapping[str, float | None]) -> str:
        """The advice for a run with these settings; see :func:`detr_d2.evaluation.report.run_config.run_settings`."""
        has_room = (settings.get("overlap_threshold") or 0.0) < HIGHEST_OVERLAP
        coarse = settings.get("mask_stride") or 1
        stride = f"train with whole masks (INPUT.MASK_STRIDE is {coarse:g}: set 1), " if coarse > 1 else ""
        return self.advice.replace("{overlap}", _HIGHER_OVERLAP if has_room else "").replace("{stride}", stride)


LOOSE_BORDERS = "loose_borders"
#: In the order in which they are looked for; the last is of segments that are found.
KINDS = {
    "wrong_class": Kind(
        "wrong class",
        "cut right (IoU above 0.5), but called something else",
        "{true}, called {predicted}",
        "Tell classes apart that are confused",
        "Check that both are labelled in the same way everywhere; merge classes that people can't tell apart either; "
        "else add images in which both are.",
    ),
    "split": Kind(
        "split",
        "two or more predicted segments that together would be right for one true one",
        "{true}, in parts",
        "Stop segments from falling into parts",
        "Large, long or half-hidden ones do. {overlap}Look whether labels, too, have them as several.",
    ),
    "merged": Kind(
        "merged",
        "one predicted segment over several true ones of its class",
        "{true}, merged",
        "Separate neighbours",
        "Look for labels in which one outline holds several objects, and for stacks: label them one by one, or as a "
        "crowd.",
    ),
    "poorly_cut": Kind(
        "poorly cut",
        "the right class at the right place, but an IoU of 0.5 or less",
        "{true}, poorly cut",
        "Cut segments better",
        "Train the masks longer, or at a larger input size; look whether their labels agree on where they end.",
    ),
    "duplicate": Kind(
        "duplicate",
        "a further segment on an object that another one stands for already",
        "second {predicted}",
        "Stop second segments of one object",
        "Several queries share an object, each with a part or a rim of it. {overlap}More training tells them apart.",
    ),
    "on_void": Kind(
        "on void",
        "predicted with its largest part where nobody labelled anything",
        "{predicted} on void",
        "Label what the model finds on void",
        "Nobody labelled anything there. If the examples look right, the ground truth is incomplete, not the model "
        "wrong.",
    ),
    "made_up": Kind(
        "made up",
        "predicted over other things, with nothing of its class to match",
        "{predicted}, made up",
        "Stop segments that are made up",
        "Look at the examples first: what looks right there is a label that somebody forgot.",
    ),
    "missed": Kind(
        "missed",
        "a true segment with no predicted one of its class that could be meant for it",
        "{true}, missed",
        "Find what is missed",
        "Look whether these are small, hidden or rare in training; more labelled images of them help most.",
    ),
    LOOSE_BORDERS: Kind(
        "loose borders",
        "found, with an IoU between 0.5 and 1: what SQ lacks",
        "{true}, cut loosely",
        "Sharpen the borders",
        "What helps: train the mask head longer (stage 2), {stride}use a larger input in training and evaluation "
        "(INPUT.MIN_SIZE_TRAIN, MIN_SIZE_TEST), and look at the labels ('detr-d2 browse'): outlines drawn with few "
        "points, or beside the edge, teach loose borders.",
    ),
}


@dataclass(frozen=True)
class Mistake:
    """One mistake: which segments it is made of, and the fix.

    Args:
        kind: one of ``KINDS``.
        true_ids, predicted_ids: the segments it explains; a match that takes part isn't among them.
        changes: of the counts, if it were fixed.
        usual: how many of the new true positives have the IoU that the matches of the class usually have; it isn't in
            ``changes``, as it is known only when all images have been seen.
    """

    kind: str
    true_ids: tuple[int, ...]
    predicted_ids: tuple[int, ...]
    changes: tuple[Count, ...]
    usual: int = 0


def find_mistakes(image: ComparedImage) -> list[Mistake]:
    """Each segment of an image that is wrong or missed, in exactly one mistake; and "loose_borders" for every match.

    * ``wrong_class``: a predicted and a true segment of different classes with an IoU above 0.5. Fix: the predicted
      one gets the true class, and its own IoU.
    * ``split``: a true segment that wasn't found, though two or more wrong predicted segments of its class that lie
      mostly on it together have an IoU above 0.5. Fix: they become one.
    * ``merged``: true segments that weren't found, each mostly under a predicted one of their class that either is
      right for another true segment, or is wrong and covers two or more of them. Fix: the predicted one is cut along
      their borders, and each gets what covers it; a match loses the pixels of those that it had swallowed.
    * ``poorly_cut``: a wrong predicted segment and a true one of its class that wasn't found, with an IoU above 0.1,
      or the predicted one mostly on the true one; pairs with the largest IoU first. Fix: it is cut as well as the
      matches of the class usually are.
    * ``duplicate``: a wrong predicted segment that lies, with its largest part, on a true one of its class which is
      found already, or belongs to one of the mistakes above. Fix: it is gone.
    * ``on_void``: a wrong predicted segment whose largest part is void, where nobody labelled anything. Fix: it is
      gone. Those that are void for more than half aren't wrong to panoptic quality; they are in ``Matching.ignored``.
    * ``made_up``: every other wrong predicted segment. Fix: it is gone.
    * ``missed``: every other true segment that wasn't found. Fix: it is found, and cut as well as the matches of the
      class usually are.
    * ``loose_borders``: every match. Fix: its IoU is 1.
    """
    return _Search(image).run()


class _Search:
    """An image's segments that still have to be explained, and the mistakes found so far."""

    def __init__(self, image: ComparedImage) -> None:
        self.image, self.overlaps, self.matches = image, image.overlaps, image.matching.matches
        #: In the order of the ids, so that the same mistakes are found whatever the order of the files.
        self.wrong, self.lost = sorted(image.matching.wrong), sorted(image.matching.missed)
        self.taken = {true_id for true_id, _ in self.matches.values()}
        self.mistakes: list[Mistake] = []

    def run(self) -> list[Mistake]:
        for search in (self._wrong_class, self._split, self._merged, self._poorly_cut, self._rest, self._borders):
            for mistake in search():
                self._note(mistake)
        return self.mistakes

    def _note(self, mistake: Mistake) -> None:
        self.mistakes.append(mistake)
        self.wrong = [i for i in self.wrong if i not in mistake.predicted_ids]
        self.lost = [i for i in self.lost if i not in mistake.true_ids]
        self.taken = self.taken | set(mistake.true_ids)

    def _wrong_class(self) -> Iterator[Mistake]:
        image, lost = self.image, set(self.lost)
        for true_id, predicted_id in sorted(self.overlaps.pairs):
            if true_id in lost and predicted_id != VOID:
                iou = self.overlaps.iou(true_id, predicted_id)
                if iou > MATCH_IOU:  # of different classes, or it would be a match
                    found = Count(image.true_class[true_id], iou, true_positives=1, false_negatives=-1)
                    counted = predicted_id in self.wrong
                    freed = Count(image.predicted_class[predicted_id], false_positives=-int(counted))
                    yield Mistake("wrong_class", (true_id,), (predicted_id,), (found, freed))

    def _split(self) -> Iterator[Mistake]:
        for true_id in self.lost:
            label = self.image.true_class[true_id]
            parts = tuple(i for i in self._wrong_of(label) if self.overlaps.mostly_on(i, true_id))
            iou = self.overlaps.iou(true_id, *parts)
            if len(parts) >= 2 and iou > MATCH_IOU:
                yield Mistake("split", (true_id,), parts, (Count(label, iou, 1, -len(parts), -1),))

    def _merged(self) -> Iterator[Mistake]:
        overlaps = self.overlaps
        for predicted_id, label in sorted(self.image.predicted_class.items()):
            covered = tuple(i for i in self._lost_of(label) if overlaps.mostly_under(i, predicted_id))
            match = self.matches.get(predicted_id)
            if len(covered) >= (2 if match is None else 1) and (match or predicted_id in self.wrong):
                gained = sum(overlaps.pixels(i, predicted_id) / overlaps.true_areas[i] for i in covered)
                if match is not None:
                    gained += self._without(predicted_id, match[0], covered) - match[1]
                own = () if match else (predicted_id,)
                change = Count(label, gained, len(covered), -len(own), -len(covered))
                yield Mistake("merged", covered, own, (change,))

    def _without(self, predicted_id: int, true_id: int, covered: tuple[int, ...]) -> float:
        """IoU of a match once the predicted segment has lost the pixels of others."""
        overlaps = self.overlaps
        shared = overlaps.pixels(true_id, predicted_id)
        lost = sum(overlaps.pixels(i, predicted_id) for i in covered)
        return shared / (overlaps.counted_area(predicted_id) - lost + overlaps.true_areas[true_id] - shared)

    def _poorly_cut(self) -> Iterator[Mistake]:
        pairs = []
        for true_id in self.lost:
            for predicted_id in self._wrong_of(self.image.true_class[true_id]):
                iou = self.overlaps.iou(true_id, predicted_id)
                if iou > LEAST_IOU or self.overlaps.mostly_on(predicted_id, true_id):
                    pairs.append((-iou, true_id, predicted_id))
        for _, true_id, predicted_id in sorted(pairs):
            if true_id in self.lost and predicted_id in self.wrong:
                change = Count(self.image.true_class[true_id], 0.0, 1, -1, -1)
                yield Mistake("poorly_cut", (true_id,), (predicted_id,), (change,), usual=1)

    def _rest(self) -> Iterator[Mistake]:
        image = self.image
        for predicted_id in self.wrong:
            label, home = image.predicted_class[predicted_id], self.overlaps.home(predicted_id)
            kind = "on_void" if home == VOID else "made_up"
            if home in self.taken and image.true_class[home] == label:
                kind = "duplicate"
            yield Mistake(kind, (), (predicted_id,), (Count(label, false_positives=-1),))
        for true_id in self.lost:
            change = Count(image.true_class[true_id], true_positives=1, false_negatives=-1)
            yield Mistake("missed", (true_id,), (), (change,), usual=1)

    def _borders(self) -> Iterator[Mistake]:
        for predicted_id, (true_id, iou) in self.matches.items():
            change = Count(self.image.true_class[true_id], 1 - iou)
            yield Mistake(LOOSE_BORDERS, (true_id,), (predicted_id,), (change,))

    def _wrong_of(self, label: int) -> list[int]:
        return [i for i in self.wrong if self.image.predicted_class[i] == label]

    def _lost_of(self, label: int) -> list[int]:
        return [i for i in self.lost if self.image.true_class[i] == label]


class Gain(NamedTuple):
    """What fixing one kind of mistake gives back, in percentage points of PQ: for All, Things, Stuff and (K,) classes.

    NaN where there is nothing to judge.
    """

    groups: dict[str, float]
    classes: np.ndarray


class MistakeTally:
    """Sums up the mistakes of all images.

    Args:
        num_classes: contiguous class ids are 0 ... num_classes - 1.
    """

    def __init__(self, num_classes: int) -> None:
        #: Mistakes of each kind, by class (the true one where there is one, else the predicted one).
        self.of_class = {kind: np.zeros(num_classes, np.int64) for kind in KINDS}
        #: (true class, predicted class) of each "wrong_class"; class of each predicted segment that is mostly void.
        self.confusions: Counter[tuple[int, int]] = Counter()
        self.ignored = np.zeros(num_classes, np.int64)
        #: What the fix of each kind adds to the counts, and how many new matches it adds of the class's usual IoU.
        self._changes = {kind: PanopticQuality(num_classes, keep_images=False) for kind in KINDS}
        self._usual = {kind: np.zeros(num_classes) for kind in KINDS}

    def add(self, mistakes: Iterable[Mistake], image: ComparedImage) -> None:
        """Add an image and its mistakes."""
        for mistake in mistakes:
            label = mistake.changes[0].label
            self.of_class[mistake.kind][label] += 1
            if mistake.kind == "wrong_class":
                self.confusions[label, image.predicted_class[mistake.predicted_ids[0]]] += 1
            self._changes[mistake.kind].add(mistake.changes)
            self._usual[mistake.kind][label] += mistake.usual
        for predicted_id in image.matching.ignored:
            self.ignored[image.predicted_class[predicted_id]] += 1

    def fixed(self, quality: PanopticQuality, kind: str) -> PanopticQuality:
        """The counts as they would be without one kind of mistake.

        A segment that is found by the fix, but has no IoU of its own, gets the mean IoU of its class's matches; the
        mean of all matches where the class has none, and 1 where there is no match at all.
        """
        change = self._changes[kind].totals.copy()
        change[IOU] += self._usual[kind] * quality.usual_iou()
        return quality.changed(change)

    def gain(self, quality: PanopticQuality, kind: str, is_thing: Sequence[bool]) -> Gain:
        """PQ with one kind fixed, less PQ as it is.

        A class that is left with nothing to judge, as all there was of it was predicted wrongly, leaves the means.
        """
        fixed = self.fixed(quality, kind)
        before, after = group_means(quality, is_thing), group_means(fixed, is_thing)
        was, now = (class_qualities(counts.totals)[:, 0] for counts in (quality, fixed))
        gone = np.isnan(now) & ~np.isnan(was)
        return Gain(
            {name: 100 * (after[name].pq - before[name].pq) for name in before}, 100 * np.where(gone, 0.0, now - was)
        )
