"""Rules of labels by themselves: their ids, whose they are, crowds, and the segments of panoptic files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from ..values import MAX_SEGMENT_ID, as_flag, as_whole, free_ids, is_whole, numbered, same, shown
from .boxes import Extent, Size, area_rules, box_rules
from .categories import Categories
from .images import Images
from .rule import Done, Finding, Fix, Place, fixing, setting


def is_crowd(label: dict[str, Any]) -> bool:
    """Whether it is said to be a crowd, in whatever form."""
    return label.get("iscrowd", 0) in (1, True)


class AnnotationIds:
    """Ids of COCO instances, each of which may come once.

    Args:
        entries: of ``annotations``; what isn't an object is passed by.
    """

    def __init__(self, entries: Sequence[Any]) -> None:
        self._first: dict[int, dict[str, Any]] = {}
        self._free_ids = free_ids(entry for _, entry in numbered(list(entries)))

    def rules(self, label: dict[str, Any], place: Place) -> Iterator[Finding]:
        """Findings about the id of one annotation, which is taken then."""
        value = label.get("id")
        if not is_whole(value):
            whole = as_whole(value)
            is_free = whole is not None and whole not in self._first
            fix = setting(label, "id", whole) if is_free else self._renumbering(label)
            yield place.found("id-type", f"has id={shown(value)}.", fix)
        if is_whole(label.get("id")) and label["id"] in self._first:
            message = "has the id of an earlier annotation."
            yield place.found("id-duplicate", message, self._renumbering(label))

    def add(self, label: dict[str, Any], original: dict[str, Any]) -> None:
        """Take the id of an annotation that has been looked at."""
        if is_whole(label.get("id")):
            self._first.setdefault(label["id"], original)

    def _renumbering(self, label: dict[str, Any]) -> Fix:
        def apply() -> Done:
            number = as_whole(label.get("id"))
            if number is not None and number in self._first and same(self._first[number], label):
                return Done("removed", "repeats an earlier annotation", is_gone=True)
            return setting(label, "id", next(self._free_ids))()

        return apply


def image_of_rules(label: dict[str, Any], images: Images, place: Place) -> Iterator[Finding]:
    """Findings about ``image_id``."""
    value = label.get("image_id")
    if not images.is_listed(value):
        meant = images.id_of(value)
        fix = setting(label, "image_id", meant) if meant is not None else None
        yield place.found("image-unknown", f"has image_id={shown(value)}, which images lacks.", fix)


def category_of_rules(label: dict[str, Any], categories: Categories, place: Place) -> Iterator[Finding]:
    """Findings about ``category_id``."""
    value = label.get("category_id")
    if categories.unclear and not isinstance(value, bool) and as_whole(value) in categories.unclear:
        yield place.found("id-duplicate", f"has category_id={shown(value)}, the id of several categories.")
    elif not is_whole(value):
        meant = categories.id_of(value)
        fix = setting(label, "category_id", meant) if meant is not None else None
        yield place.found("category-id", f"has category_id={shown(value)}.", fix)
    elif value not in categories.ids:
        yield place.found("category-unknown", f"has category_id={shown(value)}, which categories lacks.")


def crowd_rules(label: dict[str, Any], place: Place) -> Iterator[Finding]:
    """Findings about ``iscrowd``, and crowds themselves."""
    crowd = label.get("iscrowd", 0)
    if not is_whole(crowd) or crowd not in (0, 1):
        flag = as_flag(crowd)
        fix = setting(label, "iscrowd", int(bool(crowd)) if flag is None else flag)
        yield place.found("crowd-value", f"has iscrowd={shown(crowd)}.", fix)
    elif crowd:
        yield place.found("crowd", "is a crowd.")


def crowd_only_rules(labels: Sequence[dict[str, Any]], names: Mapping[int, Any], file: str) -> Iterator[Finding]:
    """Categories of which CVAT wrote crowds only: its brush masks, which every loader drops."""
    of_category = [label for label in labels if is_whole(label.get("category_id"))]
    crowds = Counter(label["category_id"] for label in of_category if is_crowd(label))
    if not crowds or not any(_is_of_cvat(label) for label in labels):
        return
    total = Counter(label["category_id"] for label in of_category)
    for category_id, count in sorted(crowds.items()):
        if count == total[category_id]:
            name = shown(names.get(category_id, category_id))
            message = f"all {count} annotations of the category {name} are crowds: nothing of it would be learnt."
            yield Place(file).found("crowd-only", message, _clearing(of_category, category_id, name))


def _is_of_cvat(label: dict[str, Any]) -> bool:
    attributes = label.get("attributes")
    return isinstance(attributes, dict) and "occluded" in attributes


def _clearing(labels_: Sequence[dict[str, Any]], category_id: int, name: str) -> Fix:
    brushed = [label for label in labels_ if label["category_id"] == category_id]
    text = f"{len(brushed)} brush masks of {name} aren't crowds any more"
    return fixing(text, lambda: [label.update(iscrowd=0) for label in brushed])


def unlabelled_rules(listed: Collection[Any], labelled: Collection[Any], file: str) -> Iterator[Finding]:
    """One finding for all images without a label; both are ids."""
    without = [image_id for image_id in listed if image_id not in labelled]
    if without:
        named = ", ".join(shown(image_id) for image_id in without[:5]) + (", ..." if len(without) > 5 else "")
        message = f"{len(without)} of {len(listed)} images have no annotation: image id {named}."
        yield Place(file, without[0] if len(without) == 1 else None).found("image-unlabelled", message)


def segment_id_rules(
    segment: dict[str, Any], taken: set[int], place: Place, extents: Mapping[int, Extent] | None = None
) -> Iterator[Finding]:
    """Findings about the id of one segment.

    Args:
        segment: of a panoptic JSON.
        taken: ids of earlier segments of its image.
        place: of the segment.
        extents: what its PNG has, where that is known; for the fix.
    """
    value = segment.get("id")
    if not is_whole(value):
        yield place.found("id-type", f"has id={shown(value)}.", _id_fix(segment, taken, extents))
    elif not 1 <= value <= MAX_SEGMENT_ID:
        yield place.found("id-range", f"has id={shown(value)}.", _id_fix(segment, taken, extents))
    if is_usable(segment.get("id")) and segment["id"] in taken:
        yield place.found("id-duplicate", "has the id of an earlier segment of its image.")


def is_usable(segment_id: Any) -> bool:
    """Whether a PNG can have pixels of an id."""
    return is_whole(segment_id) and 1 <= segment_id <= MAX_SEGMENT_ID


def _id_fix(segment: dict[str, Any], taken: set[int], extents: Mapping[int, Extent] | None) -> Fix | None:
    """The id that was meant: as it is written, or that of the pixels with just its box and area."""
    whole = as_whole(segment.get("id"))
    if is_usable(whole):
        return setting(segment, "id", whole)
    known = (segment.get("area"), segment.get("bbox"))
    alike = [each for each, extent in (extents or {}).items() if (extent.pixels, list(extent.box)) == known]
    alike = [each for each in alike if each not in taken]
    return setting(segment, "id", alike[0]) if len(alike) == 1 else None


def geometry_rules(segment: dict[str, Any], size: Size, place: Place, extent: Extent | None) -> Iterator[Finding]:
    """Findings about the area and the box of a segment by themselves; nothing needs the box: boxes are the PNG's."""
    yield from area_rules(segment, place, extent, is_counted=True)
    if "bbox" in segment:
        yield from box_rules(segment, size, place, extent, may_lack=True)
