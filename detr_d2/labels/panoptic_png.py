"""Maps of segments, and the PNGs that they are kept in: a colour is an id, red + 256 green + 65536 blue; 0 is void.

Rules of panoptic PNGs: in RGB, of the image's size, with the ids that the JSON lists.

Source: the PNG specification, third edition, sections 5 (chunks) and 9 (filters).
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from .archives import copy_file, why_no_file
from .image_reading import image_in, image_of, is_deep, same_ratio
from .records import FileRef
from .rules.annotations import Extent
from .rules.rule import BrokenRuleError, Finding, Fix, Place, fixing
from .values import MAX_SEGMENT_ID, Size, Unreadable, as_whole

Color = tuple[int, int, int]
#: By id, what the pixels of a segment say.
Extents = Mapping[int, Extent]
#: More ids than this in one image are no segments; training refuses them too.
MOST_SEGMENTS = 2**16 - 1
#: The filter that writes a row as what differs from the one above, which for segments is next to nothing.
_UP = 2


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
    """A map row by row, as R runs of equal pixels.

    ``starts`` are the places of their first pixels in the flattened map; a row's first pixel always starts one.
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
    """Where each of the V values of a map is, ascending.

    ``boxes`` (V, 4) are left, top, right, bottom in pixels, the last two exclusive.
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
    """An image of labels as a number for each pixel; in Pillow's ``index_modes`` pixels are numbers, not colours.

    Returns:
        (H, W) int32, the id that each colour stands for, or the number; and whether it is numbers.

    Raises:
        MissingFileError: it isn't there.
        DatasetError: it can't be read, or is a JPEG, whose colours aren't exact.
    """
    content = file.read()
    try:
        with image_in(lambda: io.BytesIO(content), lambda: len(content), "png-broken") as image:
            kind, are_numbers = image.format, image.mode in index_modes
            ids = np.asarray(image).astype(np.int32) if are_numbers else ids_of_image(image)
    except Unreadable as problem:
        code, why = problem.args
        raise BrokenRuleError(f"{file} {why} Export it again, or restore it.", code) from problem
    if kind in ("JPEG", "MPO"):
        why = "is a JPEG, which changes the values that labels are. Export it as a PNG."
        raise BrokenRuleError(f"{file} {why}", "png-mode")
    return ids, are_numbers


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


@dataclass
class Png:
    """A panoptic PNG.

    Args:
        path: of the original.
        mode: Pillow's, and what else is to be said of it.
        ids: (H, W) int32, 0 is void; None where the file has none.
        has_alpha: and transparency, which means nothing.
        is_changed: it has to be written anew.
        voided: ids whose pixels are void then.
    """

    path: str
    mode: str
    ids: np.ndarray | None
    has_alpha: bool = False
    is_changed: bool = False
    voided: list[int] = field(default_factory=list)

    @property
    def size(self) -> Size:
        """width, height; of a PNG with ids."""
        assert self.ids is not None
        return self.ids.shape[1], self.ids.shape[0]

    def write(self, target: Path) -> None:
        """The PNG of a copy: the original's bytes if nothing changed."""
        target.parent.mkdir(parents=True, exist_ok=True)
        if not self.is_changed and not self.voided:
            copy_file(self.path, target)
            return
        assert self.ids is not None
        values, numbers = numbers_of(self.ids)
        target.write_bytes(encode_ids(numbers, [0 if value in self.voided else value for value in values]))


def read_png(path: str) -> Png:
    """The ids of a PNG in RGB; of other files just what they are. Raises :class:`Unreadable`."""
    with image_of(path, "png-broken") as image:
        bits = " and 16 bits a channel" if is_deep(image) else ""
        mode = f"{image.format} of mode {image.mode}{bits}"
        has_ids = image.mode in ("RGB", "RGBA") and image.format != "JPEG" and not bits
        png = Png(path, mode, ids_of_image(image) if has_ids else None, image.mode == "RGBA")
    return png


def read_map(path: str, image_id: Any = None) -> tuple[np.ndarray | None, list[Finding]]:
    """The ids (H, W) of a panoptic PNG, or None and what is wrong with the file; warnings are passed over."""
    place, absence = Place(path, image_id), why_no_file(path)
    if absence:
        return None, [place.found("png-missing", f"{absence}.")]
    try:
        png = read_png(path)
    except Unreadable as problem:
        return None, [place.found(*problem.args)]
    return png.ids, [found for found in png_file_rules(png, image_id, ()) if found.rule.severity == "error"]


