"""Images of every kind that a predictor is given, as one kind of array."""

from __future__ import annotations

import io
import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image

from detr_d2.errors import UserError
from detr_d2.labels.image_reading import fetched, load_eight_bits, open_image, orientation_of, turned, unreadable_reason
from detr_d2.labels.records import FileRef
from detr_d2.labels.values import MOST_PIXELS

ImageLike = Any
"""A path; a Pillow image; an array (H, W, 3) in RGB, (H, W, 4) or (H, W), uint8; a tensor (3, H, W), uint8 or floats
from 0 to 1, in RGB; or the bytes of an image's file."""


#: Photos by tiles may have a thousand megapixels.
MOST_PIXELS_BY_TILES = 1_000_000_000
#: Pillow's own limit is one for all threads.
_LIMIT_OF_PIXELS = threading.Lock()


class ImageError(UserError, ValueError):
    """An image can't be read, or isn't one."""


def read_image(file: str | os.PathLike[str] | FileRef) -> np.ndarray:
    """An image's file as a model is given it, turned as its EXIF orientation says; of an animation the first frame.

    Args:
        file: a path, an address, or a file inside a zip.

    Returns:
        (H, W, 3) uint8, RGB.

    Raises:
        ImageError: the file is empty, cut off, larger than Pillow thinks safe, or no image.
    """
    return read_noted(file)[0]


def read_noted(file: str | os.PathLike[str] | FileRef) -> tuple[np.ndarray, str]:
    """:func:`read_image`, and a sentence where not all of the file is shown; else nothing."""
    ref = file if isinstance(file, FileRef) else None
    size = -1
    try:
        ref = ref or FileRef(Path(fetched(file)))  # type: ignore[arg-type]
        with ref.open() as opened:
            size = opened.seek(0, os.SEEK_END)
            opened.seek(0)
            return _decoded(opened)
    except Exception as error:  # decoders raise whatever they like on broken files
        raise ImageError(f"{file}: can't be read as an image: {_reason(error, size)}.") from error


@contextmanager
def more_pixels(most: int) -> Iterator[None]:
    """Images of up to so many pixels are read within, more than Pillow thinks safe; by one thread at a time."""
    with _LIMIT_OF_PIXELS:
        before = Image.MAX_IMAGE_PIXELS
        Image.MAX_IMAGE_PIXELS = most // 2  # Pillow warns from there on, and refuses twice as many
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = before


def as_rgb(image: ImageLike) -> tuple[np.ndarray, str]:
    """Any image as an array, and its file's name where it has one.

    Args:
        image: see :data:`ImageLike`.

    Returns:
        (H, W, 3) uint8, RGB; and the name, or nothing.

    Raises:
        ImageError: it can't be read, or is no image.
    """
    if isinstance(image, str | os.PathLike):
        return read_image(image), Path(image).name
    if isinstance(image, bytes):
        return image_of_bytes(image), ""
    if isinstance(image, Image.Image):
        return _upright(image), os.path.basename(str(getattr(image, "filename", "")))
    if hasattr(image, "detach"):
        return _of_tensor(image), ""
    return _of_array(np.asarray(image)), ""


def image_of_bytes(content: bytes) -> np.ndarray:
    """As :func:`read_image`, of the bytes of an image's file."""
    try:
        return _decoded(io.BytesIO(content))[0]
    except Exception as error:  # decoders raise whatever they like on broken files
        reason = _reason(error, len(content))
        raise ImageError(f"{len(content)} bytes can't be read as an image: {reason}.") from error


def _decoded(file: IO[bytes]) -> tuple[np.ndarray, str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about odd EXIF data, and about images that are large
        with open_image(file) as image:
            pixels = _upright(image)
            # Phones keep a second, smaller image in their JPEGs, which nobody thinks of as an animation.
            frames = getattr(image, "n_frames", 1) if image.format in ("GIF", "WEBP", "PNG", "TIFF") else 1
    return pixels, f"has {frames} frames; the first one is used" if frames > 1 else ""


def _upright(image: Image.Image) -> np.ndarray:
    upright = turned(load_eight_bits(image), orientation_of(image))
    return np.ascontiguousarray(upright if upright.mode == "RGB" else upright.convert("RGB"))


def _reason(error: Exception, size: int) -> str:
    if isinstance(error, Image.DecompressionBombError):
        return f"it has more than {MOST_PIXELS:,} pixels; predict it by tiles with --tile 1024, or make it smaller"
    return unreadable_reason(error, size)


def _of_tensor(image: Any) -> np.ndarray:
    values = image.detach().cpu()
    if values.dim() != 3 or values.shape[0] not in (1, 3) or 0 in values.shape:
        raise ImageError(f"a tensor of shape {tuple(values.shape)} is no image; give (3, H, W) in RGB.")
    if values.is_floating_point():
        least, most = float(values.min()), float(values.max())
        if not 0 <= least <= most <= 1:
            raise ImageError(f"a tensor of floats from {least:g} to {most:g}; give 0 to 1, or uint8 from 0 to 255.")
        values = (values * 255).round().byte()
    return _of_array(values.expand(3, -1, -1).permute(1, 2, 0).numpy())


def _of_array(image: np.ndarray) -> np.ndarray:
    if image.dtype != np.uint8:
        raise ImageError(f"an array of {image.dtype}; give uint8, from 0 to 255.")
    if image.ndim == 2:
        image = np.repeat(image[:, :, None], 3, axis=2)
    if image.ndim != 3 or image.shape[2] not in (3, 4) or 0 in image.shape:
        raise ImageError(f"an array of shape {image.shape} is no image; give (H, W, 3) in RGB, or (H, W).")
    return np.ascontiguousarray(image[:, :, :3])
