"""Faults of panoptic PNGs, alone and against what their JSON says."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy.ndimage import find_objects

from detr_d2.labels.file_places import is_file, opened
from detr_d2.labels.image_decoding import is_deep, open_image
from detr_d2.labels.image_size import MOST_PIXELS

from .boxes import Place
from .drawing import box_difference_fault
from .faults import Fault, fault
from .images import ListedPicture
from .panoptic import PanopticPicture
from .pictures import reason
from .values import is_number

#: More ids than this in one picture are no segments; training refuses them too.
MOST_SEGMENTS = 2**16 - 1

Box = tuple[int, int, int, int]


def png_faults(panoptic: PanopticPicture, listed: ListedPicture, file: str) -> Iterator[Fault]:
    """Faults of one picture's PNG.

    Args:
        panoptic: what the JSON says of it.
        listed: the picture.
        file: the JSON.
    """
    path, image_id = panoptic.path, listed.image_id
    if path is None or not is_file(path):
        return
    found: list[Fault] = []
    ids = _read_ids(path, image_id, found)
    yield from found
    if ids is None:
        return
    height, width = ids.shape
    if listed.width and (width, height) != (listed.width, listed.height):
        message = f"is {width}x{height} pixels; the JSON says {listed.width}x{listed.height}."
        yield fault("png-size", path, message, image_id)
    shown = areas_and_boxes(ids)
    if shown is None:
        yield fault("png-mode", path, f"has more than {MOST_SEGMENTS} ids: it shows something else.", image_id)
        return
    listed_ids = {segment["id"] for segment in panoptic.segments}
    for segment_id in sorted(shown.keys() - listed_ids):
        pixels = shown[segment_id][0]
        message = f"has {pixels} pixels of the id {segment_id}, which the JSON doesn't list."
        yield fault("png-unlisted", path, message, image_id, segment_id)
    for segment in panoptic.segments:
        yield from _segment_faults(segment, shown.get(segment["id"]), path, image_id, file)
    if not shown:
        yield fault("png-void", path, "is void everywhere.", image_id)


def _read_ids(path: str, image_id: Any, faults_: list[Fault]) -> np.ndarray | None:
    """Ids (H, W) int32, 0 for void; None, with a fault, where the file has none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with opened(path) as file, open_image(file) as picture:
                if picture.mode not in ("RGB", "RGBA") or picture.format == "JPEG" or is_deep(picture):
                    bits = " and 16 bits a channel" if is_deep(picture) else ""
                    message = f"is a {picture.format} of mode {picture.mode}{bits}."
                    faults_.append(fault("png-mode", path, message, image_id))
                    return None
                if picture.width * picture.height > MOST_PIXELS:
                    message = f"has {picture.width}x{picture.height} pixels."
                    faults_.append(fault("picture-large", path, message, image_id))
                    return None
                if picture.mode == "RGBA":
                    faults_.append(fault("png-alpha", path, "has an alpha channel.", image_id))
                picture.load()
                colors = np.asarray(picture)[:, :, :3]
    except Exception as error:  # decoders raise whatever they like on broken files
        faults_.append(fault("png-broken", path, f"can't be read: {reason(path, error)}.", image_id))
        return None
    return ids_of_colors(colors)


def ids_of_colors(colors: np.ndarray) -> np.ndarray:
    """Ids (H, W) int32 of (H, W, 3) red, green, blue."""
    channels = colors.astype(np.int32)
    return channels[:, :, 0] + 256 * channels[:, :, 1] + 65536 * channels[:, :, 2]


def areas_and_boxes(ids: np.ndarray) -> dict[int, tuple[int, Box]] | None:
    """Pixels and x, y, width, height of every id but void, from (H, W); None for more ids than there are segments."""
    found, numbers, areas = np.unique(ids, return_inverse=True, return_counts=True)
    if len(found) > MOST_SEGMENTS:
        return None
    measured: dict[int, tuple[int, Box]] = {}
    for segment_id, area, place in zip(found.tolist(), areas.tolist(), find_objects(numbers.reshape(ids.shape) + 1)):
        rows, columns = place
        if segment_id:
            box = (columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start)
            measured[segment_id] = (area, box)
    return measured


def _segment_faults(
    segment: dict[str, Any], shown: tuple[int, Box] | None, path: str, image_id: Any, file: str
) -> Iterator[Fault]:
    segment_id = segment["id"]
    if shown is None:
        yield fault("png-absent", path, f"has no pixel of the segment {segment_id}.", image_id, segment_id)
        return
    pixels, box = shown
    place = Place(file, image_id, segment_id, f"segment {segment_id}")
    area = segment.get("area")
    if is_number(area) and area > 0 and area != pixels:
        yield place.fault("area-stale", f"has area={area:g}; its PNG has {pixels} pixels.")
    yield from box_difference_fault(segment.get("bbox"), [box], place)
