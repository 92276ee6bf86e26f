"""Mending ``annotations``: which picture and which category each label is of, and its id."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ..faults import shown
from ..values import is_whole, numbered
from .categories import MendedCategories
from .changes import Change, mended, removed
from .images import ImageId, MendedImages
from .names import FileFinder
from .values import as_flag, as_whole, same, shallow

Entry = dict[str, Any]


@dataclass
class PictureLabels:
    """What is labelled on one picture.

    Args:
        labels: annotations of COCO instances, or segments of a panoptic JSON.
        annotation: of a panoptic JSON: the rest of its entry, with the name of its PNG; None for instances.
        count: labels that the original had, those left out included.
    """

    labels: list[Entry] = field(default_factory=list)
    annotation: Entry | None = None
    count: int = 0


class LabelMender:
    """Mends what labels of both formats have in common.

    Args:
        file: their JSON.
        categories: of the copy.
    """

    def __init__(self, file: str, categories: MendedCategories) -> None:
        self.file = file
        self._categories = categories
        self.changes: list[Change] = []

    def label(self, original: Entry, image_id: ImageId, place: str) -> Entry | None:
        """A label with a right ``category_id`` and ``iscrowd``, or None where nobody knows what it is of."""
        label, value = shallow(original), original.get("category_id")
        category_id = self._categories.id_of(value)
        where = (image_id, original.get("id"))
        if self._categories.is_unclear(value):
            done = f"{place}: several categories have the id {shown(value)}"
            self.changes.append(removed("id-duplicate", self.file, done, *where))
            return None
        if category_id is None:
            code = "category-unknown" if is_whole(value) else "category-id"
            self.changes.append(removed(code, self.file, f"{place} has category_id={shown(value)}", *where))
            return None
        if not is_whole(value):
            done = f"{place}: category_id {shown(value)} is {category_id} now"
            self.changes.append(mended("category-id", self.file, done, *where))
        label["category_id"] = category_id
        crowd = label.get("iscrowd", 0)
        if not (is_whole(crowd) and crowd in (0, 1)):
            flag = as_flag(crowd)
            label["iscrowd"] = flag if flag is not None else int(bool(crowd))
            done = f"{place}: iscrowd {shown(crowd)} is {label['iscrowd']} now"
            self.changes.append(mended("crowd-value", self.file, done, *where))
        return label

    def without_picture(self, value: Any, place: str, label_id: Any, images: MendedImages) -> None:
        """Note that a label is left out with its picture, or for having none."""
        if not images.was_left_out(value):
            done = f"{place} has image_id={shown(value)}, which images lacks"
            self.changes.append(removed("image-unknown", self.file, done, value, label_id))


def mend_instances(entries: list[Any], images: MendedImages, mender: LabelMender) -> dict[ImageId, PictureLabels]:
    """Annotations of COCO instances by picture; each id comes once."""
    found = {image_id: PictureLabels() for image_id in images.entries}
    free_ids = _free_ids(entries)
    by_id: dict[int, Entry] = {}
    for number, original in numbered(entries):
        place, annotation_id = f"annotations[{number}]", original.get("id")
        image_id = images.id_of(original.get("image_id"))
        if image_id is None:
            mender.without_picture(original.get("image_id"), place, annotation_id, images)
            continue
        found[image_id].count += 1
        whole = as_whole(annotation_id)
        if whole is not None and whole in by_id and same(by_id[whole], original):
            found[image_id].count -= 1
            done = f"{place} repeats an earlier annotation"
            mender.changes.append(removed("id-duplicate", mender.file, done, image_id, annotation_id))
            continue
        label = mender.label(original, image_id, place)
        if label is None:
            continue
        if whole is None or whole in by_id:
            code, whole = ("id-type" if whole is None else "id-duplicate"), next(free_ids)
            done = f"{place}: id {shown(annotation_id)} is {whole} now"
            mender.changes.append(mended(code, mender.file, done, image_id, annotation_id))
        elif not is_whole(annotation_id):
            done = f"{place}: id {shown(annotation_id)} is {whole} now"
            mender.changes.append(mended("id-type", mender.file, done, image_id, annotation_id))
        by_id[whole] = original
        label.update(id=whole, image_id=image_id)
        found[image_id].labels.append(label)
    return found


def _free_ids(entries: list[Any]) -> Iterator[int]:
    """Ids beyond all that are used."""
    used = [number for _, entry in numbered(entries) if (number := as_whole(entry.get("id"))) is not None]
    number = max(used, default=0)
    while True:
        number += 1
        yield number


def mend_panoptic(
    entries: list[Any], images: MendedImages, mender: LabelMender, pngs: FileFinder
) -> dict[ImageId, PictureLabels]:
    """Segments of a panoptic JSON by picture, with the name of the PNG that they lie in."""
    found: dict[ImageId, PictureLabels] = {}
    for number, original in numbered(entries):
        place = f"annotations[{number}]"
        image_id = images.id_of(original.get("image_id"))
        if image_id is None:
            mender.without_picture(original.get("image_id"), place, None, images)
            continue
        if image_id in found:
            done = f"{place} is of a picture that has its annotation already"
            mender.changes.append(removed("id-duplicate", mender.file, done, image_id))
            continue
        name, annotation = original.get("file_name"), shallow(original)
        meant = pngs.meant(name)
        if meant is None:
            code = "json-key" if not isinstance(name, str) or not name else "png-missing"
            done = f"{place} has file_name={shown(name)}, which isn't there; the picture is left out"
            mender.changes.append(removed(code, mender.file, done, image_id))
            found[image_id] = PictureLabels(count=1)
            continue
        if meant[1]:
            code = meant[1].replace("picture", "png")
            done = f"{place}: file_name {shown(name)} is {shown(meant[0])} now"
            mender.changes.append(mended(code, mender.file, done, image_id))
        annotation.update(image_id=image_id, file_name=meant[0])
        annotation.pop("segments_info", None)
        found[image_id] = PictureLabels(annotation=annotation)
        _add_segments(original.get("segments_info"), found[image_id], mender, image_id, place)
    return found


def _add_segments(segments: Any, labels_: PictureLabels, mender: LabelMender, image_id: ImageId, place: str) -> None:
    """Put what is right of ``segments_info`` into the labels of its picture."""
    if not isinstance(segments, list):
        done = f"{place} has segments_info={shown(segments)}"
        mender.changes.append(removed("json-type", mender.file, done, image_id))
        segments = [None]
    labels_.count = len(segments)
    for index, segment in enumerate(segments):
        if isinstance(segment, dict):
            label = mender.label(segment, image_id, f"{place}.segments_info[{index}]")
            labels_.labels += [label] if label is not None else []


def stems_of(entries: list[Any]) -> dict[ImageId, str]:
    """Name without ending of the PNG of each picture of a panoptic JSON, by the id that the JSON has."""
    found: dict[ImageId, str] = {}
    for _, entry in numbered(entries):
        image_id, name = entry.get("image_id"), entry.get("file_name")
        if isinstance(name, str) and isinstance(image_id, (int, str)):
            found.setdefault(image_id, os.path.splitext(name)[0])
    return found
