"""What the readers hand to the rest of ``detr-d2 prepare``: exports, their pictures, and the labels on each."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import IO, Literal, Protocol, TypeAlias

from detr_d2.errors import DatasetError, MissingFileError
from detr_d2.files import SpecialFileError, open_regular

#: More bytes than this are no picture and no label file, whatever a zip says of its size.
MOST_BYTES = 2**30


@lru_cache(maxsize=8)
def _archive(path: Path, changed: int, size: int, process: int) -> zipfile.ZipFile:
    """An open zip; its list of members is read once in a process, not for each member."""
    return zipfile.ZipFile(open_regular(path))


@dataclass(frozen=True)
class FileRef:
    """A file on disk, or one inside a zip; small, and can be sent to another process.

    Args:
        path: of the file, or of the zip.
        member: name inside the zip, or empty.
    """

    path: Path
    member: str = ""

    @property
    def suffix(self) -> str:
        """``.jpg`` and so on, in small letters."""
        return PurePosixPath(self.member or self.path.name).suffix.lower()

    def read(self, limit: int = MOST_BYTES) -> bytes:
        """All bytes.

        Raises:
            MissingFileError: there is no such file.
            DatasetError: it is no regular file, has more than ``limit`` bytes, or can't be read or unpacked.
        """
        try:
            with self.open() as file:
                content = file.read(limit + 1)
        except (FileNotFoundError, NotADirectoryError, KeyError) as error:
            raise MissingFileError(f"{self} isn't there.") from error
        except SpecialFileError as error:
            raise DatasetError(str(error)) from error
        except (OSError, RuntimeError, ValueError, zipfile.BadZipFile) as error:
            raise DatasetError(f"{self} can't be read: {error}. Export it again.") from error
        except Exception as error:  # a broken zip fails in its decompressor, in ways of its own
            raise DatasetError(f"{self} can't be unpacked: {error}. Export it again.") from error
        if len(content) > limit:
            raise DatasetError(f"{self} has more than {limit} bytes, more than such a file can need.")
        return content

    @contextmanager
    def open(self) -> Iterator[IO[bytes]]:
        """The file, to be read from its beginning; raises whatever files and zips raise."""
        if not self.member:
            with open_regular(self.path) as file:
                yield file
            return
        status = self.path.stat()
        archive = _archive(self.path, status.st_mtime_ns, status.st_size, os.getpid())
        with archive.open(self.member) as inner:
            yield inner

    def __str__(self) -> str:
        return f"{self.path}/{self.member}" if self.member else str(self.path)


@dataclass(frozen=True)
class Polygons:
    """Each x0, y0, x1, y1, ... in pixels; the union of what they enclose."""

    polygons: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Runs:
    """Run lengths column by column, as COCO has them, of a picture of (height, width).

    Args:
        size: height, width.
        counts: compressed (as pycocotools writes them), or pixels off, on, off, ... in turn.
    """

    size: tuple[int, int]
    counts: bytes | tuple[int, ...]


@dataclass(frozen=True)
class Box:
    """Left, top, right, bottom in pixels, the last two exclusive; then turned clockwise by ``rotation`` degrees."""

    left: float
    top: float
    right: float
    bottom: float
    rotation: float = 0.0


@dataclass(frozen=True)
class Ellipse:
    """Centre, half axes in pixels; ``rotation`` in degrees, clockwise."""

    x: float
    y: float
    radius_x: float
    radius_y: float
    rotation: float = 0.0


@dataclass(frozen=True)
class Bitmap:
    """Part of a picture, pixel by pixel: where a window that starts at ``left``, ``top`` is on.

    Args:
        left, top: of the window, in pixels.
        size: height, width of the window.
        counts: pixels off, on, off, ... in turn, row by row, as CVAT's masks have them.
    """

    left: int
    top: int
    size: tuple[int, int]
    counts: tuple[int, ...]


Shape: TypeAlias = Polygons | Runs | Box | Ellipse | Bitmap


@dataclass(frozen=True)
class Label:
    """One labelled object, or a piece of stuff.

    Args:
        class_name: as the export has it.
        shape: where it is, in pixels of the labels' size.
        is_crowd: the export says ``iscrowd: 1``.
        z_order: CVAT's layer; higher ones are on top.
        id: of the annotation in its file, for messages; 0 where there is none.
        group: labels of one picture with the same group, not 0, are pieces of one object.
    """

    class_name: str
    shape: Shape
    is_crowd: bool = False
    z_order: int = 0
    id: int = 0
    group: int = 0


class LabelSource(Protocol):
    """Labels that are read when the picture's turn comes, in the process that draws them; can be sent there."""

    def __call__(self) -> Sequence[Label]:
        """The labels, in the file's order.

        Raises:
            DatasetError: they can't be read; the message names the file.
        """


@dataclass(frozen=True)
class PictureRecord:
    """A picture and its labels.

    Args:
        image: the picture's file.
        name: unique in its export, with ``/``: ``1.jpg``, ``brick/1.jpg``; never absolute, no ``..``.
        width, height: of the picture that was labelled, in pixels, or 0 where the export doesn't say.
        labels: in the file's order, or what reads them later.
        image_id: in the export, for messages; None where there is none.
    """

    image: FileRef
    name: str
    width: int
    height: int
    labels: tuple[Label, ...] | LabelSource
    image_id: int | str | None = None


@dataclass(frozen=True)
class ClassRecord:
    """A class of an export.

    Args:
        name: as the export has it.
        is_thing: None where the export doesn't say (CVAT's); COCO instances have things only.
        color: red, green, blue, or None.
    """

    name: str
    is_thing: bool | None = None
    color: tuple[int, int, int] | None = None


ExportKind = Literal["coco-instances", "coco-panoptic", "cvat-xml", "cvat-masks"]


@dataclass(frozen=True)
class Note:
    """Something that a reader left out or changed, for the report: nothing is dropped in silence.

    Args:
        code: a short word with hyphens, the same for all of a kind, such as ``mask-empty``.
        message: what and why, one sentence.
        file: where.
        picture: name of the picture, or empty.
        class_name: of the label, or empty.
        label_id: of the label, or 0.
    """

    code: str
    message: str
    file: str = ""
    picture: str = ""
    class_name: str = ""
    label_id: int = 0


@dataclass(frozen=True)
class Export:
    """One export: a JSON or an XML with its pictures, or a zip of them.

    Args:
        name: short and unique among all exports that are read together: the folder's or zip's name, as ``brick``.
        kind: its format.
        file: the JSON, XML or labelmap.
        classes: in the file's order.
        pictures: in the file's order.
        notes: what was left out or changed while reading.
        is_cvat: it comes from CVAT, whose brush masks are written as crowds.
    """

    name: str
    kind: ExportKind
    file: FileRef
    classes: tuple[ClassRecord, ...]
    pictures: tuple[PictureRecord, ...]
    notes: tuple[Note, ...] = field(default=())
    is_cvat: bool = True
