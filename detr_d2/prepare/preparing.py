"""One image on its way into the dataset: what a worker process does."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from detr_d2.errors import DatasetError, MissingFileError, UserError
from detr_d2.labels.near_duplicates import image_hash
from detr_d2.labels.panoptic_png import encode_ids
from detr_d2.labels.records import Note
from detr_d2.labels.rules.names import IMAGE_MISSING

from .label_rules import LabelRules
from .options import PrepareOptions
from .pixels import Decoded, UnusableImage, decode, encode
from .results import ImageResult
from .segmenting import draw_labels, fill_rest, measure
from .stuff.policy import StuffPolicy
from .tasks import Task

#: Written as they are, whatever else an image may be called; others would surprise programs that go by the name.
_USUAL_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")


class StoppedError(UserError):
    """What ended a run from outside: once it is over, the same command goes on where it stopped."""


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
            return ImageResult(task.record.name, skipped=IMAGE_MISSING.code, why=str(error))
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
    real = source.resolve()
    try:
        os.link(real, path)
    except OSError:
        try:
            os.symlink(real, path)
        except OSError:  # neither is allowed here
            shutil.copyfile(real, path)
