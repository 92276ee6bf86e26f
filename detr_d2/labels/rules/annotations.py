"""Rules of labels: their ids, whose they are, crowds, the segments of panoptic files, and boxes and areas.

Boxes and areas are looked at by themselves, and against the pixels that they are of.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeGuard

from ..values import MAX_SEGMENT_ID, Size, as_flag, as_whole, free_ids, is_number, is_whole, numbered, same, shown
from .categories import Categories
from .images import Images
from .rule import Done, Finding, Fix, Place, dropping, fixing, setting

Entry = dict[str, Any]
#: x, y, width, height
Box = Sequence[float]
#: Pixels by which boxes and polygons may pass the image's edge: what tools round differently.
EDGE = 1.0


@dataclass(frozen=True)
class Extent:
    """What the pixels of an object say.

    Args:
        what: they are of, a mask or a PNG.
        pixels: how many.
        box: x, y, width, height of them.
        counts: numbers of pixels that its area may be near to.
        slack: by how much the area may differ from one of them.
        corners: box of the polygon's corners, which will do as well; None: the pixels are exact.
    """

    what: str
    pixels: int
    box: Box
    counts: Sequence[int]
    slack: float = 0.0
    corners: Box | None = None


def is_crowd(label: Entry) -> bool:
    """Whether it is said to be a crowd, in whatever form."""
    return label.get("iscrowd", 0) in (1, True)


class AnnotationIds:
    """Ids of COCO instances, each of which may come once; of entries, what isn't an object is passed by."""

    def __init__(self, entries: Sequence[Any]) -> None:
        self._first: dict[int, Entry] = {}
        self._free_ids = free_ids(entry for _, entry in numbered(list(entries)))

    def rules(self, label: Entry, place: Place) -> Iterator[Finding]:
        """Findings about the id of one annotation, which is taken then."""
        value = label.get("id")
        if not is_whole(value):
            whole = as_whole(value)
            is_free = whole is not None and whole not in self._first
            fix = setting(label, "id", whole) if is_free else partial(self._renumber, label)
            yield place.found("id-type", f"has id={shown(value)}.", fix)
        if is_whole(label.get("id")) and label["id"] in self._first:
            yield place.found("id-duplicate", "has the id of an earlier annotation.", partial(self._renumber, label))

    def add(self, label: Entry, original: Entry) -> None:
        """Take the id of an annotation that has been looked at."""
        if is_whole(label.get("id")):
            self._first.setdefault(label["id"], original)

    def _renumber(self, label: Entry) -> Done:
        number = as_whole(label.get("id"))
        if number is not None and number in self._first and same(self._first[number], label):
            return Done("removed", "repeats an earlier annotation", is_gone=True)
        return setting(label, "id", next(self._free_ids))()


def image_of_rules(label: Entry, images: Images, place: Place) -> Iterator[Finding]:
    """Findings about ``image_id``."""
    value = label.get("image_id")
    if not images.is_listed(value):
        meant = images.id_of(value)
        fix = setting(label, "image_id", meant) if meant is not None else None
        yield place.found("image-unknown", f"has image_id={shown(value)}, which images lacks.", fix)


def category_of_rules(label: Entry, categories: Categories, place: Place) -> Iterator[Finding]:
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


def crowd_rules(label: Entry, place: Place) -> Iterator[Finding]:
    """Findings about ``iscrowd``, and crowds themselves."""
    crowd = label.get("iscrowd", 0)
    if not is_whole(crowd) or crowd not in (0, 1):
        flag = as_flag(crowd)
        fix = setting(label, "iscrowd", int(bool(crowd)) if flag is None else flag)
        yield place.found("crowd-value", f"has iscrowd={shown(crowd)}.", fix)
    elif crowd:
        yield place.found("crowd", "is a crowd.")


