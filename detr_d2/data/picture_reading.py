"""Photos as a model is given them: upright, in the colours asked for, whole or not at all."""

from __future__ import annotations

import warnings
from typing import BinaryIO

import numpy as np
from PIL import ExifTags, Image

from ..files import open_regular

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def read_whole_image(path: str, image_format: str) -> np.ndarray:
    """The pixels that Detectron2's ``read_image`` gives, but an error where a file is cut off.

    Pillow may decode a picture when its EXIF data are asked for, and Detectron2 passes over what goes wrong then; the
    lower part of a truncated PNG becomes black, and nobody is told. So the pixels are read first.

    Args:
        path: of the picture.
        image_format: ``"RGB"`` or ``"BGR"``, or another mode of Pillow.

    Returns:
        (H, W, C) uint8, turned as the EXIF orientation says.

    Raises:
        Exception: whatever Pillow raises on files that aren't there, broken or cut off.
    """
    with _open(path) as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about odd EXIF data
        with Image.open(file) as picture:
            picture.load()
            orientation = _orientation(picture)
            upright = picture.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else picture
            mode = "RGB" if image_format == "BGR" else image_format
            pixels = np.asarray(upright if upright.mode == mode else upright.convert(mode))
    if image_format == "BGR":
        return pixels[:, :, ::-1]
    return pixels[:, :, None] if pixels.ndim == 2 else pixels


def _open(path: str) -> BinaryIO:
    """A local file; an address is left to Detectron2, which commands without addresses needn't wait for."""
    if "://" not in path:
        return open_regular(path)
    from detectron2.utils.file_io import PathManager

    return PathManager.open(path, "rb")  # type: ignore[no-any-return]


def _orientation(picture: Image.Image) -> int | None:
    try:
        return picture.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # damaged EXIF data raise all sorts of errors, and are no reason to lose the picture
        return None
