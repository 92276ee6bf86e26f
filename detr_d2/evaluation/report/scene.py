"""One picture's true and predicted segments and how they overlap: what the analysis of errors looks at."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from detr_d2.evaluation.overlaps import VOID


@dataclass(frozen=True)
class Scene:
    """One picture as panoptic quality sees it.

    Args:
        true_class: class of each true segment, by its id; crowds are apart.
        crowd_class: class of each crowd.
        predicted_class: class of each predicted segment.
        pixels: of each pair (true id, predicted id) that meets, 0 being void on either side.
    """

    true_class: Mapping[int, int]
    crowd_class: Mapping[int, int]
    predicted_class: Mapping[int, int]
    pixels: Mapping[tuple[int, int], int]
    true_areas: dict[int, int] = field(init=False)
    predicted_areas: dict[int, int] = field(init=False)
    on: dict[int, dict[int, int]] = field(init=False)
    under: dict[int, dict[int, int]] = field(init=False)

    def __post_init__(self) -> None:
        true_areas: dict[int, int] = defaultdict(int)
        predicted_areas: dict[int, int] = defaultdict(int)
        on: dict[int, dict[int, int]] = defaultdict(dict)
        under: dict[int, dict[int, int]] = defaultdict(dict)
        for (true_id, predicted_id), count in self.pixels.items():
            true_areas[true_id] += count
            predicted_areas[predicted_id] += count
            on[predicted_id][true_id] = count
            under[true_id][predicted_id] = count
        for name, value in (("true_areas", true_areas), ("predicted_areas", predicted_areas), ("on", on)):
            object.__setattr__(self, name, value)
        object.__setattr__(self, "under", under)

    def overlap(self, true_id: int, predicted_id: int) -> int:
        """Pixels that are of both segments."""
        return self.pixels.get((true_id, predicted_id), 0)

    def counted_area(self, predicted_id: int) -> int:
        """A predicted segment's pixels that aren't void in the truth."""
        return self.predicted_areas[predicted_id] - self.overlap(VOID, predicted_id)

    def iou(self, true_id: int, predicted_ids: Iterable[int]) -> float:
        """IoU of a true segment with the union of predicted ones; void pixels don't count, classes don't either."""
        ids = list(predicted_ids)
        shared = sum(self.overlap(true_id, predicted_id) for predicted_id in ids)
        areas = sum(self.counted_area(predicted_id) for predicted_id in ids) + self.true_areas[true_id]
        return shared / (areas - shared) if shared else 0.0

    def home(self, predicted_id: int) -> int:
        """The true id, perhaps void, that has the largest part of a predicted segment; the lowest one of equals."""
        return min(self.on[predicted_id].items(), key=lambda item: (-item[1], item[0]))[0]

    def mostly_on(self, predicted_id: int, true_id: int) -> bool:
        """More than half of a predicted segment, void not counted, lies on a true one."""
        return 2 * self.overlap(true_id, predicted_id) > self.counted_area(predicted_id)

    def mostly_under(self, true_id: int, predicted_id: int) -> bool:
        """More than half of a true segment is covered by a predicted one."""
        return 2 * self.overlap(true_id, predicted_id) > self.true_areas[true_id]

    def is_ignored(self, predicted_id: int) -> bool:
        """More than half of a predicted segment is void, or void and crowd of its class: unmatched, it costs nothing.

        Of several crowds of a class only the last counts, as in panopticapi.
        """
        crowd_of_class = {label: crowd_id for crowd_id, label in self.crowd_class.items()}
        crowd_id = crowd_of_class.get(self.predicted_class[predicted_id], -1)
        ignored = self.overlap(VOID, predicted_id) + self.overlap(crowd_id, predicted_id)
        return ignored / self.predicted_areas[predicted_id] > 0.5
