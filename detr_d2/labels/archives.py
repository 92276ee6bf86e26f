"""Folders and zips as lists of files by name, and the images among them.

A zip that could do harm is refused, and none is unpacked to disk.
"""

from __future__ import annotations

import os
import stat
import struct
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO

from detr_d2.errors import DatasetError, MissingFileError
from detr_d2.files import SpecialFileError, open_regular

from .image_reading import IMAGE_SUFFIXES
from .records import FileRef

#: More files than this are no export.
MOST_FILES = 1_000_000
#: A member that grows by more than this when it is unpacked, and to more than :data:`_SMALL` bytes, is a bomb.
MOST_RATIO = 250
_SMALL = 16 * 2**20
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
#: What fsck keeps at the top of a disk, for root alone.
_OF_DISK = "lost+found"
_MASK_FOLDERS = {"SegmentationClass", "SegmentationObject", "panoptic", "masks"}
_ADVICE = "Nothing was read. Export it again, or take the file from somebody you trust."


@dataclass(frozen=True)
class FileTree:
    """A folder or a zip with all files in it.

    Args:
        path: of the folder or zip.
        files: each file by its name in the folder or zip, with ``/``.
        unreadable: folders, and links that lead nowhere, each with a sentence that says so.
    """

    path: Path
    files: Mapping[str, FileRef] = field(repr=False)
    unreadable: Mapping[Path, str] = field(default_factory=dict, repr=False)

    def first(self, names: Iterable[str]) -> FileRef | None:
        """The first of some names that is there."""
        return next((self.files[name] for name in names if name in self.files), None)

    def under(self, folder: str) -> list[str]:
        """Names of all files below a folder, sorted; below everything for an empty one."""
        return sorted(name for name in self.files if not folder or name.startswith(f"{folder}/"))


def is_safe_name(name: str) -> bool:
    """Whether a name stays below the folder it is joined to: not absolute, no drive, no address, no ``..``."""
    plain = name.replace("\\", "/")
    parts = PurePosixPath(plain).parts
    return bool(parts) and not plain.startswith("/") and ":" not in parts[0] and ".." not in parts and "\0" not in name


def folder_tree(folder: Path) -> FileTree:
    """The files in a folder and the folders in it; hidden ones, and what a disk keeps for itself, are left out.

    Raises:
        DatasetError: there are too many.
    """
    files: dict[str, FileRef] = {}
    unreadable: dict[Path, str] = {}
    seen: set[tuple[int, int]] = set()

    def forbidden(error: OSError) -> None:
        path = Path(str(error.filename))
        unreadable[path] = f"{path} can't be read: {error.strerror}. Have its permissions changed, or move it away."

    for root, folders, names in os.walk(folder, onerror=forbidden, followlinks=True):
        status = os.stat(root)
        if (status.st_dev, status.st_ino) in seen:  # a link that leads back up
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__MACOSX")) and name != _OF_DISK)
        above = Path(root).relative_to(folder)
        for name in names:
            path = Path(root) / name
            if _leads_nowhere(path):
                unreadable[path] = f"{path} is a link to {os.readlink(path)}, which isn't there. Correct or remove it."
            elif not name.startswith("."):
                files[(above / name).as_posix()] = FileRef(path)
        if len(files) > MOST_FILES:
            raise DatasetError(f"{folder} has more than {MOST_FILES} files; name the folder of an export.")
    return FileTree(folder, files, unreadable)


def _leads_nowhere(path: Path) -> bool:
    """Whether it is a link to what isn't there; those called as images are looked at when their turn comes."""
    is_hidden = path.name.startswith(".")
    return not is_hidden and not has_image_suffix(path.name) and path.is_symlink() and not os.path.exists(path)


def has_image_suffix(key: str) -> bool:
    """Whether a file is called as images are."""
    return PurePosixPath(key).suffix.lower() in IMAGE_SUFFIXES