def crowd_only_rules(labels: Sequence[Entry], names: Mapping[int, Any], file: str) -> Iterator[Finding]:
    """Categories of which CVAT wrote crowds only: its brush masks, which every loader drops."""
    of_category = [label for label in labels if is_whole(label.get("category_id"))]
    crowds = Counter(label["category_id"] for label in of_category if is_crowd(label))
    attributes = (label.get("attributes") for label in labels if crowds)
    if not any(isinstance(each, dict) and "occluded" in each for each in attributes):  # CVAT writes it
        return
    total = Counter(label["category_id"] for label in of_category)
    for category_id, count in sorted(crowds.items()):
        if count == total[category_id]:
            name = shown(names.get(category_id, category_id))
            message = f"all {count} annotations of the category {name} are crowds: nothing of it would be learnt."
            brushed = [label for label in of_category if label["category_id"] == category_id]
            text = f"{count} brush masks of {name} aren't crowds any more"
            yield Place(file).found("crowd-only", message, fixing(text, partial(_clear_crowds, brushed)))


def _clear_crowds(labels_: Iterable[Entry]) -> None:
    for label in labels_:
        label["iscrowd"] = 0


def unlabelled_rules(listed: Collection[Any], labelled: Collection[Any], file: str) -> Iterator[Finding]:
    """One finding for all images without a label; both are ids."""
    without = [image_id for image_id in listed if image_id not in labelled]
    if without:
        named = ", ".join(shown(image_id) for image_id in without[:5]) + (", ..." if len(without) > 5 else "")
        message = f"{len(without)} of {len(listed)} images have no annotation: image id {named}."
        yield Place(file, without[0] if len(without) == 1 else None).found("image-unlabelled", message)


def segment_id_rules(
    segment: Entry, taken: set[int], place: Place, extents: Mapping[int, Extent] | None = None
) -> Iterator[Finding]:
    """Findings about the id of one segment; ``taken`` are the earlier ones, ``extents`` of the PNG are for the fix."""
    value = segment.get("id")
    if not is_usable(value):
        code = "id-range" if is_whole(value) else "id-type"
        yield place.found(code, f"has id={shown(value)}.", _id_fix(segment, taken, extents))
    if is_usable(segment.get("id")) and segment["id"] in taken:
        yield place.found("id-duplicate", "has the id of an earlier segment of its image.")


def is_usable(segment_id: Any) -> bool:
    """Whether a PNG can have pixels of an id."""
    return is_whole(segment_id) and 1 <= segment_id <= MAX_SEGMENT_ID


def _id_fix(segment: Entry, taken: set[int], extents: Mapping[int, Extent] | None) -> Fix | None:
    """The id that was meant: as it is written, or that of the pixels with just its box and area."""
    whole = as_whole(segment.get("id"))
    if is_usable(whole):
        return setting(segment, "id", whole)
    known = (segment.get("area"), segment.get("bbox"))
    alike = [each for each, extent in (extents or {}).items() if (extent.pixels, list(extent.box)) == known]
    alike = [each for each in alike if each not in taken]
    return setting(segment, "id", alike[0]) if len(alike) == 1 else None


def geometry_rules(segment: Entry, size: Size, place: Place, extent: Extent | None) -> Iterator[Finding]:
    """Findings about the area and the box of a segment by themselves; nothing needs the box: boxes are the PNG's."""
    yield from area_rules(segment, place, extent, is_counted=True)
    if "bbox" in segment:
        yield from box_rules(segment, size, place, extent, may_lack=True)


