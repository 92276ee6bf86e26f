"""The way through one image: its file, its PNG, and what is labelled on it, with a look at pixels.

And what becomes of image files whose pixels, sizes or EXIF tags are wrong.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from PIL import Image

from .. import image_reading, panoptic_png
from ..archives import copy_file, is_file
from ..values import Size, Unreadable, as_whole, is_whole, shown
from .annotations import extent_rules, geometry_rules, is_usable, segment_id_rules
from .images import ImageTask, resizing, size_rules
from .masks import drawn_rules, object_rules, place_of
from .rule import Done, Fault, Finding, Fix, Listing, Place, Walk, fixing

Entry = dict[str, Any]
#: Rules of an image of another size than its labels.
SIZE_CODES = ("image-size", "image-turned")
Read = TypeVar("Read")

_WRITTEN = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")
#: What Pillow keeps of an image, and would write again.
_FORGOTTEN = (*image_reading.INFO_OF_EXIF, "transparency")


@dataclass(frozen=True)
class FilePlan:
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
    """An image file that was read to its last pixel, and what it is to become; ``image`` is as Pillow opened it."""

    path: str
    image: Image.Image
    read: image_reading.LoadedImage
    plan: FilePlan = field(default_factory=FilePlan)

    @property
    def shown_size(self) -> Size:
        """width, height as it is shown, once the plan is carried out."""
        if self.plan.resized:
            return self.plan.resized
        is_turned = self.read.orientation in image_reading.TURNED_SIDEWAYS and not self.plan.as_stored
        return self.read.size[::-1] if is_turned else self.read.size


@dataclass
class SeenImage:
    """What was seen of an image: its file and PNG, where they are known and can be read, and the labels that stay."""

    image: ImageFile | None = None
    png: panoptic_png.Png | None = None
    labels: list[Entry] = field(default_factory=list)


def image_faults(task: ImageTask) -> list[Fault]:
    """Faults of one image, its PNG and what is drawn on it."""
    return list(Listing(walk_image(task)))


def walk_image(task: ImageTask) -> Walk[SeenImage | None]:
    """What is wrong with an image and the labels on it, as far as pixels say it.

    What isn't there is no fault here: the names have been looked at before.

    Returns:
        What is left; None where the image has to be left out.
    """
    seen, image_id = SeenImage(), task.listed.image_id
    if not (yield _reading_rules(task, seen)):
        return None
    size, masks = task.listed.size, set()
    if task.entry is not None:
        masks = sizes_of_masks(task.labels) if seen.png is None else {seen.png.size}
        known = next(iter(masks)) if len(masks) == 1 else seen.image.shown_size if seen.image else None
        if not (yield size_rules(task.entry, Place(task.file, image_id), known)):
            return None
    if seen.image is not None:
        said = task.entry or {"width": size[0], "height": size[1]}
        if not (yield image_file_rules(seen.image, image_id, said if said["width"] else None, masks)):
            return None
    if task.entry is not None:
        size = task.entry["width"], task.entry["height"]
    if task.is_panoptic:
        is_right = yield from _walk_segments(task, seen, size)
        if not is_right:
            return None
    elif task.entry is None:
        yield drawn_rules(task.labels, size, task.file, image_id)
    else:
        for label in task.labels:
            if (yield object_rules(label, size, place_of(label, task.file, image_id))):
                seen.labels.append(label)
    return seen if (yield _left_rules(task, seen)) else None


def _reading_rules(task: ImageTask, seen_: SeenImage) -> Iterator[Finding]:
    """Files that can't be read, and PNGs that are none."""
    path, image_id = task.listed.path, task.listed.image_id
    try:
        seen_.image = _quietly(read_image_file, path)
    except Unreadable as problem:
        yield Place(path or "", image_id).found(*problem.args)
    try:
        png = _quietly(panoptic_png.read_png, task.png)
    except Unreadable as problem:
        yield Place(task.png or "", image_id).found(*problem.args)
    else:
        if png is not None:
            yield from panoptic_png.png_file_rules(png, image_id, [segment.get("id") for segment in task.labels])
            seen_.png = png if png.ids is not None else None


def _quietly(read: Callable[[str], Read], path: str | None) -> Read | None:
    """A file, if it is there, without Pillow's warnings of sizes and odd EXIF data, which the rules look at."""
    if path is None or not is_file(path):
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return read(path)


def read_image_file(path: str) -> ImageFile:
    """Read an image, on disk or in a zip; raises :class:`Unreadable`."""
    with image_reading.image_of(path, "image-broken") as image:
        file = ImageFile(path, image, image_reading.load_image(image))
    return file


def _walk_segments(task: ImageTask, seen_: SeenImage, size: Size) -> Walk[bool]:
    """Segments against their PNG; False where that is of something else."""
    image_id, png = task.listed.image_id, seen_.png
    extents: panoptic_png.Extents | None = None
    if png is None and task.entry is None:
        return True
    if png is not None:
        if not (yield panoptic_png.png_size_rules(png, size, image_id)):
            return False
        assert png.ids is not None
        extents = panoptic_png.extents_of(png.ids)
        if extents is None:
            return (yield panoptic_png.extents_rules(png, image_id, None, set()))
    taken: set[int] = set()
    for segment in sorted(task.labels, key=lambda segment: not is_usable(as_whole(segment.get("id")))):
        place = Place(task.file, image_id, segment.get("id"), "segment")
        if (yield _segment_rules(segment, taken, place, png, extents)):
            taken.add(segment["id"])
            seen_.labels.append(segment)
    if png is not None:
        yield panoptic_png.extents_rules(png, image_id, extents, taken)
    for segment in seen_.labels:
        extent = (extents or {}).get(segment["id"])
        place = Place(task.file, image_id, segment["id"], f"segment {segment['id']}")
        if task.entry is not None:
            yield geometry_rules(segment, size, place, extent)
        if extent is not None:
            yield extent_rules(segment, extent, place)
    return True


