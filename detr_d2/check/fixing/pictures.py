"""Mending picture files: upright, 8 bits a channel, in RGB, and of the size that their labels are of."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Set
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image

from detr_d2.labels.file_places import copy_file, opened
from detr_d2.labels.image_decoding import (
    INFO_OF_EXIF,
    TURNED_SIDEWAYS,
    is_deep,
    load_eight_bits,
    open_image,
    orientation_of,
    turned,
)
from detr_d2.labels.image_size import MOST_PIXELS, size_problem

from ..faults import shown
from ..pictures import PLAIN_MODES, reason

#: width, height
Size = tuple[int, int]

#: Sizes whose sides' ratios differ by no more than this are of one picture, made smaller or larger.
_SAME_RATIO = 0.01
_WRITTEN = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")
#: What Pillow keeps of a picture, and would write again.
_FORGOTTEN = (*INFO_OF_EXIF, "transparency")


class Incurable(Exception):
    """Something can't be mended; ``args`` are the code of its fault and a sentence."""


@dataclass(frozen=True)
class Plan:
    """How a picture becomes that of the copy; nothing of it: it is copied byte by byte.

    Args:
        size: of the copy.
        as_stored: the EXIF tag that turns it goes.
        resized: it gets the size of its labels.
        plain: it becomes RGB of 8 bits a channel.
    """

    size: Size
    as_stored: bool = False
    resized: bool = False
    plain: bool = False

    @property
    def is_copy(self) -> bool:
        """Whether the file stays as it is."""
        return not (self.as_stored or self.resized or self.plain)


@dataclass(frozen=True)
class Seen:
    """What a picture's file is.

    Args:
        stored: size before an EXIF tag turns it.
        upright: size after that.
        mode: Pillow's.
        is_deep: a channel has more than 8 bits.
    """

    stored: Size
    upright: Size
    mode: str
    is_deep: bool = False


def look(path: str) -> Seen:
    """Read a picture to its last pixel.

    Raises:
        Incurable: it can't be read.
    """
    try:
        with _opened(path) as picture:
            stored, mode, has_more_bits = picture.size, picture.mode, is_deep(picture)
            if stored[0] * stored[1] > MOST_PIXELS:
                raise Incurable("picture-large", f"has {stored[0]}x{stored[1]} pixels")
            load_eight_bits(picture)
            is_sideways = orientation_of(picture) in TURNED_SIDEWAYS
    except Incurable:
        raise
    except Image.DecompressionBombError as error:
        raise Incurable("picture-large", f"{error}") from error
    except Exception as error:  # decoders raise whatever they like on broken files
        raise Incurable("picture-broken", f"can't be read: {reason(path, error)}") from error
    return Seen(stored, stored[::-1] if is_sideways else stored, mode, has_more_bits)


def said_size(entry: dict[str, Any]) -> Size | None:
    """The size in an entry of ``images``; None where it says none that can be."""
    return None if size_problem(entry) else (entry["width"], entry["height"])


def size_code(entry: dict[str, Any]) -> str:
    """Which fault an entry of ``images`` has that says no size."""
    problem = size_problem(entry)
    return problem[0] if problem else ""


def settle(said: Size | None, seen: Seen | None, sizes_of_masks: Set[Size]) -> tuple[Plan, str]:
    """What is right where the JSON, the picture and the masks differ, and the code of the fault if they do.

    Masks are of a size, too; if all of a picture's agree, they decide. A picture whose sides have the right ratio is
    resized to what its labels are of.

    Args:
        said: size in the JSON, or None.
        seen: the picture, or None where its folder isn't known.
        sizes_of_masks: of run lengths, or of the PNG.

    Raises:
        Incurable: nobody knows what the labels are of.
    """
    evidence = next(iter(sizes_of_masks)) if len(sizes_of_masks) == 1 else None
    if seen is None:
        if said is None and evidence is None:
            raise Incurable("json-key", "has no width and height, and no picture to take them from")
        return Plan(said or evidence or (0, 0)), "" if said else "picture-size"
    plain = seen.mode not in PLAIN_MODES or seen.is_deep
    wanted = said or evidence or seen.upright
    if evidence == seen.upright:
        wanted = seen.upright
    if wanted == seen.upright:
        return Plan(wanted, plain=plain), "" if said == wanted else "picture-size"
    if wanted == seen.stored:
        return Plan(wanted, as_stored=True, plain=plain), "picture-turned"
    if evidence in (None, wanted) and same_ratio(wanted, seen.upright):
        return Plan(wanted, resized=True, plain=plain), "picture-size"
    sizes = f"is {seen.upright[0]}x{seen.upright[1]} pixels; its labels are of {wanted[0]}x{wanted[1]}"
    raise Incurable("picture-size", sizes)


def same_ratio(first: Size, second: Size) -> bool:
    """Whether pictures of these sizes can be one, made smaller or larger."""
    ratio = first[0] * second[1] / (first[1] * second[0])
    return abs(ratio - 1) <= _SAME_RATIO


def write_picture(source: str, plan: Plan, target: Path) -> Path:
    """The picture of the copy.

    Args:
        source: the original.
        plan: what to do with it.
        target: where to; another ending where this kind of picture can't be written, another name where a picture of
            another plan is there already.

    Returns:
        Where it is.

    Raises:
        OSError: it can't be written.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    if plan.is_copy:
        copy_file(source, target)
        return target
    with _opened(source) as picture:
        kind = picture.format if picture.format in _WRITTEN else "JPEG" if picture.format == "MPO" else "PNG"
        target = target if picture.format in _WRITTEN or kind == "JPEG" else target.with_name(f"{target.name}.png")
        loaded = load_eight_bits(picture)
        changed = loaded if plan.as_stored else turned(loaded, orientation_of(picture))
        for key in _FORGOTTEN:
            changed.info.pop(key, None)
        if picture.format == "JPEG" and replace(plan, as_stored=False).is_copy:
            picture.save(target, "JPEG", quality="keep")  # the same tables: as good as lossless
            return target
        changed = changed.convert("RGB") if plan.plain else changed
        if plan.resized:
            changed = changed.resize(plan.size, Image.Resampling.LANCZOS)
        options: dict[str, Any] = {"quality": 95} if kind in ("JPEG", "WEBP") else {}
        changed.save(target, kind, **options)
    return target


def changes_of(plan: Plan, seen: Seen, code: str) -> Iterator[tuple[str, str]]:
    """Code and sentence of each thing that a plan does."""
    width, height = plan.size
    if plan.as_stored:
        yield code, f"saved without the EXIF tag that turns it: {width}x{height} pixels, as its labels are"
    elif plan.resized:
        yield code, f"resized from {seen.upright[0]}x{seen.upright[1]} to {width}x{height} pixels, as its labels are"
    elif code:
        yield code, f"width and height are {width} and {height} now, as it is"
    if plan.plain:
        code = "picture-depth" if seen.is_deep else "picture-mode"
        yield code, f"saved as RGB, 8 bits a channel (it was {shown(seen.mode)})"


@contextmanager
def _opened(path: str) -> Iterator[Image.Image]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of sizes and of odd EXIF data; both are looked at
        with opened(path) as file, open_image(file) as picture:
            yield picture
