"""Rules of boxes and areas, by themselves and against the pixels that they are of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ..values import is_number, is_whole, shown
from .rule import Finding, Fix, Place, dropping, setting

#: width, height
Size = tuple[int, int]
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


def box_rules(
    label: dict[str, Any], size: Size, place: Place, extent: Extent | None = None, may_lack: bool = False
) -> Iterator[Finding]:
    """Findings about ``bbox`` by itself.

    Args:
        label: an annotation or a segment.
        size: of its image; 0 and 0: not known.
        place: of the label.
        extent: of its pixels, where they are known: what they say is right.
        may_lack: a wrong box may go, and the label stay: a segment's pixels are the PNG's.
    """
    box, (width, height) = label.get("bbox"), size
    is_box = isinstance(box, list) and len(box) == 4 and all(map(is_number, box))
    x, y, w, h = box if box is not None and is_box else (0, 0, 0, 0)
    if w > 0 and h > 0 and (not width or (x >= 0 and y >= 0 and x + w <= width and y + h <= height)):
        return
    fix: Fix | None = dropping(label, "bbox", "training takes the PNG's") if may_lack else None
    if extent is not None:
        fix = setting(label, "bbox", list(extent.box))
    if not is_box:
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


def area_rules(
    label: dict[str, Any], place: Place, extent: Extent | None = None, is_counted: bool = False
) -> Iterator[Finding]:
    """Findings about ``area`` by itself.

    Args:
        label: an annotation or a segment; an annotation's box is right.
        place: of the label.
        extent: of its pixels, where they are known.
        is_counted: the area is that of the pixels of a PNG, a whole number, and may be missing.
    """
    fix: Fix | None = lambda: setting(label, "area", label["bbox"][2] * label["bbox"][3])()  # noqa: E731
    if extent is not None:
        fix = setting(label, "area", extent.pixels)
    elif is_counted:
        fix = dropping(label, "area", "without the PNG nobody can count") if "area" in label else None
    if "area" not in label:
        yield place.found("area-missing", "has no area.", fix)
        return
    area = label["area"]
    if not is_number(area) or area <= 0:
        yield place.found("area", f"has area={shown(area)}.", fix)
    elif is_counted and not is_whole(area):
        if extent is None and area >= 0.5:
            fix = setting(label, "area", round(area))
        yield place.found("area-fraction", f"has area={shown(area)}.", fix)


def extent_rules(label: dict[str, Any], extent: Extent, place: Place) -> Iterator[Finding]:
    """Findings about an area and a box that are of something else than the pixels.

    A pixel or two are a matter of counting, or of rounding polygons; more, and the box is of something else.
    """
    area = label.get("area")
    if is_number(area) and area > 0 and all(abs(area - count) > extent.slack for count in extent.counts):
        message = f"has area={area:g}; its {extent.what} has {extent.pixels} pixels."
        yield place.found("area-stale", message, setting(label, "area", extent.pixels))
    said = label.get("bbox")
    if not isinstance(said, list) or len(said) != 4 or not all(map(is_number, said)) or min(said[2:]) <= 0:
        return
    difference = _distance(said, extent.box)
    if extent.corners is not None:
        difference = min(difference, _distance(said, extent.corners))
    if difference < 1 - 1e-6:
        return
    message = f"has bbox={[round(side, 2) for side in said]}; its mask has {list(extent.box)}."
    fix = setting(label, "bbox", list(extent.box))
    if difference > 2:
        yield place.found("box-stale", message, fix)
    elif extent.corners is None:
        yield place.found("box-off", message, fix)


def _distance(one: Box, other: Box) -> float:
    """By how much the edges of two boxes differ, at most."""
    (x, y, w, h), (left, top, width, height) = one, other
    return max(abs(x - left), abs(y - top), abs(x + w - left - width), abs(y + h - top - height))


def area_sum_rules(segments: Sequence[dict[str, Any]], size: Size, place: Place) -> Iterator[Finding]:
    """Segments of one PNG that are more than their image; their areas are right by themselves."""
    areas = sum(segment["area"] for segment in segments if is_number(segment.get("area")))
    if size[0] and areas > size[0] * size[1]:
        message = f"has segments of {areas:.0f} pixels together; its image has {size[0] * size[1]}."
        yield place.found("area-sum", message)
