"""Faults of picture files: what is wrong with their pixels, sizes and EXIF tags."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

from PIL import Image

from detr_d2.labels.file_places import is_file, opened, size_of
from detr_d2.labels.image_decoding import (
    TURNED_SIDEWAYS,
    is_deep,
    load_eight_bits,
    open_image,
    orientation_of,
    unreadable_reason,
)
from detr_d2.labels.image_size import MOST_PIXELS

from .faults import Fault, fault
from .images import ListedPicture

PLAIN_MODES = ("RGB", "L")


def picture_faults(listed: ListedPicture) -> Iterator[Fault]:
    """Faults of one picture's file; it is decoded to its last pixel.

    What isn't there is no fault here: the names have been looked at before.
    """
    path, image_id = listed.path, listed.image_id
    if path is None or not is_file(path):
        return
    found: list[Fault] = []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of sizes and of odd EXIF data; both are looked at below
            with opened(path) as file, open_image(file) as picture:
                found = list(_opened_faults(picture, listed))
    except Image.DecompressionBombError as error:
        yield fault("picture-large", path, f"{error}", image_id)
    except Exception as error:  # decoders raise whatever they like on broken files
        yield fault("picture-broken", path, f"can't be read: {reason(path, error)}.", image_id)
    yield from found


def _opened_faults(picture: Image.Image, listed: ListedPicture) -> Iterator[Fault]:
    path, image_id = listed.path or "", listed.image_id
    stored = picture.size
    if picture.width * picture.height > MOST_PIXELS:
        yield fault("picture-large", path, f"has {picture.width}x{picture.height} pixels.", image_id)
        return
    mode, has_more_bits = picture.mode, is_deep(picture)
    load_eight_bits(picture)  # all that training decodes, and before EXIF is asked for: see orientation_of
    orientation = orientation_of(picture)
    upright = stored[::-1] if orientation in TURNED_SIDEWAYS else stored
    said = (listed.width, listed.height)
    sizes = f"is {upright[0]}x{upright[1]} pixels upright; the JSON says {said[0]}x{said[1]}"
    if listed.width and said != upright:
        if said == stored:
            yield fault("picture-turned", path, f"{sizes}, as before its EXIF tag {orientation} turns it.", image_id)
        else:
            yield fault("picture-size", path, f"{sizes}.", image_id)
    elif orientation not in (None, 1):
        yield fault("picture-orientation", path, f"is turned by its EXIF tag (orientation {orientation}).", image_id)
    if has_more_bits:
        yield fault("picture-depth", path, f"has more than 8 bits a channel (mode {mode}).", image_id)
    elif mode not in PLAIN_MODES:
        yield fault("picture-mode", path, f"has the mode {mode}.", image_id)


def reason(path: str, error: Exception) -> str:
    """Why a picture can't be read."""
    return unreadable_reason(error, size_of(path))
