"""Images of any kind as the labels see them: 8 bits a channel, turned by EXIF or not, whichever the labels fit."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass

import numpy as np
from PIL import Image

from detr_d2.errors import DatasetError, MissingFileError
from detr_d2.labels.image_reading import (
    INFO_OF_EXIF,
    PLAIN_MODES,
    TURNED_SIDEWAYS,
    TooManyPixels,
    load_image,
    open_image,
    turned,
    unreadable_reason,
)
from detr_d2.labels.records import ImageRecord

_COPIED_FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "BMP", "TIFF")


class UnusableImage(DatasetError):
    """An image that can't be part of a dataset.

    Args:
        code: the same for all of a kind, such as ``image-broken``.
        message: a sentence.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Decoded:
    """An image that was read to its last pixel.

    Args:
        image: mode RGB or L, turned as its labels are.
        content: the file's bytes.
        is_plain: the file shows this to every program, so its bytes can be copied; else it has to be written anew.
        is_lossy: it was a JPEG.
        notes: what was changed, each a code and a sentence.
    """

    image: Image.Image
    content: bytes
    is_plain: bool
    is_lossy: bool
    notes: tuple[tuple[str, str], ...] = ()

    def pixels(self) -> np.ndarray:
        """(H, W, 3) uint8, RGB."""
        return np.asarray(self.image.convert("RGB"))


def read_pixels(record: ImageRecord) -> np.ndarray:
    """An image as its labels see it, (H, W, 3) uint8 RGB.

    Raises:
        UnusableImage: it can't be read, or has another size than its labels.
        MissingFileError: it isn't there.
    """
    return decode(record).pixels()


def decode(record: ImageRecord) -> Decoded:
    """Read an image; raises as :func:`read_pixels`."""
    try:
        content = record.image.read()
    except MissingFileError:
        raise
    except DatasetError as error:
        raise UnusableImage("image-broken", str(error)) from error
    if not content:
        raise UnusableImage("image-broken", f"{record.image} is empty. Restore it from its origin.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of sizes and odd EXIF data, both looked at here
            with open_image(io.BytesIO(content)) as image:
                return _decode_opened(image, content, record)
    except UnusableImage:
        raise
    except TooManyPixels as error:
        raise UnusableImage("image-large", f"{record.image} has {error}; too many.") from error
    except Image.DecompressionBombError as error:
        raise UnusableImage("image-large", f"{record.image} is too large: {error}") from error
    except Exception as error:  # decoders raise whatever they like on broken files
        why = unreadable_reason(error, len(content))
        raise UnusableImage("image-broken", f"{record.image} can't be read: {why}.") from error


def _decode_opened(image: Image.Image, content: bytes, record: ImageRecord) -> Decoded:
    kind, frames = image.format or "", getattr(image, "n_frames", 1)
    read = load_image(image)
    orientation = read.orientation or 1
    is_turned, notes = _turning(read.size, orientation, record)
    upright = turned(read.pixels, orientation) if is_turned else read.pixels
    plain = upright if upright.mode in PLAIN_MODES else upright.convert("RGB")
    for key in INFO_OF_EXIF:
        plain.info.pop(key, None)
    is_of_plain_mode = read.mode in PLAIN_MODES and not read.is_deep
    if not is_of_plain_mode:
        bits = " and more than 8 bits a channel" if read.is_deep else ""
        notes += (("image-mode", f"of mode {read.mode}{bits}, saved as {plain.mode} with 8 bits a channel."),)
    is_single = frames == 1 or kind == "MPO"
    is_plain = is_of_plain_mode and orientation == 1 and kind in _COPIED_FORMATS and is_single
    if not is_single:
        notes += (("image-frames", f"has {frames} images in one file; the first one is taken."),)
    return Decoded(plain, content, is_plain, kind in ("JPEG", "MPO"), notes)


def _turning(
    stored: tuple[int, int], orientation: int, record: ImageRecord
) -> tuple[bool, tuple[tuple[str, str], ...]]:
    """Whether EXIF's turn is applied, so that the image has the size that was labelled, and what there is to say."""
    said = (record.width, record.height)
    upright = stored[::-1] if orientation in TURNED_SIDEWAYS else stored
    if min(said) < 1:
        said = upright
    if said not in (upright, stored):
        raise UnusableImage(
            "image-size",
            f"{record.image} is {upright[0]}x{upright[1]} pixels, its labels are for {said[0]}x{said[1]}. "
            "Take the image that was labelled.",
        )
    if orientation == 1:
        return False, ()
    tag = f"its EXIF tag (orientation {orientation})"
    if said != upright:
        return False, (("exif-refused", f"labelled as before {tag} turns it; saved so, without the tag."),)
    if stored == upright:
        return True, (("exif-unsure", f"turned as {tag} says; see whether the labels fit, as the size doesn't tell."),)
    return True, (("exif-applied", f"turned as {tag} says, as it was when it was labelled."),)


def encode(decoded: Decoded, suffix: str, quality: int = 95) -> bytes:
    """The image as a JPEG (``.jpg``) or a PNG (``.png``), without EXIF."""
    file = io.BytesIO()
    if suffix == ".png":
        decoded.image.save(file, "PNG")
    else:
        decoded.image.save(file, "JPEG", quality=quality, subsampling=0 if quality >= 90 else 2)
    return file.getvalue()
