"""Rules of image files: what is wrong with their pixels, sizes and EXIF tags, and the files that are right instead."""

from __future__ import annotations

from collections.abc import Iterator, Set
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from PIL import Image

from ..archives import copy_file, opened, size_of
from ..image_reading import (
    INFO_OF_EXIF,
    PLAIN_MODES,
    TURNED_SIDEWAYS,
    LoadedImage,
    load_image,
    open_image,
    turned,
    unreadable_reason,
)
from ..values import MOST_PIXELS, Size, shown
from .images import resizing
from .rule import Finding, Fix, Place, Unreadable, fixing

#: Sizes whose sides' ratios differ by no more than this are of one image, made smaller or larger.
_SAME_RATIO = 0.01
_WRITTEN = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")
#: What Pillow keeps of an image, and would write again.
_FORGOTTEN = (*INFO_OF_EXIF, "transparency")


@dataclass(frozen=True)
class Plan:
    """How an image becomes that of a copy; nothing of it: it is copied byte by byte.

    Args:
        as_stored: the EXIF tag that turns it goes.
        resized: the size that it gets, that of its labels.
        plain: it becomes RGB of 8 bits a channel.
    """

    as_stored: bool = False
    resized: Size | None = None
    plain: bool = False

    @property
    def is_copy(self) -> bool:
        """Whether the file stays as it is."""
        return not (self.as_stored or self.resized or self.plain)


@dataclass
class ImageFile:
    """An image file that was read to its last pixel.

    Args:
        path: where it is.
        image: as Pillow opened it.
        read: what was read.
        plan: what it is to become.
    """

    path: str
    image: Image.Image
    read: LoadedImage
    plan: Plan = field(default_factory=Plan)

    @property
    def shown_size(self) -> Size:
        """width, height as it is shown, once the plan is carried out."""
        if self.plan.resized:
            return self.plan.resized
        is_turned = self.read.orientation in TURNED_SIDEWAYS and not self.plan.as_stored
        return self.read.size[::-1] if is_turned else self.read.size


@contextmanager
def image_of(path: str, broken: str) -> Iterator[Image.Image]:
    """An image, on disk or in a zip, to be read within; ``broken`` is the rule of images that can't be.

    Raises:
        Unreadable: it can't be read.
    """
    try:
        with opened(path) as file, open_image(file) as image:
            if image.width * image.height > MOST_PIXELS:
                raise Unreadable("image-large", f"has {image.width}x{image.height} pixels.")
            yield image
    except Unreadable:
        raise
    except Image.DecompressionBombError as error:
        raise Unreadable("image-large", f"{error}") from error
    except Exception as error:  # decoders raise whatever they like on broken files
        raise Unreadable(broken, f"can't be read: {unreadable_reason(error, size_of(path))}.") from error


def read_image_file(path: str) -> ImageFile:
    """Read an image to its last pixel; raises as :func:`image_of`."""
    with image_of(path, "image-broken") as image:
        file = ImageFile(path, image, load_image(image))
    return file


def image_file_rules(
    file: ImageFile, image_id: Any, entry: dict[str, Any] | None, masks: Set[Size] = frozenset()
) -> Iterator[Finding]:
    """Findings about an image file that can be read.

    Args:
        file: its plan is what is fixed.
        image_id: in the JSON.
        entry: its ``width`` and ``height`` are right by themselves, and fixed; None where the JSON says none.
        masks: sizes of the masks on it, if they have some: when all agree, they say which size is right.
    """
    place = Place(file.path, image_id)
    said = (entry["width"], entry["height"]) if entry is not None else None
    if said is not None and said != file.shown_size:
        yield _size_finding(file, place, entry or {}, said, masks)
    elif file.read.orientation not in (None, 1):
        yield place.found("image-orientation", f"is turned by its EXIF tag (orientation {file.read.orientation}).")
    if file.read.is_deep:
        message = f"has more than 8 bits a channel (mode {file.read.mode})."
        yield place.found("image-depth", message, _planning(file, _PLAIN.format(shown(file.read.mode)), plain=True))
    elif file.read.mode not in PLAIN_MODES:
        message = f"has the mode {file.read.mode}."
        yield place.found("image-mode", message, _planning(file, _PLAIN.format(shown(file.read.mode)), plain=True))


_PLAIN = "saved as RGB, 8 bits a channel (it was {})"


def _size_finding(file: ImageFile, place: Place, entry_: dict[str, Any], said: Size, masks: Set[Size]) -> Finding:
    """What is right where the JSON and the file differ: masks are of a size, too, and decide."""
    upright, stored = file.shown_size, file.read.size
    sizes = f"is {upright[0]}x{upright[1]} pixels upright; the JSON says {said[0]}x{said[1]}"
    evidence = next(iter(masks)) if len(masks) == 1 else None
    text = f"{said[0]}x{said[1]} pixels, as its labels are"
    fix: Fix | None = None
    if evidence == upright:
        fix = resizing(entry_, upright, ", as it is")
    elif said == stored:
        fix = _planning(file, f"saved without the EXIF tag that turns it: {text}", as_stored=True)
    elif evidence in (None, said) and same_ratio(said, upright):
        fix = _planning(file, f"resized from {upright[0]}x{upright[1]} to {text}", resized=said)
    if said == stored:
        tag = f"as before its EXIF tag {file.read.orientation} turns it"
        return place.found("image-turned", f"{sizes}, {tag}.", fix)
    return place.found("image-size", f"{sizes}.", fix)


def _planning(file_: ImageFile, text: str, **changes: Any) -> Fix:
    return fixing(text, lambda: setattr(file_, "plan", replace(file_.plan, **changes)))


def same_ratio(first: Size, second: Size) -> bool:
    """Whether images of these sizes can be one, made smaller or larger."""
    ratio = first[0] * second[1] / (first[1] * second[0])
    return abs(ratio - 1) <= _SAME_RATIO


def write_image_file(file: ImageFile, target: Path) -> Path:
    """The image as its plan has it.

    Args:
        file: the original.
        target: where to; another ending where this kind of image can't be written.

    Returns:
        Where it is.

    Raises:
        OSError: it can't be written.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    plan, kind = file.plan, file.image.format
    if plan.is_copy:
        copy_file(file.path, target)
        return target
    changed = file.read.pixels if plan.as_stored else turned(file.read.pixels, file.read.orientation)
    for key in _FORGOTTEN:
        changed.info.pop(key, None)
    if kind == "JPEG" and not (plan.resized or plan.plain):
        file.image.save(target, "JPEG", quality="keep")  # the same tables: as good as lossless
        return target
    if kind not in _WRITTEN:
        kind = "JPEG" if kind == "MPO" else "PNG"
        target = target if kind == "JPEG" else target.with_name(f"{target.name}.png")
    changed = changed.convert("RGB") if plan.plain else changed
    if plan.resized:
        changed = changed.resize(plan.resized, Image.Resampling.LANCZOS)
    options: dict[str, Any] = {"quality": 95} if kind in ("JPEG", "WEBP") else {}
    changed.save(target, kind, **options)
    return target