def box_rules(
    label: Entry, size: Size, place: Place, extent: Extent | None = None, may_lack: bool = False
) -> Iterator[Finding]:
    """Findings about ``bbox`` by itself.

    Args:
        label, place: an annotation or a segment.
        size: of its image; 0 and 0: not known.
        extent: of its pixels, where they are known: what they say is right.
        may_lack: a wrong box may go, and the label stay: a segment's pixels are the PNG's.
    """
    box, (width, height) = label.get("bbox"), size
    x, y, w, h = box if _is_box(box) else (0, 0, 0, 0)
    if w > 0 and h > 0 and (not width or (x >= 0 and y >= 0 and x + w <= width and y + h <= height)):
        return
    fix: Fix | None = dropping(label, "bbox", "training takes the PNG's") if may_lack else None
    if extent is not None:
        fix = setting(label, "bbox", list(extent.box))
    if not _is_box(box):
        yield place.found("box", f"has bbox={shown(box)}.", fix)
    elif w <= 0 or h <= 0:
        yield place.found("box-empty", f"has bbox={shown(box)}, without an area.", fix)
    elif width and (x >= width or y >= height or x + w <= 0 or y + h <= 0):
        yield place.found("box-outside", f"has bbox={shown(box)}, outside its image of {width}x{height}.", fix)
    elif width and (x < -EDGE or y < -EDGE or x + w > width + EDGE or y + h > height + EDGE):
        left, top, right, bottom = max(x, 0), max(y, 0), min(x + w, width), min(y + h, height)
        cut = setting(label, "bbox", [left, top, right - left, bottom - top])
        message = f"has bbox={shown(box)}, beyond its image of {width}x{height}."
        yield place.found("box-beyond", message, cut if extent is None else fix)


def _is_box(value: Any) -> TypeGuard[list[float]]:
    return isinstance(value, list) and len(value) == 4 and all(map(is_number, value))


def area_rules(label: Entry, place: Place, extent: Extent | None = None, is_counted: bool = False) -> Iterator[Finding]:
    """Findings about ``area`` by itself.

    Args:
        label, place: an annotation, whose box is right, or a segment.
        extent: of its pixels, where they are known.
        is_counted: the area is that of the pixels of a PNG, a whole number, and may be missing.
    """
    area = label.get("area")
    if is_number(area) and area > 0 and (not is_counted or is_whole(area)):
        return
    fix: Fix | None = lambda: setting(label, "area", label["bbox"][2] * label["bbox"][3])()  # noqa: E731
    if extent is not None:
        fix = setting(label, "area", extent.pixels)
    elif is_counted:
        fix = dropping(label, "area", "without the PNG nobody can count") if "area" in label else None
    if "area" not in label:
        yield place.found("area-missing", "has no area.", fix)
    elif not is_number(area) or area <= 0:
        yield place.found("area", f"has area={shown(area)}.", fix)
    else:
        rounded = setting(label, "area", round(area)) if extent is None and area >= 0.5 else fix
        yield place.found("area-fraction", f"has area={shown(area)}.", rounded)


def extent_rules(label: Entry, extent: Extent, place: Place) -> Iterator[Finding]:
    """Findings about an area and a box that are of something else than the pixels.

    A pixel or two are a matter of counting, or of rounding polygons; more, and the box is of something else.
    """
    area, said = label.get("area"), label.get("bbox")
    if is_number(area) and area > 0 and all(abs(area - count) > extent.slack for count in extent.counts):
        message = f"has area={area:g}; its {extent.what} has {extent.pixels} pixels."
        yield place.found("area-stale", message, setting(label, "area", extent.pixels))
    if not _is_box(said) or min(said[2:]) <= 0:
        return
    difference = _distance(said, extent.box)
    if extent.corners is not None:
        difference = min(difference, _distance(said, extent.corners))
    if difference > 2 or (difference >= 1 - 1e-6 and extent.corners is None):
        message = f"has bbox={[round(side, 2) for side in said]}; its mask has {list(extent.box)}."
        fix = setting(label, "bbox", list(extent.box))
        yield place.found("box-stale" if difference > 2 else "box-off", message, fix)


def _distance(one: Box, other: Box) -> float:
    """By how much the edges of two boxes differ, at most."""
    (x, y, w, h), (left, top, width, height) = one, other
    return max(abs(x - left), abs(y - top), abs(x + w - left - width), abs(y + h - top - height))


def area_sum_rules(segments: Sequence[Entry], size: Size, place: Place) -> Iterator[Finding]:
    """Segments of one PNG that are more than their image; their areas are right by themselves."""
    areas = sum(segment["area"] for segment in segments if is_number(segment.get("area")))
    if size[0] and areas > size[0] * size[1]:
        message = f"has segments of {areas:.0f} pixels together; its image has {size[0] * size[1]}."
        yield place.found("area-sum", message)
