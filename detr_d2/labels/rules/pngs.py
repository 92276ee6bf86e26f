"""Rules of panoptic PNGs: in RGB, of the image's size, with the ids that the JSON lists."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..archives import copy_file
from ..image_reading import is_deep
from ..panoptic_png import encode_ids, find_regions, ids_of_image, numbers_of
from ..values import Size, as_whole
from .annotations import Extent
from .image_files import image_of, same_ratio
from .rule import Finding, Fix, Place, Unreadable, fixing

#: More ids than this in one image are no segments; training refuses them too.
MOST_SEGMENTS = 2**16 - 1

#: By id, what the pixels of a segment say.
Extents = Mapping[int, Extent]


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
        """The PNG of a copy: the original's bytes if nothing changed.

        Raises:
            OSError: it can't be written.
        """
        target.parent.mkdir(parents=True, exist_ok=True)
        if not self.is_changed and not self.voided:
            copy_file(self.path, target)
            return
        assert self.ids is not None
        values, numbers = numbers_of(self.ids)
        target.write_bytes(encode_ids(numbers, [0 if value in self.voided else value for value in values]))


def read_png(path: str) -> Png:
    """The ids of a PNG in RGB; of other files just what they are.

    Raises:
        Unreadable: it can't be read.
    """
    with image_of(path, "png-broken") as image:
        bits = " and 16 bits a channel" if is_deep(image) else ""
        mode = f"{image.format} of mode {image.mode}{bits}"
        has_ids = image.mode in ("RGB", "RGBA") and image.format != "JPEG" and not bits
        png = Png(path, mode, ids_of_image(image) if has_ids else None, image.mode == "RGBA")
    return png


def png_file_rules(png: Png, image_id: Any, listed: Sequence[Any]) -> Iterator[Finding]:
    """Findings about a PNG by itself; ``listed`` are the ids that the JSON lists."""
    place, ids = Place(png.path, image_id), png.ids
    if ids is None:
        found = _ids_meant(png.path, {whole for value in listed if (whole := as_whole(value)) is not None})
        yield place.found(
            "png-mode", f"is a {png.mode}.", _rewriting(png, lambda: found) if found is not None else None
        )
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
