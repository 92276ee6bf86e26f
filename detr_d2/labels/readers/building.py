"""What every reader does: finding images, and collecting them, labels and notes of one export in little memory."""

from __future__ import annotations

import pickle
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from detr_d2.errors import DatasetError

from ..archives import IMAGE_SUFFIXES, FileTree, has_image_suffix, is_safe_name, joined
from ..records import ClassRecord, Export, ExportKind, FileRef, ImageRecord, Label, LabelSource, Note
from ..values import size_problem

#: So many notes of each kind are kept; of the others only how many there are.
_MOST_NOTES = 5_000
_MASK_FOLDERS = {"SegmentationClass", "SegmentationObject", "panoptic", "masks"}


class ImageFinder:
    """Finds images by the names that the labels give them.

    Args:
        tree: the folder or zip.
        base: folder in it that the export is in.
        folders: below ``base``, where images are looked for, the likely ones first.
        everywhere: take an image elsewhere below ``base`` if it is the only one of its name; and of a zip without
            images, those beside it: in ``images/``, in a folder of the zip's name, or just there.
    """

    def __init__(self, tree: FileTree, base: str, folders: Sequence[str], everywhere: bool = True) -> None:
        self._tree, self._base, self._folders, self._everywhere = tree, base, folders, everywhere
        self._by_name: dict[str, list[str]] | None = None
        self._beside = _folders_beside(tree) if everywhere else []

    def __call__(self, name: str) -> FileRef | None:
        """The file of an image: where it should be, or the only one of that name, whatever its folder and case.

        Args:
            name: safe; see :func:`is_safe_name`.
        """
        return self._at(name) or self._elsewhere(name, PurePosixPath(name).name.lower())

    def by_stem(self, stem: str) -> FileRef | None:
        """As above for a name without its suffix."""
        for suffix in IMAGE_SUFFIXES:
            if found := self._at(stem + suffix) or self._at(stem + suffix.upper()):
                return found
        return self._elsewhere(stem, PurePosixPath(stem).name.lower() + "/")

    def _at(self, name: str) -> FileRef | None:
        found = self._tree.first(joined(self._base, folder, name) for folder in self._folders)
        if found is None and self._beside:
            found = next((FileRef(folder / name) for folder in self._beside if (folder / name).is_file()), None)
        return found

    def _elsewhere(self, name: str, key: str) -> FileRef | None:
        """The only image of a name; names with folders aren't looked for, they say where theirs is."""
        if not self._everywhere or "/" in name:
            return None
        if self._by_name is None:
            self._by_name = {}
            for path in self._images():
                self._by_name.setdefault(path.name.lower(), []).append(path.as_posix())
                self._by_name.setdefault(path.stem.lower() + "/", []).append(path.as_posix())
        found = self._by_name.get(key, [])
        return self._tree.files[found[0]] if len(found) == 1 else None

    def _images(self) -> Iterator[PurePosixPath]:
        for key in self._tree.under(self._base):
            path = PurePosixPath(key)
            folders = path.parent.relative_to(self._base).parts if self._base else path.parent.parts
            if path.suffix.lower() in IMAGE_SUFFIXES and not _MASK_FOLDERS.intersection(folders):
                yield path


class NameFinder(ImageFinder):
    """As :class:`ImageFinder` where labels alone are wanted: an image that isn't there is just called by its name."""

    def __call__(self, name: str) -> FileRef:
        """See :class:`ImageFinder`."""
        return super().__call__(name) or FileRef(self._tree.path / name)

    def by_stem(self, stem: str) -> FileRef:
        """See :class:`ImageFinder`."""
        return super().by_stem(stem) or FileRef(self._tree.path / f"{stem}.jpg")


def _folders_beside(tree: FileTree) -> list[Path]:
    """Where the images of a zip without images may lie."""
    if tree.path.is_dir() or any(has_image_suffix(key) and not _is_mask(key) for key in tree.files):
        return []
    above, name = tree.path.parent, tree.path.stem
    return [above / name / "images", above / name, above / "images", above]


def _is_mask(key: str) -> bool:
    return bool(_MASK_FOLDERS.intersection(PurePosixPath(key).parent.parts))


