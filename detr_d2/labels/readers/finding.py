"""Where the pictures of an export are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from ..image_decoding import IMAGE_SUFFIXES
from ..records import FileRef
from .archives import FileTree, has_suffix_of_picture

_MASK_FOLDERS = {"SegmentationClass", "SegmentationObject", "panoptic", "masks"}


class PictureFinder:
    """Finds pictures by the names that the labels give them.

    Args:
        tree: the folder or zip.
        base: folder in it that the export is in.
        folders: below ``base``, where pictures are looked for, the likely ones first.
        everywhere: take a picture elsewhere below ``base`` if it is the only one of its name; and of a zip without
            pictures, those beside it: in ``images/``, in a folder of the zip's name, or just there.
    """

    def __init__(self, tree: FileTree, base: str, folders: Sequence[str], everywhere: bool = True) -> None:
        self._tree, self._base, self._folders, self._everywhere = tree, base, folders, everywhere
        self._by_name: dict[str, list[str]] | None = None
        self._beside = _folders_beside(tree) if everywhere else []

    def __call__(self, name: str) -> FileRef | None:
        """The file of a picture: where it should be, or the only one of that name, whatever its folder and case.

        Args:
            name: safe; see :func:`~detr_d2.labels.readers.archives.is_safe_name`.
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
        """The only picture of a name; names with folders aren't looked for, they say where theirs is."""
        if not self._everywhere or "/" in name:
            return None
        if self._by_name is None:
            self._by_name = {}
            for path in self._pictures():
                self._by_name.setdefault(path.name.lower(), []).append(path.as_posix())
                self._by_name.setdefault(path.stem.lower() + "/", []).append(path.as_posix())
        found = self._by_name.get(key, [])
        return self._tree.files[found[0]] if len(found) == 1 else None

    def _pictures(self) -> Iterator[PurePosixPath]:
        for key in self._tree.under(self._base):
            path = PurePosixPath(key)
            folders = path.parent.relative_to(self._base).parts if self._base else path.parent.parts
            if path.suffix.lower() in IMAGE_SUFFIXES and not _MASK_FOLDERS.intersection(folders):
                yield path


def _folders_beside(tree: FileTree) -> list[Path]:
    """Where the pictures of a zip without pictures may lie."""
    if tree.path.is_dir() or any(has_suffix_of_picture(key) and not _is_mask(key) for key in tree.files):
        return []
    above, name = tree.path.parent, tree.path.stem
    return [above / name / "images", above / name, above / "images", above]


def _is_mask(key: str) -> bool:
    return bool(_MASK_FOLDERS.intersection(PurePosixPath(key).parent.parts))


def joined(*parts: str) -> str:
    """Names of folders and a file, those that aren't empty, with ``/``."""
    return PurePosixPath(*(part for part in parts if part)).as_posix()
