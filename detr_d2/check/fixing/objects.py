"""Mending annotations of COCO instances: masks that can be drawn, with their boxes and areas."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import shapely
from pycocotools import mask as coco_mask

from ..boxes import Place, area_faults, box_faults
from ..drawing import drawn_faults, runs_of
from ..faults import shown
from ..images import ListedPicture
from ..masks import mask_faults
from ..values import is_number, is_whole
from .changes import Change, mended, removed
from .pictures import Size

Entry = dict[str, Any]


def sizes_of_masks(annotations: Sequence[Entry]) -> set[Size]:
    """width, height of the run lengths; of several sizes that of most of them."""
    found: Counter[Size] = Counter()
    for entry in annotations:
        runs = entry.get("segmentation")
        size = runs.get("size") if isinstance(runs, dict) else None
        if isinstance(size, list) and len(size) == 2 and all(is_whole(side) and side > 0 for side in size):
            found[(size[1], size[0])] += 1
    most = found.most_common(2)
    return {size for size, count in most if count == most[0][1]}


class ObjectMender:
    """Mends the annotations of one picture, one after another.

    Args:
        file: their JSON.
        listed: the picture, with the size that it has in the copy.
    """

    def __init__(self, file: str, listed: ListedPicture) -> None:
        self._file, self._listed = file, listed
        self.changes: list[Change] = []

    def mend(self, original: Entry) -> Entry | None:
        """An annotation without an error, or None where too little of it is right."""
        entry, place = dict(original), self._place(original)
        codes = self._mask_codes(entry)
        if "rle-size" in codes:
            self._remove("rle-size", entry, f"has a mask of another size: {shown(entry['segmentation'].get('size'))}")
            return None
        if codes:
            self._mend_mask(entry, codes)
        if entry.get("segmentation"):
            self._mend_drawn(entry, place)
        return self._with_box(entry, place)

    def _place(self, entry: Entry) -> Place:
        return Place(self._file, self._listed.image_id, entry.get("id"), "annotation")

    def _mask_codes(self, entry: Entry) -> list[str]:
        found = mask_faults(entry, self._listed.width, self._listed.height, self._place(entry))
        return list(dict.fromkeys(fault.code for fault in found))

    def _mend_mask(self, entry_: Entry, codes: list[str]) -> None:
        """Make the mask right, as far as what is wrong shows in the JSON, or leave it out."""
        value = entry_["segmentation"]
        if isinstance(value, dict) and codes == ["rle-uncompressed"]:
            entry_["segmentation"] = self._compressed(runs_of(value, self._listed))
            self._mend("rle-uncompressed", entry_, "the run lengths are compressed now")
            return
        if isinstance(value, list) and value:
            flat = all(map(is_number, value)) and len(value) >= 6
            kept = [part for polygon in ([value] if flat else value) for part in self._polygons(polygon)]
            if kept:
                entry_["segmentation"] = kept
                done = f"{len(kept)} polygons of {1 if flat else len(value)}, cut at the picture's edge"
                self._mend(codes[0], entry_, done)
                return
        code = next(code for code in codes if code != "rle-uncompressed")
        del entry_["segmentation"]
        self._remove(code, entry_, f"its mask ({shown(value)}) is left out; its box stays")

    def _polygons(self, polygon: Any) -> list[list[float]]:
        """What is right of a polygon: nothing, itself, or what of it is inside the picture."""
        codes = set(self._mask_codes({"segmentation": [polygon]}))
        if not codes:
            return [polygon]
        if codes != {"polygon-beyond"}:
            return []
        shape = shapely.Polygon(np.reshape(polygon, (-1, 2)))
        if not shape.is_valid:
            return [polygon]
        inside = shapely.intersection(shape, shapely.box(0, 0, self._listed.width, self._listed.height))
        parts = shapely.get_parts(inside)
        outlines = [np.asarray(part.exterior.coords)[:-1] for part in parts if isinstance(part, shapely.Polygon)]
        return [outline.round(2).ravel().tolist() for outline in outlines if len(outline) >= 3]

    def _mend_drawn(self, entry_: Entry, place: Place) -> None:
        """Mend what shows once the mask is drawn: no pixel, holes, a stale area or box."""
        runs = runs_of(entry_["segmentation"], self._listed)
        codes = [fault.code for fault in drawn_faults(entry_, runs, self._listed, place)]
        if "mask-empty" in codes:
            del entry_["segmentation"]
            self._remove("mask-empty", entry_, "its mask has no pixel and is left out; its box stays")
            return
        if "polygon-holes" in codes:
            entry_["segmentation"] = self._compressed(runs)
            entry_["area"] = int(coco_mask.area(runs))
            self._mend("polygon-holes", entry_, "its inner polygons are holes now, in run lengths")
        wrong = list(box_faults(entry_, self._listed.width, self._listed.height, place))
        wrong += area_faults(entry_, place, counted=False)
        wrong += drawn_faults(entry_, runs, self._listed, place)
        for code in dict.fromkeys(fault.code for fault in wrong):
            if code.startswith("area"):
                self._set_area(entry_, int(coco_mask.area(runs)), code)
        boxes = [fault.code for fault in wrong if fault.code.startswith("box")]
        if boxes:
            self._set_box(entry_, [round(side) for side in coco_mask.toBbox(runs).tolist()], boxes[0])

    def _with_box(self, entry: Entry, place: Place) -> Entry | None:
        """The annotation if it has a box, cut at the picture's edge, and an area."""
        width, height = self._listed.width, self._listed.height
        for fault in box_faults(entry, width, height, place):
            if fault.code != "box-beyond":
                self._remove(fault.code, entry, f"has bbox={shown(entry.get('bbox'))}, and no mask to tell another")
                return None
            x, y, w, h = entry["bbox"]
            left, top, right, bottom = max(x, 0), max(y, 0), min(x + w, width), min(y + h, height)
            self._set_box(entry, [left, top, right - left, bottom - top], "box-beyond")
        if "segmentation" not in entry:
            for fault in area_faults(entry, place, counted=False):
                self._set_area(entry, entry["bbox"][2] * entry["bbox"][3], fault.code)
        return entry

    def _set_box(self, entry_: Entry, box: list[float], code: str) -> None:
        done = f"bbox {shown(entry_.get('bbox'))} is {box} now"
        entry_["bbox"] = box
        self._mend(code, entry_, done)

    def _set_area(self, entry_: Entry, area: float, code: str) -> None:
        done = f"area {shown(entry_.get('area'))} is {area} now"
        entry_["area"] = area
        self._mend(code, entry_, done)

    @staticmethod
    def _compressed(runs: Any) -> dict[str, Any]:
        return {"size": list(runs["size"]), "counts": runs["counts"].decode("ascii")}

    def _mend(self, code: str, entry: Entry, done: str) -> None:
        self.changes.append(mended(code, self._file, done, self._listed.image_id, entry.get("id")))

    def _remove(self, code: str, entry: Entry, why: str) -> None:
        self.changes.append(removed(code, self._file, why, self._listed.image_id, entry.get("id")))


def clear_cvat_crowds(annotations_: Sequence[Entry], names: dict[int, Any], file: str) -> Iterator[Change]:
    """Set ``iscrowd`` to 0 where CVAT's brush masks are all that a class has."""
    from_cvat = any(
        isinstance(entry.get("attributes"), dict) and "occluded" in entry["attributes"] for entry in annotations_
    )
    if not from_cvat:
        return
    others = {entry["category_id"] for entry in annotations_ if not entry.get("iscrowd", 0)}
    cleared: Counter[int] = Counter()
    for entry in annotations_:
        if entry["category_id"] not in others:
            entry["iscrowd"] = 0
            cleared[entry["category_id"]] += 1
    for category_id, count in sorted(cleared.items()):
        done = f"{count} brush masks of {shown(names.get(category_id))} aren't crowds any more"
        yield mended("crowd-only", file, done)