@dataclass(frozen=True)
class PackedLabels:
    """Labels in a tenth of the memory; a source of labels.

    Args:
        content: what :meth:`of` made.
    """

    content: bytes

    @classmethod
    def of(cls, labels: Sequence[Label]) -> PackedLabels:
        """Packs labels."""
        return cls(zlib.compress(pickle.dumps(tuple(labels), protocol=5), 1))

    def __call__(self, notes_: list[Note] | None = None) -> tuple[Label, ...]:
        """See :class:`~detr_d2.labels.records.LabelSource`."""
        labels: tuple[Label, ...] = pickle.loads(zlib.decompress(self.content))
        return labels


class ExportBuilder:
    """Collects one export.

    Args:
        name: see :class:`~detr_d2.labels.records.Export`, as are the next two.
        kind: its format.
        file: the JSON, XML or labelmap.
        finder: of its images.
    """

    def __init__(self, name: str, kind: ExportKind, file: FileRef, finder: ImageFinder) -> None:
        self._name, self._kind, self._file, self._finder = name, kind, file, finder
        self._records: dict[str, list[ImageRecord]] = {}
        self._notes: list[Note] = []
        self._counts: Counter[str] = Counter()

    def note(
        self, code: str, message: str, image: str = "", class_name: str = "", label_id: int = 0, is_lost: bool = False
    ) -> None:
        """Something that was left out or changed; see :class:`~detr_d2.labels.records.Note`."""
        self._counts[code] += 1
        if self._counts[code] <= _MOST_NOTES:
            self._notes.append(Note(code, message, str(self._file), image, class_name, label_id, is_lost))

    def image_file(self, name: str, otherwise: str = "") -> FileRef | None:
        """The file of an image by a name that the export gives it; None, and a note, where there is none.

        Args:
            name: the likely one.
            otherwise: another one.
        """
        if not is_safe_name(name):
            self.note("path-escape", f"{name[:200]!r} leads out of the export; left out.", name[:200])
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
        self.note(code, f"{message} The image's own size counts.", name)
        return 0, 0

    def missing(self, name: str) -> None:
        """An image isn't there."""
        self.note("image-missing", f"{name} isn't in the export; its labels are left out.", name)

    def add(
        self, name: str, image: FileRef, size: tuple[int, int], labels: LabelSource, image_id: int | str | None = None
    ) -> None:
        """An image with its labels; those of two entries of one name become one's, if their sizes agree.

        Args:
            name: safe, unique or not.
            image: its file.
            size: width, height, or 0, 0.
            labels: see there.
            image_id: for messages.
        """
        name = plain_name(name)
        same = self._records.setdefault(name, [])
        if same:
            repeats = f"image {image_id} has the name of image {same[0].image_id}"
            if (same[0].width, same[0].height) != size:
                self.note("path-duplicate", f"{repeats} and another size; left out.", name)
                return
            self.note("path-duplicate", f"{repeats}; their labels were put together.", name)
        same.append(ImageRecord(image, name, *size, labels, image_id))

    def repeated(self, label: Label, image: str) -> None:
        """A label of an image is there twice, and one of the two was left out."""
        message = "the same label is there twice; one was left out."
        self.note("label-duplicate", message, image, label.class_name, label.id, is_lost=True)

    def finish(self, classes: Sequence[ClassRecord], is_cvat: bool) -> Export:
        """The export.

        Raises:
            DatasetError: none of its images is there.
        """
        missing = self._counts["image-missing"]
        if missing and not self._records:
            raise DatasetError(
                f"{self._file} has labels for {missing} images, and none of them is beside it. Export again "
                "with 'Save images' switched on, or put the images into a folder 'images' beside the labels."
            )
        images = tuple(self._merged())
        more = {code: count - _MOST_NOTES for code, count in self._counts.items() if count > _MOST_NOTES}
        notes = [*self._notes, *(Note(code, f"and {n} more like this.", str(self._file)) for code, n in more.items())]
        return Export(self._name, self._kind, self._file, tuple(classes), images, tuple(notes), is_cvat)

    def _merged(self) -> Iterator[ImageRecord]:
        """One record of each image; a label that is there twice is one."""
        for name, (record, *others) in self._records.items():
            first: dict[tuple[str, object], Label] = {}
            for label in (label for one in (record, *others) for label in one.read_labels()) if others else ():
                if first.setdefault((label.class_name, label.shape), label) is not label:
                    self.repeated(label, name)
            yield replace(record, labels=PackedLabels.of([*first.values()])) if others else record


def plain_name(name: str) -> str:
    """An image's name with ``/`` between its folders, without ``./``."""
    return PurePosixPath(name.replace("\\", "/")).as_posix()
