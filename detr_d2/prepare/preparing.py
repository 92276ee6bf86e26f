"""The images of all exports, each with a name of its own, and one on its way into the dataset: what a worker does."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from detr_d2.errors import DatasetError, MissingFileError, StoppedError
from detr_d2.files import numbered_names, real_path
from detr_d2.labels.panoptic_png import encode_ids
from detr_d2.labels.records import Export, FileRef, ImageRecord, Note
from detr_d2.labels.rules.splits import image_hash
from detr_d2.labels.values import is_text

from .drawing import draw_labels, fill_rest, measure
from .journal import ImageResult
from .label_rules import LabelRules
from .options import PrepareOptions
from .pixels import Decoded, UnusableImage, decode, encode
from .stuff.policy import StuffPolicy

_SHOWN = 10
_ODD = re.compile(r'[\x00-\x1f<>:"\\|?*]')


@dataclass(frozen=True)
class Task:
    """An image to prepare.

    Args:
        record: its file and labels; its name is ``<export>/<name>``, unique.
        target: the name without suffix, unique on every file system: what its files are called.
        is_cvat: the labels come from CVAT.
        source: who labelled it, ``human`` or ``coco``.
    """

    record: ImageRecord
    target: str
    is_cvat: bool
    source: str

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
    _refuse_unwritable_names(exports)
    folders = numbered_names([export.name for export in exports])
    found = [(export, folder, record) for export, folder in zip(exports, folders) for record in export.images]
    stems = [f"{_ODD.sub('_', folder)}/{_stem(record.name)}" for _, folder, record in found]
    targets = numbered_names([f"{stem}.png" for stem in stems])
    tasks = []
    for (export, folder, record), target in zip(found, targets):
        named = replace(record, name=f"{folder}/{record.name}")
        tasks.append(Task(named, target.removesuffix(".png"), export.is_cvat, export.source))
    return tasks


def _refuse_unwritable_names(exports: Sequence[Export]) -> None:
    """Raises a DatasetError that names all exports and images whose names can't stand in a JSON."""
    wrong = [f"the export {export.file}" for export in exports if not is_text(export.name)]
    wrong += [f"{one.name} of {export.file}" for export in exports for one in export.images if not is_text(one.name)]
    if wrong:
        shown = ", ".join(wrong[:_SHOWN]) + (f", and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else "")
        raise DatasetError(
            f"names of folders and images have to be text in UTF-8, and these aren't: {shown}. "
            "Rename them, in the export's labels, too."
        )


def _stem(name: str) -> str:
    """The name without suffix, of characters that every file system takes."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.name:
        raise DatasetError(f"an image's name is {name!r}, which leads out of the dataset. Export it again.")
    return _ODD.sub("_", str(path.with_suffix("") if path.stem.strip(".") else path))


def task_key(task: Task, others: Iterable[Path] = ()) -> str:
    """Names an image, its labels and the state of all files that are read for it: another key, other results.

    Args:
        task: the image.
        others: files that are read beside its own and those of its labels.
    """
    digest = hashlib.sha256(repr(task).encode("utf-8", "surrogatepass"))
    for file in sorted({ref.path for ref in _files_of(task)} | set(others)):
        digest.update(_state_of(file))
    return digest.hexdigest()[:32]


def _files_of(thing: Any) -> Iterator[FileRef]:
    """The files that a record and what is in it name; labels that are known have none."""
    if isinstance(thing, FileRef):
        yield thing
    elif dataclasses.is_dataclass(thing) and not isinstance(thing, type):
        for field in dataclasses.fields(thing):
            yield from _files_of(getattr(thing, field.name))


def _state_of(file: Path) -> bytes:
    try:
        state = file.stat()
    except OSError:
        return b"absent"
    return f"{file}:{state.st_size}:{state.st_mtime_ns}".encode("utf-8", "surrogatepass")


#: Written as they are, whatever else an image may be called; others would surprise programs that go by the name.
_USUAL_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")


class WritingError(StoppedError):
    """The dataset's folder can't be written."""


@dataclass(frozen=True)
class Preparer:
    """Prepares images; it holds what is the same for all of them, and is sent to the worker processes.

    Args:
        folder: gets ``images/`` and ``panoptic/``.
        rules: what labels become.
        policy: for what people didn't label.
        options: whether images are copied, linked or written as JPEG, and of which quality.
    """

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
        except UnusableImage as error:
            return ImageResult(task.record.name, skipped=error.code, why=str(error))
        except MissingFileError as error:
            return ImageResult(task.record.name, skipped="image-missing", why=str(error))
        except DatasetError as error:
            return ImageResult(task.record.name, skipped="labels-broken", why=str(error))

    def _prepare(self, task: Task) -> ImageResult:
        name, table, min_area = task.record.name, self.rules.table, self.rules.min_area
        decoded = decode(task.record)
        late: list[Note] = []
        labels = task.record.read_labels(late)
        size = decoded.image.height, decoded.image.width
        canvas = draw_labels(labels, self.rules, size, task.is_cvat, task.source)
        if task.fills_rest:
            pixels = decoded.pixels() if self.policy.needs_pixels else None
            fill_rest(canvas, self.policy(pixels, ~canvas.is_taken, name), table, min_area)
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
        segments = measure(canvas, table)
        file_name, png = self._write(task, decoded, encode_ids(canvas.numbers, [0, *(one.id for one in segments)]))
        paths = self.folder / "images" / file_name, self.folder / "panoptic" / png
        return replace(
            result,
            file_name=file_name,
            png=png,
            width=size[1],
            height=size[0],
            sizes=(os.path.getsize(paths[0]), os.path.getsize(paths[1])),
            look=image_hash(decoded.image),
            segments=tuple(segments),
        )

    def _write(self, task: Task, decoded: Decoded, masks: bytes) -> tuple[str, str]:
        """Writes the image and its PNG; their names below ``images/`` and ``panoptic/``."""
        suffix = PurePosixPath(task.record.name).suffix
        is_jpeg = self.options.images == "jpeg"
        keeps_file = decoded.is_plain and not is_jpeg and suffix.lower() in _USUAL_SUFFIXES
        if not keeps_file:
            suffix = ".jpg" if decoded.is_lossy or is_jpeg else ".png"
        file_name, png = task.target + suffix, f"{task.target}.png"
        image, panoptic = self.folder / "images" / file_name, self.folder / "panoptic" / png
        try:
            for path in (image, panoptic):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.unlink(missing_ok=True)  # of an interrupted run; it may be a link
            if keeps_file and self.options.images == "link" and not task.record.image.member:
                link(task.record.image.path, image)
            else:
                image.write_bytes(decoded.content if keeps_file else encode(decoded, suffix, self.options.quality))
            panoptic.write_bytes(masks)
        except OSError as error:
            raise WritingError(
                f"{image.parent} can't be written: {error.strerror or error}. Correct that and run the same command "
                "again; it goes on where it stopped."
            ) from error
        return file_name, png


def link(source: Path, path: Path) -> None:
    """A hard link, or where the file systems differ a symbolic one; the file is the user's and never is written to."""
    real = real_path(source)
    try:
        os.link(real, path)
    except OSError:
        try:
            os.symlink(real, path)
        except OSError:  # neither is allowed here
            shutil.copyfile(real, path)
