"""One picture on its way into the dataset: what a worker process does."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from detr_d2.errors import DatasetError, MissingFileError, UserError
from detr_d2.labels.near_duplicates import picture_hash
from detr_d2.labels.panoptic_png import encode_ids
from detr_d2.labels.records import PictureRecord

from .options import Pictures
from .pixels import Decoded, UnusablePicture, decode, encode
from .results import PictureResult, Remark
from .segmenting import LabelRules, draw_labels, fill_rest, measure
from .stuff.policy import StuffPolicy

#: Written as they are, whatever else a picture may be called; others would surprise programs that go by the name.
_USUAL_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")


class StoppedError(UserError):
    """What ended a run from outside: once it is over, the same command goes on where it stopped."""


class WritingError(StoppedError):
    """The dataset's folder can't be written."""


@dataclass(frozen=True)
class Task:
    """A picture to prepare.

    Args:
        record: its file and labels.
        name: ``<export>/<name>``, unique.
        target: ``name`` without suffix, unique on every file system: what its files are called.
        is_cvat: the labels come from CVAT.
        source: who labelled it, ``human`` or ``coco``.
        fills_rest: the stuff policy is asked for what isn't labelled.
    """

    record: PictureRecord
    name: str
    target: str
    is_cvat: bool
    source: str = "human"
    fills_rest: bool = True


@dataclass(frozen=True)
class Workshop:
    """What is the same for all pictures; sent to the worker processes.

    Args:
        folder: gets ``images/`` and ``panoptic/``.
        rules: what labels become.
        policy: for what people didn't label.
        pictures: copied, linked, or written as JPEG.
        quality: of JPEGs that are written.
    """

    folder: Path
    rules: LabelRules
    policy: StuffPolicy
    pictures: Pictures = "copy"
    quality: int = 95

    def __call__(self, task: Task) -> PictureResult:
        """Prepare a picture: write its two files, and say what they are. A picture that can't be used is skipped.

        Raises:
            WritingError: the dataset's folder can't be written.
        """
        try:
            return self._prepare(task)
        except UnusablePicture as error:
            return PictureResult(task.name, skipped=error.code, why=str(error))
        except MissingFileError as error:
            return PictureResult(task.name, skipped="picture-missing", why=str(error))
        except DatasetError as error:
            return PictureResult(task.name, skipped="labels-broken", why=str(error))

    def _prepare(self, task: Task) -> PictureResult:
        decoded = decode(task.record)
        labels = task.record.labels
        labels = labels if isinstance(labels, tuple) else tuple(labels())
        size = decoded.image.height, decoded.image.width
        canvas = draw_labels(labels, self.rules, size, task.is_cvat, task.source)
        remarks = [Remark(code, message) for code, message in decoded.notes] + canvas.remarks
        if task.fills_rest:
            pixels = decoded.pixels() if self.policy.needs_pixels else None
            regions = self.policy(pixels, ~canvas.is_taken, task.name)
            fill_rest(canvas, regions, self.rules.table, self.rules.min_area)
        told = PictureResult(
            task.name,
            dropped=tuple(canvas.dropped),
            remarks=tuple(remarks),
            overlaps=tuple(canvas.overlaps),
        )
        if not canvas.segments:
            why = f"{task.name} has no label." if not labels else f"{task.name}: none of its labels is left."
            return replace(told, skipped="no-segment", why=why)
        segments = measure(canvas, self.rules.table)
        file_name, png = self._write(task, decoded, encode_ids(canvas.numbers, [0, *(one.id for one in segments)]))
        paths = self.folder / "images" / file_name, self.folder / "panoptic" / png
        return replace(
            told,
            file_name=file_name,
            png=png,
            width=size[1],
            height=size[0],
            sizes=(os.path.getsize(paths[0]), os.path.getsize(paths[1])),
            look=picture_hash(decoded.image),
            segments=tuple(segments),
        )

    def _write(self, task: Task, decoded: Decoded, masks: bytes) -> tuple[str, str]:
        """Writes the picture and its PNG; their names below ``images/`` and ``panoptic/``."""
        file_name, png = self._file_name(task, decoded), f"{task.target}.png"
        picture, panoptic = self.folder / "images" / file_name, self.folder / "panoptic" / png
        try:
            for path in (picture, panoptic):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.unlink(missing_ok=True)  # of an interrupted run; it may be a link
            self._write_picture(task, decoded, picture)
            panoptic.write_bytes(masks)
        except OSError as error:
            raise WritingError(
                f"{picture.parent} can't be written: {error.strerror or error}. Correct that and run the same command "
                "again; it goes on where it stopped."
            ) from error
        return file_name, png

    def _file_name(self, task: Task, decoded: Decoded) -> str:
        if self._keeps_file(task, decoded):
            return task.target + PurePosixPath(task.name).suffix
        return task.target + (".jpg" if decoded.is_lossy or self.pictures == "jpeg" else ".png")

    def _keeps_file(self, task: Task, decoded: Decoded) -> bool:
        is_usual = PurePosixPath(task.name).suffix.lower() in _USUAL_SUFFIXES
        return decoded.is_plain and self.pictures != "jpeg" and is_usual

    def _write_picture(self, task: Task, decoded: Decoded, path: Path) -> None:
        if not self._keeps_file(task, decoded):
            path.write_bytes(encode(decoded, path.suffix, self.quality))
        elif self.pictures == "link" and not task.record.image.member:
            link(task.record.image.path, path)
        else:
            path.write_bytes(decoded.content)


def link(source: Path, path: Path) -> None:
    """A hard link, or where the file systems differ a symbolic one; the file is the user's and never is written to."""
    real = source.resolve()
    try:
        os.link(real, path)
    except OSError:
        try:
            os.symlink(real, path)
        except OSError:  # neither is allowed here
            shutil.copyfile(real, path)
