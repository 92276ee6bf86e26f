"""What every reader does: collecting pictures, labels and notes of one export, with memory that stays small."""

from __future__ import annotations

import pickle
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from detr_d2.errors import DatasetError

from ..image_size import size_problem
from ..records import ClassRecord, Export, ExportKind, FileRef, Label, LabelSource, Note, PictureRecord
from .archives import is_safe_name
from .finding import PictureFinder

_MOST_NOTES = 5_000


@dataclass(frozen=True)
class PackedLabels:
    """Labels in a tenth of the memory; a :class:`~detr_d2.labels.records.LabelSource`.

    Args:
        content: what :meth:`of` made.
    """

    content: bytes

    @classmethod
    def of(cls, labels: Sequence[Label]) -> PackedLabels:
        """Packs labels."""
        return cls(zlib.compress(pickle.dumps(tuple(labels), protocol=5), 1))

    def __call__(self) -> tuple[Label, ...]:
        labels: tuple[Label, ...] = pickle.loads(zlib.decompress(self.content))
        return labels


class Notes:
    """What a reader left out or changed: of each kind the first some thousand, and how many more there were.

    Args:
        file: the export's.
    """

    def __init__(self, file: FileRef) -> None:
        self._file = str(file)
        self._notes: list[Note] = []
        self._counts: Counter[str] = Counter()

    def add(self, code: str, message: str, picture: str = "", class_name: str = "", label_id: int = 0) -> None:
        """One more; see :class:`~detr_d2.labels.records.Note`."""
        self._counts[code] += 1
        if self._counts[code] <= _MOST_NOTES:
            self._notes.append(Note(code, message, self._file, picture, class_name, label_id))

    def all(self) -> tuple[Note, ...]:
        """Those that were kept, in order, and one for each kind of which there were more."""
        more = {code: count - _MOST_NOTES for code, count in self._counts.items() if count > _MOST_NOTES}
        return (*self._notes, *(Note(code, f"and {count} more like this.", self._file) for code, count in more.items()))


@dataclass
class _Entry:
    image: FileRef
    width: int
    height: int
    image_id: int | str | None
    labels: list[LabelSource] = field(default_factory=list)


class ExportBuilder:
    """Collects one export.

    Args:
        name: see :class:`~detr_d2.labels.records.Export`, as are the next two.
        kind: its format.
        file: the JSON, XML or labelmap.
        finder: of its pictures.
    """

    def __init__(self, name: str, kind: ExportKind, file: FileRef, finder: PictureFinder) -> None:
        self.notes = Notes(file)
        self.name, self.kind, self.file, self._finder = name, kind, file, finder
        self._entries: dict[str, _Entry] = {}
        self._missing = 0

    def picture_file(self, name: str, otherwise: str = "") -> FileRef | None:
        """The file of a picture by a name that the export gives it; None, and a note, where there is none.

        Args:
            name: the likely one.
            otherwise: another one.
        """
        if not is_safe_name(name):
            self.notes.add("path-escape", f"{name[:200]!r} leads out of the export; left out.", name[:200])
            return None
        found = self._finder(plain_name(name)) or (self._finder(plain_name(otherwise)) if otherwise else None)
        if found is None:
            self.missing(name)
        return found

    def size_of(self, entry: Mapping[str, Any], name: str) -> tuple[int, int]:
        """Width and height that the labels of an image are for; 0, 0 and a note where they can't be an image's.

        Args:
            entry: of the image, with ``width`` and ``height`` where the file has them.
            name: of the image.
        """
        problem = size_problem(entry)
        if problem is None:
            return entry["width"], entry["height"]
        code, message = problem
        self.notes.add(code, f"{message} The image's own size counts.", name)
        return 0, 0

    def missing(self, name: str) -> None:
        """A picture isn't there."""
        self._missing += 1
        self.notes.add("picture-missing", f"{name} isn't in the export; its labels are left out.", name)

    def add(
        self, name: str, image: FileRef, size: tuple[int, int], labels: LabelSource, image_id: int | str | None = None
    ) -> None:
        """A picture with its labels; those of two entries of one name become one's, if their sizes agree.

        Args:
            name: safe, unique or not.
            image: its file.
            size: width, height, or 0, 0.
            labels: see there.
            image_id: for messages.
        """
        name = plain_name(name)
        before = self._entries.setdefault(name, _Entry(image, *size, image_id))
        if (before.width, before.height) != size:
            message = f"image {image_id} has the name of image {before.image_id} and another size; left out."
            self.notes.add("picture-duplicate", message, name)
            return
        if before.labels:
            message = f"image {image_id} has the name of image {before.image_id}; their labels were put together."
            self.notes.add("picture-merged", message, name)
        before.labels.append(labels)

    def finish(self, classes: Sequence[ClassRecord], is_cvat: bool) -> Export:
        """The export.

        Raises:
            DatasetError: none of its pictures is there.
        """
        if self._missing and not self._entries:
            raise DatasetError(
                f"{self.file} has labels for {self._missing} pictures, and none of them is beside it. Export again "
                "with 'Save images' switched on, or put the pictures into a folder 'images' beside the labels."
            )
        return Export(
            self.name, self.kind, self.file, tuple(classes), tuple(self._pictures()), self.notes.all(), is_cvat
        )

    def _pictures(self) -> Iterator[PictureRecord]:
        for name, entry in self._entries.items():
            labels = entry.labels[0]
            if len(entry.labels) > 1:
                labels = PackedLabels.of(
                    self._without_repeats(name, [label for one in entry.labels for label in one()])
                )
            yield PictureRecord(entry.image, name, entry.width, entry.height, labels, entry.image_id)

    def _without_repeats(self, name: str, labels: Sequence[Label]) -> list[Label]:
        first: dict[tuple[str, object], Label] = {}
        for label in labels:
            if first.setdefault((label.class_name, label.shape), label) is not label:
                message = "the same label is there twice; one was left out."
                self.notes.add("label-duplicate", message, name, label.class_name, label.id)
        return list(first.values())


def plain_name(name: str) -> str:
    """A picture's name with ``/`` between its folders, without ``./``."""
    return PurePosixPath(name.replace("\\", "/")).as_posix()
