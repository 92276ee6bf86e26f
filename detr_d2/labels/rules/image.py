"""The way through one image: its file, its PNG, and what is labelled on it, with a look at pixels."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from ..archives import is_file
from ..values import Size, as_whole, is_whole, shown
from .annotations import extent_rules, geometry_rules, is_usable, segment_id_rules
from .image_files import ImageFile, image_file_rules, read_image_file
from .images import ImageTask, size_rules
from .masks import drawn_rules, object_rules, place_of
from .pngs import Extents, Png, absent_message, extents_of, extents_rules, png_file_rules, png_size_rules, read_png
from .rule import Done, Fault, Finding, Listing, Place, Unreadable, Walk

Entry = dict[str, Any]
Read = TypeVar("Read")


@dataclass
class SeenImage:
    """What was seen of an image.

    Args:
        image: its file, with what it is to become; None where that isn't known.
        png: its PNG, likewise.
        labels: those that stay.
    """

    image: ImageFile | None = None
    png: Png | None = None
    labels: list[Entry] = field(default_factory=list)


def walk_image(task: ImageTask) -> Walk[SeenImage | None]:
    """What is wrong with an image and the labels on it, as far as pixels say it.

    What isn't there is no fault here: the names have been looked at before.

    Returns:
        What is left; None where the image has to be left out.
    """
    seen, image_id = SeenImage(), task.listed.image_id
    if not (yield _reading_rules(task, seen)):
        return None
    size, masks = task.listed.size, set()
    if task.entry is not None:
        masks = _sizes_of_masks(task.labels) if seen.png is None else {seen.png.size}
        known = next(iter(masks)) if len(masks) == 1 else seen.image.shown_size if seen.image else None
        if not (yield size_rules(task.entry, Place(task.file, image_id), known)):
            return None
    if seen.image is not None:
        said = task.entry or {"width": size[0], "height": size[1]}
        if not (yield image_file_rules(seen.image, image_id, said if said["width"] else None, masks)):
            return None
    if task.entry is not None:
        size = task.entry["width"], task.entry["height"]
    if task.is_panoptic:
        is_right = yield from _walk_segments(task, seen, size)
        if not is_right:
            return None
    elif task.entry is None:
        yield drawn_rules(task.labels, size, task.file, image_id)
    else:
        for label in task.labels:
            if (yield object_rules(label, size, place_of(label, task.file, image_id))):
                seen.labels.append(label)
    return seen if (yield _left_rules(task, seen)) else None


def image_faults(task: ImageTask) -> list[Fault]:
    """Faults of one image, its PNG and what is drawn on it."""
    return list(Listing(walk_image(task)))


def _reading_rules(task: ImageTask, seen_: SeenImage) -> Iterator[Finding]:
    """Files that can't be read, and PNGs that are none."""
    path, image_id = task.listed.path, task.listed.image_id
    try:
        seen_.image = _quietly(read_image_file, path) if path is not None and is_file(path) else None
    except Unreadable as problem:
        yield Place(path or "", image_id).found(*problem.args)
    try:
        png = _quietly(read_png, task.png) if task.png is not None and is_file(task.png) else None
    except Unreadable as problem:
        yield Place(task.png or "", image_id).found(*problem.args)
    else:
        if png is not None:
            yield from png_file_rules(png, image_id, [segment.get("id") for segment in task.labels])
            seen_.png = png if png.ids is not None else None


def _quietly(read: Callable[[str], Read], path: str) -> Read:
    """Read a file without Pillow's warnings, of sizes and odd EXIF data, which the rules look at."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return read(path)


def _walk_segments(task: ImageTask, seen_: SeenImage, size: Size) -> Walk[bool]:
    """Segments against their PNG; False where that is of something else."""
    image_id, png = task.listed.image_id, seen_.png
    extents: Extents | None = None
    if png is None and task.entry is None:
        return True
    if png is not None:
        if not (yield png_size_rules(png, size, image_id)):
            return False
        assert png.ids is not None
        extents = extents_of(png.ids)
        if extents is None:
            return (yield extents_rules(png, image_id, None, set()))
    taken: set[int] = set()
    for segment in sorted(task.labels, key=lambda segment: not is_usable(as_whole(segment.get("id")))):
        place = Place(task.file, image_id, segment.get("id"), "segment")
        if (yield _segment_id_rules(segment, taken, place, png, extents)):
            taken.add(segment["id"])
            seen_.labels.append(segment)
    if png is not None:
        yield extents_rules(png, image_id, extents, taken)
    for segment in seen_.labels:
        extent = (extents or {}).get(segment["id"])
        place = Place(task.file, image_id, segment["id"], f"segment {segment['id']}")
        if task.entry is not None:
            yield geometry_rules(segment, size, place, extent)
        if extent is not None:
            yield extent_rules(segment, extent, place)
    return True


def _segment_id_rules(
    segment: Entry, taken: set[int], place: Place, png: Png | None, extents: Extents | None
) -> Iterator[Finding]:
    yield from segment_id_rules(segment, taken, place, extents)
    if png is not None and extents is not None and segment["id"] not in extents:
        here = Place(png.path, place.image_id, segment["id"])
        yield here.found("png-absent", absent_message(segment["id"]))


def _sizes_of_masks(annotations: Sequence[Entry]) -> set[Size]:
    """width, height of the run lengths; of several sizes that of most of them."""
    found: Counter[Size] = Counter()
    for entry in annotations:
        runs = entry.get("segmentation")
        size = runs.get("size") if isinstance(runs, dict) else None
        if isinstance(size, list) and len(size) == 2 and all(is_whole(side) and side > 0 for side in size):
            found[(size[1], size[0])] += 1
    most = found.most_common(2)
    return {size for size, count in most if count == most[0][1]}


def _left_rules(task: ImageTask, seen: SeenImage) -> Iterator[Finding]:
    """An image that has lost all its labels goes, so that nothing is learnt to be background."""
    if task.entry is not None and task.count and not seen.labels and not task.may_lose_labels:
        text = f"{shown(task.entry.get('file_name'))} has no label left that is right"
        place = Place(task.listed.path or task.file, task.listed.image_id)
        yield place.found("image-unlabelled", text, lambda: Done("removed", text, is_gone=True))
