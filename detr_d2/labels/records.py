"""What the readers make of an export, whatever its format: images, the labels on each, and classes."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import IO, Literal, TypeAlias

from detr_d2.errors import DatasetError, MissingFileError
from detr_d2.files import SpecialFileError, open_regular, read_at_most

from .values import Size

#: More bytes than this are no image and no label file, whatever a zip says of its size.
MOST_BYTES = 2**30


@lru_cache(maxsize=8)
def _archive(path: Path, changed: int, size: int, process: int) -> zipfile.ZipFile:
    """An open zip; its list of members is read once in a process, not for each member."""
    return zipfile.ZipFile(open_regular(path))


@dataclass(frozen=True)
class FileRef:
    """A file on disk, or, where ``member`` names one, inside a zip; small, and can be sent to another process."""

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
                content = read_at_most(file, limit + 1)
        except (FileNotFoundError, NotADirectoryError, KeyError) as error:
            raise MissingFileError(f"{self} isn't there.") from error
        except SpecialFileError as error:
            raise DatasetError(str(error)) from error
        except Exception as error:  # a broken zip fails in its decompressor, in ways of its own
            raise DatasetError(f"{self} can't be read: {error}. Export it again.") from error
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
    """Run lengths of an image, or of a window in it.

    Args:
        size: height, width of the window, in pixels.
        counts: pixels off, on, off, ... in turn; or compressed, as pycocotools writes them.
        left, top: of the window, in pixels.
        by_rows: row by row, as CVAT's masks have them; else column by column and of the whole image, as COCO's.
    """

    size: tuple[int, int]
    counts: bytes | tuple[int, ...]
    left: int = 0
    top: int = 0
    by_rows: bool = False


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


Shape: TypeAlias = Polygons | Runs | Box | Ellipse


@dataclass(frozen=True)
class Label:
    """One labelled object, or a piece of stuff.

    Args:
        class_name, is_crowd: as the export has them.
        shape: where it is, in pixels of the labels' size.
        z_order: CVAT's layer; higher ones are on top.
        id: of the annotation in its file, for messages; 0 where there is none.
        group: labels of one image with the same group, not 0, are pieces of one object.
    """

    class_name: str
    shape: Shape
    is_crowd: bool = False
    z_order: int = 0
    id: int = 0
    group: int = 0


@dataclass(frozen=True)
class Note:
    """Something that was left out or changed, for the report: nothing is dropped in silence.

    Args:
        code: a short word with hyphens, the same for all of a kind, such as ``mask-empty``.
        message: what and why, one sentence.
        file, image, class_name, label_id: where, as far as it is known; else empty, and 0.
        is_lost: the label was left out.
    """

    code: str
    message: str
    file: str = ""
    image: str = ""
    class_name: str = ""
    label_id: int = 0
    is_lost: bool = False


#: Reads labels when their image's turn comes, in the process that draws them, to which it can be sent. What had to be
#: fixed in them is put into the notes; the size, width and height, is the image's where its export is wrong about it.
#: Raises a DatasetError, which names the file.
LabelSource: TypeAlias = Callable[[list[Note] | None, Size | None], Sequence[Label]]


@dataclass(frozen=True)
class ImageRecord:
    """An image and its labels.

    Args:
        image: its file.
        name: unique in its export, with ``/``: ``1.jpg``, ``brick/1.jpg``; never absolute, no ``..``.
        width, height: of the image that was labelled, in pixels, or 0 where the export doesn't say.
        labels: in the file's order, or what reads them later.
        image_id: in the export, for messages; None where there is none.
        png: whose pixels are the labels, of a panoptic file.
    """

    image: FileRef
    name: str
    width: int
    height: int
    labels: tuple[Label, ...] | LabelSource
    image_id: int | str | None = None
    png: FileRef | None = None

    def read_labels(self, notes_: list[Note] | None = None, size: Size | None = None) -> Sequence[Label]:
        """The labels, read now if they weren't; see :class:`LabelSource`."""
        return self.labels if isinstance(self.labels, tuple) else self.labels(notes_, size)


@dataclass(frozen=True)
class ClassRecord:
    """A class, as its export has it; ``is_thing`` is None where that doesn't say it (CVAT's), ``color`` is RGB."""

    name: str
    is_thing: bool | None = None
    color: tuple[int, int, int] | None = None


ExportKind: TypeAlias = Literal["coco-instances", "coco-panoptic", "cvat-xml", "cvat-masks"]


@dataclass(frozen=True)
class Export:
    """One export: a JSON or an XML with its images, or a zip of them.

    Args:
        name: short and unique among all exports that are read together: the folder's or zip's name, as ``brick``.
        kind: its format.
        file: the JSON, XML or labelmap.
        classes, images: in the file's order.
        notes: what was left out or changed while reading.
        is_cvat: it comes from CVAT, whose brush masks are written as crowds.
        source: who labelled it. COCO's annotators looked at every pixel: what they left void stays void.
    """

    name: str
    kind: ExportKind
    file: FileRef
    classes: tuple[ClassRecord, ...]
    images: tuple[ImageRecord, ...]
    notes: tuple[Note, ...] = ()
    is_cvat: bool = True
    source: Literal["human", "coco"] = "human"
