"""Images whose colours are ids, such as panoptic PNGs: red + 256 green + 65536 blue, 0 is void.

Source: the PNG specification, third edition, sections 5 (chunks) and 9 (filters).
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Sequence

import numpy as np
from PIL import Image

from detr_d2.errors import DatasetError

from .image_size import MOST_PIXELS
from .panoptic_ids import ids_of_colors
from .records import FileRef

_UP = 2
"""The filter that writes a row as what differs from the one above, which for segments is next to nothing."""


def read_ids(file: FileRef, index_modes: Sequence[str] = ()) -> tuple[np.ndarray, bool]:
    """An image of labels as a number for each pixel.

    Args:
        file: the image.
        index_modes: Pillow's modes in which pixels are numbers themselves, not colours.

    Returns:
        (H, W) int32, the id that each colour stands for, or the number; and whether it is numbers.

    Raises:
        MissingFileError: it isn't there.
        DatasetError: it can't be read, or is a JPEG, whose colours aren't exact.
    """
    content = file.read()
    try:
        with Image.open(io.BytesIO(content)) as image:
            if image.width * image.height > MOST_PIXELS:
                raise DatasetError(f"{file} has {image.width}x{image.height} pixels; too many.")
            if image.format in ("JPEG", "MPO"):
                raise DatasetError(f"{file} is a JPEG, which changes the values that labels are. Export it as a PNG.")
            if image.mode in index_modes:
                return np.asarray(image).astype(np.int32), True
            colors = np.asarray(image.convert("RGB"))
    except DatasetError:
        raise
    except Exception as error:  # decoders raise whatever they like on broken files
        reason = " ".join(str(error).split())[:200]
        raise DatasetError(f"{file} can't be read: {reason}. Export it again, or restore it.") from error
    return ids_of_colors(colors), False


def encode_ids(numbers: np.ndarray, ids: Sequence[int]) -> bytes:
    """A PNG in RGB whose colours are segment ids.

    Pillow writes the same pixels in twice the time, as it tries five filters on each row.

    Args:
        numbers: (H, W) integers, indices in ``ids``.
        ids: below 256³.
    """
    height, width = numbers.shape
    colors = _colors(numbers, np.asarray(ids, dtype="<u4"))
    rows = np.empty((height, 1 + 3 * width), np.uint8)
    rows[:, 0] = _UP
    rows[0, 1:] = colors[0]
    np.subtract(colors[1:], colors[:-1], out=rows[1:, 1:])
    packer = zlib.compressobj(6, zlib.DEFLATED, 15, 9, zlib.Z_RLE)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = packer.compress(rows) + packer.flush()  # type: ignore[arg-type]
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", pixels) + _chunk(b"IEND", b"")


def _colors(numbers: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """(H, 3 W) uint8, red, green and blue of each pixel in turn."""
    height, width = numbers.shape
    if len(ids) <= 256:
        image = Image.fromarray(np.ascontiguousarray(numbers, np.uint8))
        image.putpalette(np.ascontiguousarray(ids.view(np.uint8).reshape(-1, 4)[:, :3]).tobytes())
        content = image.convert("RGB").tobytes()
    else:
        content = Image.frombytes("RGB", (width, height), ids[numbers].tobytes(), "raw", "RGBX").tobytes()
    return np.frombuffer(content, np.uint8).reshape(height, 3 * width)


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
