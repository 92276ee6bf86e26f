"""Faults of a COCO panoptic file that show in its JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from detr_d2.data.coco_json import MAX_SEGMENT_ID

from .boxes import CrowdCount, Place, area_faults, box_faults, category_of_faults, crowd_faults
from .faults import Fault, fault, shown
from .images import ListedPicture
from .instances import unlabelled_faults
from .paths import FileNames
from .values import is_id, is_number, is_whole, numbered, objects_of


@dataclass(frozen=True)
class PanopticPicture:
    """What the JSON says of a picture's PNG.

    Args:
        path: of the PNG; None where that isn't known.
        segments: its segments whose ids can be looked for.
    """

    path: str | None
    segments: list[dict[str, Any]]


def panoptic_faults(
    entries: list[Any],
    file: str,
    listed: Mapping[int | str, ListedPicture],
    names: Mapping[int, Any],
    pngs: FileNames,
    found_: dict[int | str, PanopticPicture],
) -> Iterator[Fault]:
    """Faults of ``annotations``.

    Args:
        entries: of ``annotations``; None for what isn't an object.
        file: their JSON.
        listed: the pictures by id.
        names: of the categories by id.
        pngs: looks at the names of the PNGs.
        found_: gets what is said of each picture's PNG.
    """
    crowds = CrowdCount()
    for number, entry in numbered(entries):
        image_id, text = entry.get("image_id"), f"annotations[{number}]"
        picture = listed.get(image_id) if is_id(image_id) else None
        if picture is None:
            message = f"{text} has image_id={shown(image_id)}, which images lacks."
            yield fault("image-unknown", file, message, image_id)
        elif picture.image_id in found_:
            yield fault("id-duplicate", file, f"{text} is of a picture that has its annotation already.", image_id)
            continue
        yield from pngs.faults(entry.get("file_name"), image_id, text)
        wrong: list[Fault] = []
        segments = objects_of(entry, "segments_info", file, wrong, image_id=image_id)
        yield from wrong
        usable: list[dict[str, Any]] = []
        yield from _segments_faults(segments, picture, Place(file, image_id, None, text), names, usable)
        for segment in usable:
            crowds.add(segment)
        if picture is not None:
            found_[picture.image_id] = PanopticPicture(pngs.path(entry.get("file_name")), usable)
    yield from crowds.faults(names, file)
    yield from unlabelled_faults(listed, found_, file)


def _segments_faults(
    segments: list[Any],
    picture: ListedPicture | None,
    annotation: Place,
    names: Mapping[int, Any],
    usable_: list[dict[str, Any]],
) -> Iterator[Fault]:
    """Faults of the segments of one picture; those with an id of their own are put into ``usable_``."""
    width, height = (picture.width, picture.height) if picture else (0, 0)
    seen: set[int] = set()
    for number, segment in numbered(segments):
        segment_id = segment.get("id")
        place = Place(annotation.file, annotation.image_id, segment_id, f"{annotation.text}.segments_info[{number}]")
        if not is_whole(segment_id):
            yield place.fault("id-type", f"has id={shown(segment_id)}.")
        elif not 1 <= segment_id <= MAX_SEGMENT_ID:
            yield place.fault("id-range", f"has id={shown(segment_id)}.")
        elif segment_id in seen:
            yield place.fault("id-duplicate", "has the id of an earlier segment of its picture.")
        else:
            seen.add(segment_id)
            usable_.append(segment)
        yield from category_of_faults(segment, names, place)
        yield from crowd_faults(segment, place)
        yield from area_faults(segment, place, counted=True)
        if "bbox" in segment:  # nothing needs it: boxes are the PNG's
            yield from box_faults(segment, width, height, place)
    areas = sum(segment["area"] for segment in usable_ if is_number(segment.get("area")))
    if width and areas > width * height:
        message = f"has segments of {areas:.0f} pixels together; its picture has {width * height}."
        yield annotation.fault("area-sum", message)
