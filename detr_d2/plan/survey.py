"""What a dataset holds: images and their sizes, segments of each class, the fullest image."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from detr_d2.data import Category, categories_of
from detr_d2.data.registration import segments_of
from detr_d2.data.train_loader import classes_of
from detr_d2.errors import DatasetError

from detectron2.data import DatasetCatalog

from .rules import FEW_IMAGES


@dataclass(frozen=True)
class ClassCount:
    """How often a class is there, crowds left out.

    Args:
        name: of the class.
        is_thing: a thing, or stuff.
        segments, images: to train on, and how many images show one.
        validation_images: that show it.
    """

    name: str
    is_thing: bool
    segments: int
    images: int
    validation_images: int

    @property
    def is_rare(self) -> bool:
        """There are examples, and few."""
        return 0 < self.images <= FEW_IMAGES


@dataclass(frozen=True)
class Survey:
    """A dataset, counted.

    Args:
        name: of the dataset to train on, which is registered.
        validation: name of the one to evaluate on; empty: there is none.
        images, validation_images: how many.
        widths, heights: least, median and most, of the images to train on, in pixels.
        short_side: the median of the images' shorter sides.
        classes: by contiguous id.
        most_segments, mean_segments: of an image.
        fullest: the image with the most.
        is_panoptic: there are masks of things and stuff; else boxes.
    """

    name: str
    validation: str
    images: int
    validation_images: int
    widths: tuple[int, int, int]
    heights: tuple[int, int, int]
    short_side: int
    classes: tuple[ClassCount, ...]
    most_segments: int
    mean_segments: float
    fullest: str
    is_panoptic: bool

    @property
    def absent(self) -> list[str]:
        """Classes without an example to train on."""
        return [each.name for each in self.classes if not each.images]

    @property
    def rare(self) -> list[ClassCount]:
        """Classes with few examples, the rarest first."""
        return sorted((each for each in self.classes if each.is_rare), key=lambda each: each.images)

    @property
    def unseen(self) -> list[str]:
        """Classes that are trained on, and that no validation image shows."""
        return [each.name for each in self.classes if each.images and not each.validation_images]


def survey(name: str, validation: str = "") -> tuple[Survey, list[dict[str, Any]]]:
    """Counts a registered dataset; its labels are read once.

    Args:
        name: to train on.
        validation: to evaluate on, with the same categories; empty: none.

    Returns:
        The counts, and the dataset dicts to train on.

    Raises:
        DatasetError, MissingFileError: it can't be read, or nothing is labelled.
    """
    records = DatasetCatalog.get(name)
    others = DatasetCatalog.get(validation) if validation else []
    categories = categories_of(name)
    _refuse_other_classes(categories, validation)
    segments = [[one for one in segments_of(record) if not one.get("iscrowd", 0)] for record in records]
    counts = [len(each) for each in segments]
    if not any(counts):
        raise DatasetError(
            f"dataset {name!r}: none of its {len(records)} images has a segment, so there is nothing to plan for. "
            "Label some images, or name the dataset that is labelled; 'detr-d2 browse' shows what there is."
        )
    sizes = [(int(record["width"]), int(record["height"])) for record in records]
    fullest = max(range(len(records)), key=counts.__getitem__)
    found = Survey(
        name=name,
        validation=validation,
        images=len(records),
        validation_images=len(others),
        widths=_range([width for width, _ in sizes]),
        heights=_range([height for _, height in sizes]),
        short_side=round(statistics.median(map(min, sizes))),
        classes=_counted(categories, segments, others),
        most_segments=counts[fullest],
        mean_segments=statistics.fmean(counts),
        fullest=str(records[fullest]["file_name"]),
        is_panoptic="segments_info" in records[0],
    )
    return found, records


def _refuse_other_classes(categories: Sequence[Category], validation: str) -> None:
    """Raises a DatasetError where the validation set has other classes, which no training takes."""
    ours = [(category.name, category.is_thing) for category in categories]
    theirs = [(category.name, category.is_thing) for category in categories_of(validation)] if validation else ours
    if ours != theirs:
        differing = sorted({name for name, _ in set(ours) ^ set(theirs)}) or ["their order"]
        raise DatasetError(
            f"the validation set {validation!r} has other classes than the training set: {', '.join(differing[:5])}. "
            "Make both of one dataset, by 'detr-d2 prepare --val 0.1'."
        )


def _range(values: Sequence[int]) -> tuple[int, int, int]:
    return min(values), round(statistics.median(values)), max(values)


def _counted(
    categories: Sequence[Category], segments: Sequence[Sequence[dict[str, Any]]], others: Sequence[dict[str, Any]]
) -> tuple[ClassCount, ...]:
    of_segments = Counter(one["category_id"] for each in segments for one in each)
    of_images = Counter(number for each in segments for number in {one["category_id"] for one in each})
    elsewhere = Counter(number for record in others for number in classes_of(record))
    return tuple(
        ClassCount(category.name, category.is_thing, of_segments[i], of_images[i], elsewhere[i])
        for i, category in enumerate(categories)
    )
