"""Maps of segments, and the PNGs that they are kept in: a colour is an id, red + 256 green + 65536 blue; 0 is void.

Source: the PNG specification, third edition, sections 5 (chunks) and 9 (filters).
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from detr_d2.errors import DatasetError

from .records import FileRef
from .values import MAX_SEGMENT_ID, MOST_PIXELS

Color = tuple[int, int, int]

_UP = 2
"""The filter that writes a row as what differs from the one above, which for segments is next to nothing."""


def id_of_color(color: Color) -> int:
    """The id that a colour stands for."""
    red, green, blue = color
    return red + 256 * green + 65536 * blue


def color_of_id(number: int) -> Color:
    """The colour that stands for an id."""
    return number % 256, number // 256 % 256, number // 65536


def ids_of_image(image: Image.Image) -> np.ndarray:
    """Ids (H, W) int32 that an image's colours stand for; transparency means nothing."""
    if image.mode not in ("RGB", "RGBA"):
        image = image.convert("RGB")
    # Four bytes a pixel, as Pillow holds them: no copy that would have to be made for three.
    size, content = image.size, image.tobytes("raw", "RGBX" if image.mode == "RGB" else "RGBA")
    four_bytes = np.frombuffer(content, "<u4").reshape(size[::-1])  # red is the lowest, alpha the highest
    return (four_bytes & MAX_SEGMENT_ID).view("<i4").astype(np.int32, copy=False)


class PixelRuns(NamedTuple):
    """A map row by row, as runs of equal pixels.

    Args:
        starts: (R,) of each run's first pixel in the flattened map; a row's first pixel always starts one.
        lengths: (R,) pixels.
        values: (R,) what the pixels are.
    """

    starts: np.ndarray
    lengths: np.ndarray
    values: np.ndarray


def find_runs(ids: np.ndarray) -> PixelRuns:
    """The runs of a map (H, W) of integers, of which maps of segments have few."""
    flat = np.ascontiguousarray(ids).ravel()
    begins = np.ones(flat.shape, bool)
    np.not_equal(flat[1:], flat[:-1], out=begins[1:])
    begins[:: ids.shape[1]] = True
    starts = np.flatnonzero(begins)
    return PixelRuns(starts, np.diff(starts, append=flat.size), flat[starts])


class Regions(NamedTuple):
    """Where each value of a map is.

    Args:
        values: (V,) those that occur, ascending.
        areas: (V,) pixels.
        boxes: (V, 4) left, top, right, bottom in pixels, the last two exclusive.
    """

    values: np.ndarray
    areas: np.ndarray
    boxes: np.ndarray


def find_regions(ids: np.ndarray) -> Regions:
    """The regions of a map (H, W) of integers, void included; all are int64."""
    runs = find_runs(ids)
    order = np.argsort(runs.values, kind="stable")
    values, starts, lengths = runs.values[order].astype(np.int64), runs.starts[order], runs.lengths[order]
    rows = starts // ids.shape[1]
    lefts = starts - rows * ids.shape[1]
    firsts = np.flatnonzero(np.concatenate([[True], values[1:] != values[:-1]]))
    lasts = np.append(firsts[1:], len(order)) - 1
    edges = [np.minimum.reduceat(lefts, firsts), rows[firsts]]
    edges += [np.maximum.reduceat(lefts + lengths, firsts), rows[lasts] + 1]
    return Regions(values[firsts], np.add.reduceat(lengths, firsts), np.stack(edges, axis=1))


def numbers_of(ids: np.ndarray) -> tuple[list[int], np.ndarray]:
    """What stands in a map (H, W), ascending, and the index of each pixel's value in that, (H, W) int32."""
    runs = find_runs(ids)
    values, of_run = np.unique(runs.values, return_inverse=True)
    return values.tolist(), np.repeat(of_run.astype(np.int32), runs.lengths).reshape(ids.shape)


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
            return ids_of_image(image), False
    except DatasetError:
        raise
    except Exception as error:  # decoders raise whatever they like on broken files
        reason = " ".join(str(error).split())[:200]
        raise DatasetError(f"{file} can't be read: {reason}. Export it again, or restore it.") from error


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
