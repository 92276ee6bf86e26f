"""Faults of a COCO instances file that show in its JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .boxes import CrowdCount, Place, area_faults, box_faults, category_of_faults, crowd_faults
from .faults import Fault, fault, shown
from .images import ListedPicture
from .masks import mask_faults
from .values import is_id, is_whole, numbered

Grouped = dict[int | str, list[dict[str, Any]]]


def instance_faults(
    entries: list[Any],
    file: str,
    listed: Mapping[int | str, ListedPicture],
    names: Mapping[int, Any],
    grouped_: Grouped,
) -> Iterator[Fault]:
    """Faults of ``annotations``.

    Args:
        entries: of ``annotations``; None for what isn't an object.
        file: their JSON.
        listed: the pictures by id.
        names: of the categories by id.
        grouped_: gets the annotations of each picture; those that nothing can be drawn of, too.
    """
    seen: set[int] = set()
    crowds = CrowdCount()
    for number, entry in numbered(entries):
        annotation_id, image_id = entry.get("id"), entry.get("image_id")
        place = Place(file, image_id, annotation_id, f"annotations[{number}]")
        if not is_whole(annotation_id):
            yield place.fault("id-type", f"has id={shown(annotation_id)}.")
        elif annotation_id in seen:
            yield place.fault("id-duplicate", "has the id of an earlier annotation.")
        else:
            seen.add(annotation_id)
        picture = listed.get(image_id) if is_id(image_id) else None
        if picture is None:
            yield place.fault("image-unknown", f"has image_id={shown(image_id)}, which images lacks.")
        else:
            grouped_.setdefault(picture.image_id, []).append(entry)
        crowds.add(entry)
        width, height = (picture.width, picture.height) if picture else (0, 0)
        yield from category_of_faults(entry, names, place)
        yield from crowd_faults(entry, place)
        yield from box_faults(entry, width, height, place)
        yield from area_faults(entry, place, counted=False)
        yield from mask_faults(entry, width, height, place)
    yield from crowds.faults(names, file)
    yield from unlabelled_faults(listed, grouped_, file)


def unlabelled_faults(listed: Mapping[int | str, Any], labelled: Mapping[Any, Any], file: str) -> Iterator[Fault]:
    """One fault for all pictures without a label."""
    without = [image_id for image_id in listed if image_id not in labelled]
    if without:
        named = ", ".join(shown(image_id) for image_id in without[:5]) + (", ..." if len(without) > 5 else "")
        message = f"{len(without)} of {len(listed)} pictures have no annotation: image id {named}."
        yield fault("picture-unlabelled", file, message, without[0] if len(without) == 1 else None)