def zip_tree(path: Path) -> FileTree:
    """The members of a zip.

    Raises:
        MissingFileError: there is no such file.
        DatasetError: it is no zip, or one that could do harm: names that lead out of it, links, more than
            :data:`MOST_FILES` members, one name twice, members that share their bytes or unpack to far more than they
            are; or members are encrypted, or packed in a way that isn't known here.
    """
    try:
        _refuse_many(path)
        with open_regular(path) as file, zipfile.ZipFile(file) as archive:
            members = archive.infolist()
    except FileNotFoundError as error:
        raise MissingFileError(f"{path} isn't there.") from error
    except SpecialFileError as error:
        raise DatasetError(str(error)) from error
    except DatasetError:
        raise
    except Exception as error:  # BadZipFile, and whatever else zipfile and its decoders raise on random bytes
        raise DatasetError(f"{path} can't be read as a zip: {str(error)[:200]}. {_ADVICE}") from error
    files: dict[str, FileRef] = {}
    for member in members:
        wrong = _harm(member)
        name = PurePosixPath(member.filename.replace("\\", "/")).as_posix()
        if wrong is None and name in files:
            wrong = "is there twice"
        if wrong:
            raise DatasetError(f"{path}: {_shown(member.filename)} {wrong}. {_ADVICE}")
        is_hidden = any(part.startswith(".") or part == "__MACOSX" for part in name.split("/"))
        if not member.is_dir() and not is_hidden:
            files[name] = FileRef(path, member.filename)
    packed, size = sum(member.compress_size for member in members), path.stat().st_size
    if packed > size:
        raise DatasetError(f"{path}: its members say that they are {packed} bytes, in a file of {size}. {_ADVICE}")
    return FileTree(path, files)


def _harm(member: zipfile.ZipInfo) -> str | None:
    """What is wrong with a member of a zip, if anything is."""
    kind = stat.S_IFMT(member.external_attr >> 16)
    if not is_safe_name(member.filename):
        return "leads out of the folder it would be unpacked to"
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is a link or a device, not a file"
    if member.flag_bits & 0x1:
        return "is encrypted"
    if member.compress_type not in _METHODS:
        return f"is packed in a way ({member.compress_type}) that isn't known here"
    if member.file_size > _SMALL and member.file_size > MOST_RATIO * max(member.compress_size, 1):
        return f"would unpack from {member.compress_size} bytes to {member.file_size}"
    return None


def _shown(name: str) -> str:
    return repr(name if len(name) <= 80 else f"{name[:77]}...")


def _refuse_many(path: Path) -> None:
    """Raises a DatasetError for a zip of too many members, before anything that grows with them is read."""
    with open_regular(path) as file:
        start, size = _directory(file, path.stat().st_size)
        if size // 46 <= MOST_FILES:
            return
        file.seek(start)
        count = 0
        while size > 0 and (block := file.read(min(size, 2**22))):
            size -= len(block)
            count += block.count(b"PK\x01\x02")
        if count > MOST_FILES:
            raise DatasetError(f"{path} has more than {MOST_FILES} members. {_ADVICE}")


def _directory(file: IO[bytes], length: int) -> tuple[int, int]:
    """Where a zip's list of members begins, and its bytes; 0, 0 where there is none.

    Source: PKWARE's "APPNOTE.TXT", sections 4.3.14 to 4.3.16.
    """
    file.seek(max(0, length - 2**16 - 100))
    tail = file.read()
    end = tail.rfind(b"PK\x05\x06")
    if end < 0 or len(tail) < end + 20:
        return 0, 0
    size = struct.unpack_from("<I", tail, end + 12)[0]
    large = tail.rfind(b"PK\x06\x06", 0, end)
    if large >= 0 and len(tail) >= large + 56:
        size = max(size, struct.unpack_from("<Q", tail, large + 40)[0]) if size == 0xFFFFFFFF else size
    size = min(size, length)
    return max(0, length - len(tail) + end - size), size


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


def joined(*parts: str) -> str:
    """Names of folders and a file, those that aren't empty, with ``/``."""
    return PurePosixPath(*(part for part in parts if part)).as_posix()