def png_file_rules(png: Png, image_id: Any, listed: Sequence[Any]) -> Iterator[Finding]:
    """Findings about a PNG by itself; ``listed`` are the ids that the JSON lists."""
    place, ids = Place(png.path, image_id), png.ids
    if ids is None:
        found = _ids_meant(png.path, {whole for value in listed if (whole := as_whole(value)) is not None})
        fix = _rewriting(png, lambda: found) if found is not None else None
        yield place.found("png-mode", f"is a {png.mode}.", fix)
    elif png.has_alpha:
        yield place.found("png-alpha", "has an alpha channel.", _rewriting(png, lambda: ids))


def png_size_rules(png: Png, size: Size, image_id: Any) -> Iterator[Finding]:
    """A PNG of another size than its image."""
    if not size[0] or png.size == size:
        return
    (width, height), found, ids = size, png.size, png.ids
    assert ids is not None
    rows = (np.arange(height) * found[1] / height).astype(np.int64)
    columns = (np.arange(width) * found[0] / width).astype(np.int64)
    fix = _rewriting(png, lambda: ids[rows][:, columns]) if same_ratio(size, found) else None
    yield Place(png.path, image_id).found("png-size", size_message(found, size), fix)


def size_message(found: Size, said: Size, source: str = "the JSON") -> str:
    """What ``png-size`` finds; both are width, height, the second one according to ``source``."""
    return f"is {found[0]}x{found[1]} pixels; {source} says {said[0]}x{said[1]}."


def unlisted_message(segment_id: int, pixels: int) -> str:
    """What ``png-unlisted`` finds."""
    return f"{pixels} pixels of the id {segment_id}, which the JSON doesn't list"


def absent_message(segment_id: int) -> str:
    """What ``png-absent`` finds."""
    return f"has no pixel of the segment {segment_id}."


def _rewriting(png_: Png, ids: Callable[[], np.ndarray]) -> Fix:
    rewrite = lambda: vars(png_).update(ids=ids(), is_changed=True)  # noqa: E731
    return fixing("saved as an RGB PNG of the image's size", rewrite)


def _ids_meant(path: str, wanted: set[int]) -> np.ndarray | None:
    """In grey or with a palette the ids are still there where they are just the ones that the JSON lists."""
    try:
        with image_of(path, "png-broken") as image:
            forms = [ids_of_image(image)]
            if image.mode in ("P", "L", "I", "I;16"):
                forms.append(np.asarray(image).astype(np.int32))
    except Unreadable:
        return None
    return next((ids for ids in forms if wanted and set(np.unique(ids).tolist()) - {0} == wanted), None)


def extents_of(ids: np.ndarray) -> dict[int, Extent] | None:
    """Pixels and box of every id but void, from (H, W); None for more ids than there are segments."""
    regions = find_regions(ids)
    if len(regions.values) > MOST_SEGMENTS:
        return None
    sizes = regions.boxes[:, 2:] - regions.boxes[:, :2]
    boxes = np.concatenate([regions.boxes[:, :2], sizes], axis=1).tolist()
    found = zip(regions.values.tolist(), regions.areas.tolist(), boxes)
    return {each: Extent("PNG", area, tuple(box), [area]) for each, area, box in found if each}


def extents_rules(png: Png, image_id: Any, extents: Extents | None, segment_ids: set[int]) -> Iterator[Finding]:
    """Findings about the ids of a PNG against those that the JSON lists."""
    place = Place(png.path, image_id)
    if extents is None:
        yield place.found("png-mode", f"has more than {MOST_SEGMENTS} ids: it shows something else.")
        return
    for segment_id in sorted(extents.keys() - segment_ids):
        text = unlisted_message(segment_id, extents[segment_id].pixels)
        here = Place(png.path, image_id, segment_id)
        void = partial(png.voided.append, segment_id)
        yield here.found("png-unlisted", f"has {text}.", fixing(f"{text}, are void now", void, "removed"))
    if not extents:
        yield place.found("png-void", "is void everywhere.")