def _segment_rules(
    segment: Entry, taken: set[int], place: Place, png: panoptic_png.Png | None, extents: panoptic_png.Extents | None
) -> Iterator[Finding]:
    yield from segment_id_rules(segment, taken, place, extents)
    if png is not None and extents is not None and segment["id"] not in extents:
        here = Place(png.path, place.image_id, segment["id"])
        yield here.found("png-absent", panoptic_png.absent_message(segment["id"]))


def sizes_of_masks(annotations: Sequence[Entry]) -> set[Size]:
    """width, height of the run lengths; of several sizes that of most of them."""
    found: Counter[Size] = Counter()
    for entry in annotations:
        runs = entry.get("segmentation")
        size = runs.get("size") if isinstance(runs, dict) else None
        if isinstance(size, list) and len(size) == 2 and all(is_whole(side) and side > 0 for side in size):
            found[(size[1], size[0])] += 1
    most = found.most_common(2)
    return {size for size, count in most if count == most[0][1]}


def _left_rules(task: ImageTask, seen: SeenImage) -> Iterator[Finding]:
    """An image that has lost all its labels goes, so that nothing is learnt to be background."""
    if task.entry is not None and task.count and not seen.labels and not task.may_lose_labels:
        text = f"{shown(task.entry.get('file_name'))} has no label left that is right"
        place = Place(task.listed.path or task.file, task.listed.image_id)
        yield place.found("image-unlabelled", text, lambda: Done("removed", text, is_gone=True))


def image_file_rules(
    file: ImageFile, image_id: Any, entry: Entry | None, masks: Set[Size] = frozenset()
) -> Iterator[Finding]:
    """Findings about an image file that can be read.

    Args:
        file: its plan is what is fixed.
        image_id: in the JSON.
        entry: its ``width`` and ``height`` are right by themselves, and fixed; None where the JSON says none.
        masks: sizes of the masks on it, if they have some: when all agree, they say which size is right.
    """
    place, read = Place(file.path, image_id), file.read
    if entry is not None and (entry["width"], entry["height"]) != file.shown_size:
        yield _size_finding(file, place, entry, masks)
    elif read.orientation not in (None, 1):
        yield place.found("image-orientation", f"is turned by its EXIF tag (orientation {read.orientation}).")
    if read.frames > 1:
        fix = _planning(file, "saved as RGB, its first image alone", plain=True)
        yield place.found("image-frames", f"has {read.frames} images in one file.", fix)
    if read.is_deep or read.mode not in image_reading.PLAIN_MODES:
        fix = _planning(file, f"saved as RGB, 8 bits a channel (it was {shown(read.mode)})", plain=True)
        if read.is_deep:
            yield place.found("image-depth", f"has more than 8 bits a channel (mode {read.mode}).", fix)
        else:
            yield place.found("image-mode", f"has the mode {read.mode}.", fix)


def _size_finding(file: ImageFile, place: Place, entry_: Entry, masks: Set[Size]) -> Finding:
    """What is right where the JSON and the file differ: masks are of a size, too, and decide."""
    upright, stored, said = file.shown_size, file.read.size, (entry_["width"], entry_["height"])
    sizes = f"is {upright[0]}x{upright[1]} pixels upright; its labels are for {said[0]}x{said[1]}"
    evidence = next(iter(masks)) if len(masks) == 1 else None
    text = f"{said[0]}x{said[1]} pixels, as its labels are"
    fix: Fix | None = None
    if evidence == upright:
        fix = resizing(entry_, upright, ", as it is")
    elif said == stored:
        fix = _planning(file, f"saved without the EXIF tag that turns it: {text}", as_stored=True)
    elif evidence in (None, said) and image_reading.same_ratio(said, upright):
        fix = _planning(file, f"resized from {upright[0]}x{upright[1]} to {text}", resized=said)
    if said == stored:
        tag = f"as before its EXIF tag {file.read.orientation} turns it"
        return place.found("image-turned", f"{sizes}, {tag}.", fix)
    return place.found("image-size", f"{sizes}.", fix)


def _planning(file_: ImageFile, text: str, **changes: Any) -> Fix:
    return fixing(text, lambda: setattr(file_, "plan", replace(file_.plan, **changes)))


def planned_pixels(file: ImageFile) -> Image.Image:
    """The image as its plan has it, without what would turn it again."""
    plan, read = file.plan, file.read
    changed = read.pixels if plan.as_stored else image_reading.turned(read.pixels, read.orientation)
    for key in _FORGOTTEN:
        changed.info.pop(key, None)
    changed = changed.convert("RGB") if plan.plain else changed
    return changed.resize(plan.resized, Image.Resampling.LANCZOS) if plan.resized else changed


def write_image_file(file: ImageFile, target: Path) -> Path:
    """The image as its plan has it; returns where it is: another ending where this kind of image can't be written."""
    target.parent.mkdir(parents=True, exist_ok=True)
    plan, kind = file.plan, file.image.format
    if plan.is_copy:
        copy_file(file.path, target)
        return target
    changed = planned_pixels(file)
    if kind == "JPEG" and not (plan.resized or plan.plain):
        file.image.save(target, "JPEG", quality="keep")  # the same tables: as good as lossless
        return target
    if kind not in _WRITTEN:
        kind = "JPEG" if kind == "MPO" else "PNG"
        target = target if kind == "JPEG" else target.with_name(f"{target.name}.png")
    options: dict[str, Any] = {"quality": 95} if kind in ("JPEG", "WEBP") else {}
    changed.save(target, kind, **options)
    return target
