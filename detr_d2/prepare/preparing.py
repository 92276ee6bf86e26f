"""The images of all exports, each with a name of its own, and one on its way into the dataset: what a worker does.

Images are read as their labels see them: 8 bits a channel, turned by EXIF or not, whichever the labels fit.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import os
import re
import shutil
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from detr_d2.errors import DatasetError, MissingFileError
from detr_d2.files import numbered_names, real_path
from detr_d2.labels.image_reading import (
    INFO_OF_EXIF,
    PLAIN_MODES,
    TURNED_SIDEWAYS,
    TooManyPixels,
    load_image,
    open_image,
    turned,
    unreadable_reason,
)
from detr_d2.labels.panoptic_png import encode_ids
from detr_d2.labels.records import Export, FileRef, ImageRecord, Note
from detr_d2.labels.rules.splits import image_hash
from detr_d2.labels.values import is_text

from .classes import LabelRules
from .drawing import Source, draw_labels, fill_rest, measure
from .journal import ImageResult, WritingError
from .options import PrepareOptions

if TYPE_CHECKING:
    from .stuff.policies import StuffPolicy

_SHOWN = 10
_ODD = re.compile(r'[\x00-\x1f<>:"\\|?*]')
_COPIED_FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "BMP", "TIFF")
#: Written as they are, whatever else an image may be called; others would surprise programs that go by the name.
_USUAL_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")


@dataclass(frozen=True)
class Task:
    """An image to prepare.

    Its record's name is ``<export>/<name>``, unique; ``target``, what its files are called, is the name without suffix,
    unique on every file system.
    """

    record: ImageRecord
    target: str
    is_cvat: bool
    source: Source

    @property
    def fills_rest(self) -> bool:
        """Whether the stuff policy is asked for what isn't labelled: COCO's annotators looked at every pixel."""
        return self.source != "coco"


def make_tasks(exports: Sequence[Export]) -> list[Task]:
    """All images in the order of the exports. Names are ``<export>/<name>``; those of files are unique.

    A file's name is unique without its suffix and whatever its case, as ``1.jpg`` and ``1.PNG`` share a PNG of masks,
    and some systems ignore case. The second of a name gets ``_2``, and so on.

    Raises:
        DatasetError: a name leads out of its folder, or isn't text.
    """
    wrong = [f"the export {export.file}" for export in exports if not is_text(export.name)]
    wrong += [f"{one.name} of {export.file}" for export in exports for one in export.images if not is_text(one.name)]
    if wrong:
        shown = ", ".join(wrong[:_SHOWN]) + (f", and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else "")
        raise DatasetError(
            f"names of folders and images have to be text in UTF-8, and these aren't: {shown}. "
            "Rename them, in the export's labels, too."
        )
    folders = numbered_names([export.name for export in exports])
    found = [(export, folder, record) for export, folder in zip(exports, folders) for record in export.images]
    targets = numbered_names([f"{_ODD.sub('_', folder)}/{_stem(record.name)}.png" for _, folder, record in found])
    return [
        Task(replace(record, name=f"{folder}/{record.name}"), name.removesuffix(".png"), export.is_cvat, export.source)
        for (export, folder, record), name in zip(found, targets)
    ]


def _stem(name: str) -> str:
    """The name without suffix, of characters that every file system takes."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.name:
        raise DatasetError(f"an image's name is {name!r}, which leads out of the dataset. Export it again.")
    return _ODD.sub("_", str(path.with_suffix("") if path.stem.strip(".") else path))


