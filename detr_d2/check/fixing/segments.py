"""Mending the segments of a panoptic JSON: each with an id of the PNG, its area and its box."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from detr_d2.data.coco_json import MAX_SEGMENT_ID

from ..boxes import Place, box_faults
from ..faults import shown
from ..pngs import MOST_SEGMENTS, Box, areas_and_boxes
from ..values import is_number, is_whole
from .changes import Change, mended, removed
from .pictures import Incurable, Size
from .pngs import Png
from .values import as_whole


class SegmentMatcher:
    """Brings the segments of a picture and its PNG together.

    Args:
        png: its ids are changed: pixels of no segment become void.
        file: the JSON.
        image_id: of the picture.

    Raises:
        Incurable: the PNG has more ids than there can be segments.
    """

    def __init__(self, png: Png, file: str, image_id: Any) -> None:
        self._png, self._file, self._image_id = png, file, image_id
        measured = areas_and_boxes(png.ids)
        if measured is None:
            raise Incurable("png-mode", f"has more than {MOST_SEGMENTS} ids: it shows something else")
        self._measured = measured
        self.changes: list[Change] = []

    def match(self, segments: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """The segments that have pixels, with the areas and boxes of these."""
        kept: dict[int, dict[str, Any]] = {}
        lost: list[dict[str, Any]] = []
        for segment in segments:
            segment_id = as_whole(segment.get("id"))
            if segment_id is None or not 1 <= segment_id <= MAX_SEGMENT_ID:
                lost.append(segment)
            elif segment_id in kept:
                self._remove("id-duplicate", segment, "is there already")
            elif segment_id not in self._measured:
                self._remove("png-absent", segment, "has no pixel in the PNG")
            else:
                if not is_whole(segment.get("id")):
                    self._mend("id-type", segment_id, f"id {shown(segment.get('id'))} is {segment_id} now")
                kept[segment_id] = {**segment, "id": segment_id}
        for segment in lost:
            self._find(segment, kept)
        unlisted = sorted(self._measured.keys() - kept.keys())
        if unlisted:
            self._png.ids = np.where(np.isin(self._png.ids, unlisted), 0, self._png.ids)
            self._png.code = self._png.code or "png-unlisted"
        for segment_id in unlisted:
            pixels = self._measured[segment_id][0]
            done = f"{pixels} pixels of an id that the JSON doesn't list are void now"
            self.changes.append(removed("png-unlisted", self._png.path, done, self._image_id, segment_id))
        return [self._measured_segment(segment) for segment in kept.values()]

    def _find(self, segment: dict[str, Any], kept_: dict[int, dict[str, Any]]) -> None:
        """Give a segment without a right id the one of the pixels with just its box and area."""
        code = "id-range" if is_whole(segment.get("id")) else "id-type"
        known = (segment.get("area"), segment.get("bbox"))
        alike = [
            segment_id
            for segment_id, (area, box) in self._measured.items()
            if segment_id not in kept_ and known == (area, list(box))
        ]
        if len(alike) == 1:
            kept_[alike[0]] = {**segment, "id": alike[0]}
            done = f"id {shown(segment.get('id'))} is {alike[0]} now: the PNG has its box and area there"
            self._mend(code, alike[0], done)
        else:
            self._remove(code, segment, f"has id={shown(segment.get('id'))}, and no pixels that are surely its")

    def _measured_segment(self, segment: dict[str, Any]) -> dict[str, Any]:
        pixels, box = self._measured[segment["id"]]
        result = {**segment, "area": pixels}
        area = segment.get("area")
        if not is_whole(area) or area != pixels:
            self._mend(_area_code(area, "area" in segment), segment["id"], f"area {shown(area)} is {pixels} now")
        place = Place(self._file, self._image_id, segment["id"], "segment")
        wrong = [fault.code for fault in box_faults(segment, *self._png.size, place)] if "bbox" in segment else []
        if "bbox" in segment and (code := [*wrong, _box_code(segment["bbox"], box)][0]):
            result["bbox"] = list(box)
            self._mend(code, segment["id"], f"bbox {shown(segment['bbox'])} is {list(box)} now")
        return result

    def _mend(self, code: str, segment_id: int, done: str) -> None:
        self.changes.append(mended(code, self._file, done, self._image_id, segment_id))

    def _remove(self, code: str, segment: dict[str, Any], why: str) -> None:
        self.changes.append(removed(code, self._file, f"the segment {why}", self._image_id, segment.get("id")))


def _area_code(area: Any, is_there: bool) -> str:
    if not is_there:
        return "area-missing"
    if not is_number(area) or area <= 0:
        return "area"
    return "area-stale" if area != int(area) or is_whole(area) else "area-fraction"


def _box_code(said: Any, found: Box) -> str:
    """Which fault a box has, or an empty text."""
    if not isinstance(said, list) or len(said) != 4 or not all(map(is_number, said)):
        return "box"
    if min(said[2:]) <= 0:
        return "box-empty"
    corners = [(x, y, x + w, y + h) for x, y, w, h in (said, found)]
    difference = max(abs(one - other) for one, other in zip(*corners))
    return "" if difference < 1 - 1e-6 else "box-off" if difference <= 2 else "box-stale"


def json_only_segments(
    segments: Sequence[dict[str, Any]], size: Size, file: str, image_id: Any
) -> Iterator[dict[str, Any] | Change]:
    """Segments whose PNG isn't known: ids and fields by themselves, followed by what was changed of them."""
    seen: set[int] = set()
    for segment in segments:
        segment_id = as_whole(segment.get("id"))
        if segment_id is None or not 1 <= segment_id <= MAX_SEGMENT_ID or segment_id in seen:
            code = "id-duplicate" if segment_id in seen else "id-range" if is_whole(segment.get("id")) else "id-type"
            yield removed(code, file, f"the segment has id={shown(segment.get('id'))}", image_id, segment.get("id"))
            continue
        seen.add(segment_id)
        if not is_whole(segment["id"]):
            yield mended("id-type", file, f"id {shown(segment['id'])} is {segment_id} now", image_id, segment_id)
        result = {**segment, "id": segment_id}
        yield from _json_only_area(result, file, image_id)
        yield from _json_only_box(result, size, file, image_id)
        yield result


