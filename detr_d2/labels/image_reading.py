"""Photos as a model is given them: upright, in the colours asked for, whole or not at all."""

from __future__ import annotations

import os
import warnings

import numpy as np

from detr_d2.errors import DatasetError, MissingFileError
from detr_d2.files import open_regular

from .image_decoding import load_eight_bits, open_image, orientation_of, turned, unreadable_reason


def read_whole_image(path: str, image_format: str) -> np.ndarray:
    """The pixels that Detectron2's ``read_image`` gives, but an error where a file is cut off, and 8 bits of 16.

    Pillow may decode an image when its EXIF data are asked for, and Detectron2 passes over what goes wrong then; the
    lower part of a truncated PNG becomes black, and nobody notices. So the pixels are read first. More than 8 bits a
    channel aren't cut off, but shifted; see :func:`~detr_d2.labels.image_decoding.load_eight_bits`.

    Args:
        path: of the image.
        image_format: ``"RGB"`` or ``"BGR"``, or another mode of Pillow.

    Returns:
        (H, W, C) uint8, turned as the EXIF orientation says.

    Raises:
        SpecialFileError: a pipe, a device or a folder is there.
        Exception: whatever Pillow raises on files that aren't there, broken or cut off.
    """
    with open_regular(fetched(path)) as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about odd EXIF data
        with open_image(file) as image:
            eight_bits = load_eight_bits(image)
            upright = turned(eight_bits, orientation_of(image))
            mode = "RGB" if image_format == "BGR" else image_format
            pixels = np.asarray(upright if upright.mode == mode else upright.convert(mode))
    if image_format == "BGR":
        return pixels[:, :, ::-1]
    return pixels[:, :, None] if pixels.ndim == 2 else pixels


def fetched(path: str | os.PathLike[str]) -> str:
    """The path of a local file; an address is left to Detectron2, which commands without addresses needn't wait for."""
    path = os.fspath(path)
    if "://" not in path:
        return path
    from detectron2.utils.file_io import PathManager

    return str(PathManager.get_local_path(path))


def read_dataset_image(path: str, image_format: str, name: str) -> np.ndarray:
    """An image of a dataset, as :func:`read_whole_image` gives it; ``name`` stands for it in messages.

    Raises:
        MissingFileError: it isn't there.
        DatasetError: it can't be read.
    """
    try:
        return read_whole_image(path, image_format)
    except FileNotFoundError as error:
        raise MissingFileError(f"{name} isn't there.") from error
    except Exception as error:  # decoders raise whatever they like on broken files
        raise DatasetError(f"{name} can't be read: {reading_error(path, error)}. Replace it or take it out.") from error


def reading_error(path: str | os.PathLike[str], error: Exception) -> str:
    """What :func:`read_whole_image` raised, in a few words."""
    try:
        size = os.path.getsize(path)
    except (OSError, ValueError):  # an address, for one
        size = -1
    return unreadable_reason(error, size)