def task_key(task: Task, others: Iterable[Path] = ()) -> str:
    """Names an image, its labels and the state of all files that are read for it, of which ``others`` are more.

    Another key, other results.
    """
    digest = hashlib.sha256(repr(task).encode("utf-8", "surrogatepass"))
    for file in sorted({ref.path for ref in _files_of(task)} | set(others)):
        try:
            state = file.stat()
        except OSError:
            digest.update(b"absent")
            continue
        digest.update(f"{file}:{state.st_size}:{state.st_mtime_ns}".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()[:32]


def _files_of(thing: Any) -> Iterator[FileRef]:
    """The files that a record and what is in it name; labels that are known have none."""
    if isinstance(thing, FileRef):
        yield thing
    elif dataclasses.is_dataclass(thing) and not isinstance(thing, type):
        for field in dataclasses.fields(thing):
            yield from _files_of(getattr(thing, field.name))


class UnusableImage(DatasetError):
    """An image that can't be part of a dataset; ``code`` is the same for all of a kind, such as ``image-broken``."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Preparer:
    """Prepares images: writes ``images/`` and ``panoptic/`` below a folder; it is sent to the worker processes."""

    folder: Path
    rules: LabelRules
    policy: StuffPolicy
    options: PrepareOptions

    def __call__(self, task: Task) -> ImageResult:
        """Prepare an image: write its two files, and say what they are. An image that can't be used is skipped.

        Raises:
            WritingError: the dataset's folder can't be written.
        """
        try:
            return self._prepare(task)
        except (DatasetError, MissingFileError) as error:
            is_missing = isinstance(error, MissingFileError)
            code = "image-missing" if is_missing else getattr(error, "code", "labels-broken")
            return ImageResult(task.record.name, skipped=code, why=str(error))

    def _prepare(self, task: Task) -> ImageResult:
        name, rules = task.record.name, self.rules
        decoded = decode(task.record)
        late: list[Note] = []
        labels = task.record.read_labels(late)
        canvas = draw_labels(labels, rules, decoded.image.size[::-1], task.is_cvat, task.source)
        if task.fills_rest:
            pixels = decoded.pixels() if self.policy.needs_pixels else None
            fill_rest(canvas, self.policy(pixels, ~canvas.is_taken, name), rules.table, rules.min_area)
        notes = [Note(code, message) for code, message in decoded.notes] + late + canvas.notes
        result = ImageResult(
            name,
            dropped=tuple(canvas.dropped),
            notes=tuple(replace(note, image=name) for note in notes),
            overlaps=tuple(canvas.overlaps),
        )
        if not canvas.segments:
            why = f"{name} has no label." if not labels else f"{name}: none of its labels is left."
            return replace(result, skipped="no-segment", why=why)
        segments = measure(canvas, rules.table)
        image, png = self._write(task, decoded, encode_ids(canvas.numbers, [0, *(one.id for one in segments)]))
        return replace(
            result,
            file_name=image.relative_to(self.folder / "images").as_posix(),
            png=png.relative_to(self.folder / "panoptic").as_posix(),
            width=decoded.image.width,
            height=decoded.image.height,
            sizes=(os.path.getsize(image), os.path.getsize(png)),
            look=image_hash(decoded.image),
            segments=tuple(segments),
        )

    def _write(self, task: Task, decoded: Decoded, masks: bytes) -> tuple[Path, Path]:
        """Writes the image and its PNG; their paths."""
        suffix = PurePosixPath(task.record.name).suffix
        is_jpeg = self.options.images == "jpeg"
        keeps_file = decoded.is_plain and not is_jpeg and suffix.lower() in _USUAL_SUFFIXES
        if not keeps_file:
            suffix = ".jpg" if decoded.is_lossy or is_jpeg else ".png"
        image, panoptic = (
            self.folder / "images" / (task.target + suffix),
            self.folder / "panoptic" / f"{task.target}.png",
        )
        try:
            for path in (image, panoptic):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.unlink(missing_ok=True)  # of an interrupted run; it may be a link
            if keeps_file and self.options.images == "link" and not task.record.image.member:
                _link(task.record.image.path, image)
            else:
                image.write_bytes(decoded.content if keeps_file else encode(decoded, suffix, self.options.quality))
            panoptic.write_bytes(masks)
        except OSError as error:
            raise WritingError(
                f"{image.parent} can't be written: {error.strerror or error}. Correct that and run the same command "
                "again; it goes on where it stopped."
            ) from error
        return image, panoptic


def _link(source: Path, path: Path) -> None:
    """A hard link, or where the file systems differ a symbolic one; the file is the user's and never is written to."""
    real = real_path(source)
    for way in (os.link, os.symlink):
        try:
            return way(real, path)
        except OSError:  # it isn't allowed here
            continue
    shutil.copyfile(real, path)


@dataclass(frozen=True)
class Decoded:
    """An image that was read to its last pixel, of mode RGB or L, turned as its labels are.

    Args:
        is_plain: the file shows this to every program, so its bytes can be copied; else it has to be written anew.
        is_lossy: it was a JPEG.
        notes: what was changed, each a code and a sentence.
    """

    image: Image.Image
    content: bytes
    is_plain: bool
    is_lossy: bool
    notes: tuple[tuple[str, str], ...] = ()

    def pixels(self) -> np.ndarray:
        """(H, W, 3) uint8, RGB."""
        return np.asarray(self.image.convert("RGB"))


def decode(record: ImageRecord) -> Decoded:
    """Read an image as its labels see it.

    Raises:
        UnusableImage: it can't be read, or has another size than its labels.
        MissingFileError: it isn't there.
    """
    try:
        content = record.image.read()
    except DatasetError as error:
        raise UnusableImage("image-broken", str(error)) from error
    if not content:
        raise UnusableImage("image-broken", f"{record.image} is empty. Restore it from its origin.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of sizes and odd EXIF data, both looked at here
            with open_image(io.BytesIO(content)) as image:
                return _decode_opened(image, content, record)
    except UnusableImage:
        raise
    except TooManyPixels as error:
        raise UnusableImage("image-large", f"{record.image} has {error}; too many.") from error
    except Image.DecompressionBombError as error:
        raise UnusableImage("image-large", f"{record.image} is too large: {error}") from error
    except Exception as error:  # decoders raise whatever they like on broken files
        why = unreadable_reason(error, len(content))
        raise UnusableImage("image-broken", f"{record.image} can't be read: {why}.") from error


def _decode_opened(image: Image.Image, content: bytes, record: ImageRecord) -> Decoded:
    kind, frames = image.format or "", getattr(image, "n_frames", 1)
    read = load_image(image)
    orientation = read.orientation or 1
    is_turned, notes = _turning(read.size, orientation, record)
    upright = turned(read.pixels, orientation) if is_turned else read.pixels
    plain = upright if upright.mode in PLAIN_MODES else upright.convert("RGB")
    for key in INFO_OF_EXIF:
        plain.info.pop(key, None)
    is_of_plain_mode = read.mode in PLAIN_MODES and not read.is_deep
    if not is_of_plain_mode:
        bits = " and more than 8 bits a channel" if read.is_deep else ""
        notes.append(("image-mode", f"of mode {read.mode}{bits}, saved as {plain.mode} with 8 bits a channel."))
    is_single = frames == 1 or kind == "MPO"
    is_plain = is_of_plain_mode and orientation == 1 and kind in _COPIED_FORMATS and is_single
    if not is_single:
        notes.append(("image-frames", f"has {frames} images in one file; the first one is taken."))
    return Decoded(plain, content, is_plain, kind in ("JPEG", "MPO"), tuple(notes))


def _turning(stored: tuple[int, int], orientation: int, record: ImageRecord) -> tuple[bool, list[tuple[str, str]]]:
    """Whether EXIF's turn is applied, so that the image has the size that was labelled, and what there is to say."""
    said = (record.width, record.height)
    upright = stored[::-1] if orientation in TURNED_SIDEWAYS else stored
    if min(said) < 1:
        said = upright
    if said not in (upright, stored):
        raise UnusableImage(
            "image-size",
            f"{record.image} is {upright[0]}x{upright[1]} pixels, its labels are for {said[0]}x{said[1]}. "
            "Take the image that was labelled.",
        )
    if orientation == 1:
        return False, []
    tag = f"its EXIF tag (orientation {orientation})"
    if said != upright:
        return False, [("exif-refused", f"labelled as before {tag} turns it; saved so, without the tag.")]
    if stored == upright:
        return True, [("exif-unsure", f"turned as {tag} says; see whether the labels fit, as the size doesn't tell.")]
    return True, [("exif-applied", f"turned as {tag} says, as it was when it was labelled.")]


def encode(decoded: Decoded, suffix: str, quality: int = 95) -> bytes:
    """The image as a JPEG (``.jpg``) or a PNG (``.png``), without EXIF."""
    file = io.BytesIO()
    jpeg = {"quality": quality, "subsampling": 0 if quality >= 90 else 2}
    decoded.image.save(file, "PNG" if suffix == ".png" else "JPEG", **({} if suffix == ".png" else jpeg))
    return file.getvalue()
