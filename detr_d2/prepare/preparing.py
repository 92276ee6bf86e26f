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
from detr_d2.labels.image_reading import PLAIN_MODES, header_size, image_in, load_image
from detr_d2.labels.panoptic_png import encode_ids
from detr_d2.labels.records import Export, FileRef, ImageRecord, Note
from detr_d2.labels.rules.image import ImageFile, image_file_rules, planned_pixels
from detr_d2.labels.rules.rule import BrokenRuleError, raise_errors
from detr_d2.labels.rules.splits import image_hash
from detr_d2.labels.values import Size, Unreadable, is_text

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
        labels = task.record.read_labels(late, decoded.image.size)
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
    """Read an image as its labels see it, fixed as ``detr-d2 check --fix`` fixes it.

    Raises:
        BrokenRuleError: it can't be read, or has another size than its labels, and nobody knows which is right.
        MissingFileError: it isn't there.
    """
    try:
        content = record.image.read()
    except DatasetError as error:
        raise BrokenRuleError(str(error), "image-broken") from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of sizes and odd EXIF data, both looked at here
            with image_in(lambda: io.BytesIO(content), lambda: len(content), "image-broken") as image:
                file = ImageFile(str(record.image), image, load_image(image))
    except Unreadable as problem:
        code, why = problem.args
        raise BrokenRuleError(f"{record.image} {why}", code) from problem
    return _fixed(file, content, record)


def _fixed(file: ImageFile, content: bytes, record: ImageRecord) -> Decoded:
    read, kind, notes = file.read, file.image.format or "", list[tuple[str, str]]()
    entry, masks = _labelled_size(record, file)
    for found in image_file_rules(file, record.image_id, entry, masks):
        if found.fix is None:
            raise_errors([found])
        if found.rule.code == "image-orientation":
            notes.append((found.rule.code, f"{found.message.rstrip('.')}; saved upright, without the tag."))
        elif found.rule.severity == "warning" and read.pixels.mode in PLAIN_MODES:  # grey stays grey
            text = f"saved as {read.pixels.mode}, 8 bits a channel"
            notes.append((found.rule.code, f"{found.message.rstrip('.')}; {text}."))
        elif found.fix is not None:
            notes.append((found.rule.code, f"{found.fix().text}."))
    is_as_read = file.plan.is_copy and read.orientation in (None, 1) and read.mode in PLAIN_MODES and not read.is_deep
    is_plain = is_as_read and kind in _COPIED_FORMATS and read.frames == 1
    pixels = planned_pixels(file)
    pixels = pixels if pixels.mode in PLAIN_MODES else pixels.convert("RGB")
    return Decoded(pixels, content, is_plain, kind in ("JPEG", "MPO"), tuple(notes))


def _labelled_size(record: ImageRecord, file: ImageFile) -> tuple[dict[str, Any] | None, set[Size]]:
    """Width and height that were labelled, None where nobody says, and sizes of masks where the image has another."""
    said, masks = (record.width, record.height), set[Size]()
    if said != file.shown_size and record.png is not None:
        masks = {header_size(record.png)} - {(0, 0)}
    if min(said) < 1:
        said = next(iter(masks), (0, 0))
    return ({"width": said[0], "height": said[1]} if said[0] else None), masks


def encode(decoded: Decoded, suffix: str, quality: int = 95) -> bytes:
    """The image as a JPEG (``.jpg``) or a PNG (``.png``), without EXIF."""
    file = io.BytesIO()
    jpeg = {"quality": quality, "subsampling": 0 if quality >= 90 else 2}
    decoded.image.save(file, "PNG" if suffix == ".png" else "JPEG", **({} if suffix == ".png" else jpeg))
    return file.getvalue()