def _json_only_area(segment_: dict[str, Any], file: str, image_id: Any) -> Iterator[Change]:
    area = segment_.get("area")
    if "area" not in segment_ or (is_whole(area) and is_number(area) and area > 0):
        return
    if is_number(area) and area >= 0.5:
        segment_["area"] = round(area)
        yield mended("area-fraction", file, f"area {area} is {round(area)} now", image_id, segment_["id"])
        return
    del segment_["area"]
    yield removed("area", file, f"the area {shown(area)}; without the PNG nobody can count", image_id, segment_["id"])


def _json_only_box(segment_: dict[str, Any], size: Size, file: str, image_id: Any) -> Iterator[Change]:
    if "bbox" not in segment_:
        return
    box, code = segment_["bbox"], _box_code(segment_["bbox"], (0, 0, 0, 0))
    if code not in ("box", "box-empty"):
        x, y, w, h = box
        left, top, right, bottom = max(x, 0), max(y, 0), min(x + w, size[0]), min(y + h, size[1])
        if left < right and top < bottom:
            if max(left - x, top - y, x + w - right, y + h - bottom) > 1:
                segment_["bbox"] = [left, top, right - left, bottom - top]
                done = f"bbox {shown(box)} is {segment_['bbox']} now"
                yield mended("box-beyond", file, done, image_id, segment_["id"])
            return
        code = "box-outside"
    del segment_["bbox"]
    yield removed(code, file, f"the box {shown(box)}; training takes the PNG's", image_id, segment_["id"])
