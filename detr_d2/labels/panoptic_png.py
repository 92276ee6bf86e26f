"""Panoptic PNGs written quickly.

Source: the PNG specification, third edition, sections 5 (chunks) and 9 (filters).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence

import numpy as np
from PIL import Image

_UP = 2
"""The filter that writes a row as what differs from the one above, which for segments is next to nothing."""


def encode_ids(numbers: np.ndarray, ids: Sequence[int]) -> bytes:
    """A PNG in RGB whose colours are segment ids: red + 256 green + 65536 blue.

    Pillow writes the same pixels in twice the time, as it tries five filters on each row.

    Args:
        numbers: (H, W) integers, places in ``ids``.
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
