"""Pictures of any kind as the labels see them: 8 bits a channel, turned by EXIF or not, whichever the labels fit."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from ...errors import DatasetError, MissingFileError
from ..image_size import MOST_PIXELS
from .records import PictureRecord

_PLAIN_MODES = ("RGB", "L")
_COPIED_FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "BMP", "TIFF")
_SIDEWAYS = (5, 6, 7, 8)


class UnusablePicture(DatasetError):
    """A picture that can't be part of a dataset; ``args`` are a short code and a sentence."""

    @property
    def code(self) -> str:
        """The same for all of a kind, such as ``picture-broken``."""
        return str(self.args[0])

    def __str__(self) -> str:
        return str(self.args[1])


@dataclass(frozen=True)
class Decoded:
    """A picture that was read to its last pixel.

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


def read_pixels(record: PictureRecord) -> np.ndarray:
    """A picture as its labels see it, (H, W, 3) uint8 RGB.

    Raises:
        UnusablePicture: it can't be read, or has another size than its labels.
        MissingFileError: it isn't there.
    """
    return decode(record).pixels()


def decode(record: PictureRecord) -> Decoded:
    """Read a picture; raises as :func:`read_pixels`."""
    try:
        content = record.image.read()
    except MissingFileError:
        raise
    except DatasetError as error:
        raise UnusablePicture("picture-broken", str(error)) from error
    if not content:
        raise UnusablePicture("picture-broken", f"{record.image} is empty. Restore it from its origin.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of sizes and odd EXIF data, both looked at here
            with Image.open(io.BytesIO(content)) as image:
                return _decode_opened(image, content, record)
    except UnusablePicture:
        raise
    except Image.DecompressionBombError as error:
        raise UnusablePicture("picture-large", f"{record.image} is too large: {error}") from error
    except Exception as error:  # decoders raise whatever they like on broken files
        unknown = isinstance(error, UnidentifiedImageError)
        why = "it is no picture, or of a kind that Pillow doesn't know" if unknown else " ".join(str(error).split())
        raise UnusablePicture("picture-broken", f"{record.image} can't be read: {why[:200]}.") from error


def _decode_opened(image: Image.Image, content: bytes, record: PictureRecord) -> Decoded:
    if image.width * image.height > MOST_PIXELS:
        raise UnusablePicture("picture-large", f"{record.image} has {image.width}x{image.height} pixels; too many.")
    kind, mode, frames = image.format or "", image.mode, getattr(image, "n_frames", 1)
    image.load()  # before EXIF is read: Pillow may decode then, and an error that is passed over never comes again
    orientation = _orientation(image)
    is_turned, notes = _turning(image.size, orientation, record)
    upright = ImageOps.exif_transpose(image) if is_turned else image
    plain = upright if mode in _PLAIN_MODES else _to_rgb(upright)
    if mode not in _PLAIN_MODES:
        notes += (("picture-mode", f"of mode {mode}, saved as {plain.mode} with 8 bits a channel."),)
    is_single = frames == 1 or kind == "MPO"
    is_plain = mode in _PLAIN_MODES and orientation == 1 and kind in _COPIED_FORMATS and is_single
    if not is_single:
        notes += (("picture-frames", f"has {frames} pictures in one file; the first one is taken."),)
    return Decoded(plain, content, is_plain, kind in ("JPEG", "MPO"), notes)


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # all sorts of errors on damaged EXIF data, which nobody turns pictures by
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _turning(
    stored: tuple[int, int], orientation: int, record: PictureRecord
) -> tuple[bool, tuple[tuple[str, str], ...]]:
    """Whether EXIF's turn is applied, so that the picture has the size that was labelled, and what there is to say."""
    said = (record.width, record.height)
    upright = stored[::-1] if orientation in _SIDEWAYS else stored
    if min(said) < 1:
        said = upright
    if said not in (upright, stored):
        raise UnusablePicture(
            "picture-size",
            f"{record.image} is {upright[0]}x{upright[1]} pixels, its labels are for {said[0]}x{said[1]}. "
            "Take the picture that was labelled.",
        )
    if orientation == 1:
        return False, ()
    tag = f"its EXIF tag (orientation {orientation})"
    if said != upright:
        return False, (("exif-refused", f"labelled as before {tag} turns it; saved so, without the tag."),)
    if stored == upright:
        return True, (("exif-unsure", f"turned as {tag} says; see whether the labels fit, as the size doesn't tell."),)
    return True, (("exif-applied", f"turned as {tag} says, as it was when it was labelled."),)


def _to_rgb(image: Image.Image) -> Image.Image:
    """Any mode as RGB or L; more than 8 bits are scaled, not cut off."""
    if image.mode not in ("I", "F") and not image.mode.startswith("I;"):
        return image.convert("RGB")
    values = np.nan_to_num(np.asarray(image, dtype=np.float64))
    largest = float(values.max(initial=0))
    white = next((white for white in (1 if image.mode == "F" else 255, 255, 65535) if largest <= white), largest)
    return Image.fromarray((np.clip(values / white, 0, 1) * 255).round().astype(np.uint8))


def encode(decoded: Decoded, suffix: str, quality: int = 95) -> bytes:
    """The picture as a JPEG (``.jpg``) or a PNG (``.png``), without EXIF."""
    file = io.BytesIO()
    if suffix == ".png":
        decoded.image.save(file, "PNG")
    else:
        decoded.image.save(file, "JPEG", quality=quality, subsampling=0 if quality >= 90 else 2)
    return file.getvalue()
