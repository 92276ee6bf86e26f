"""Folders and zips as lists of files by name, and files in them by one path: ``exports/brick.zip/images/1.jpg``.

A zip that could do harm is refused, and none is unpacked to disk.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import stat
import struct
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import IO

from detr_d2.errors import DatasetError, MissingFileError
from detr_d2.files import SpecialFileError, open_regular, refuse_special

from .records import FileRef
from .values import shown

#: How files of images are called: what ``prepare`` looks for, ``demo.py`` takes from folders, and ``check`` accepts.
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".jfif", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif")
#: More files than this are no export.
MOST_FILES = 1_000_000
#: A member that grows by more than this when it is unpacked, and to more than :data:`_SMALL` bytes, is a bomb.
MOST_RATIO = 250
_SMALL = 16 * 2**20
_DRIVE_OR_ADDRESS = re.compile(r"[A-Za-z]:|[A-Za-z][A-Za-z0-9+.-]*://")
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
#: What fsck keeps at the top of a disk, for root alone.
_OF_DISK = "lost+found"
_ADVICE = "Nothing was read. Export it again, or take the file from somebody you trust."


@dataclass(frozen=True)
class FileTree:
    """A folder or a zip, and each file in it by its name there, with ``/``.

    ``unreadable`` are folders, and links that lead nowhere, each with a sentence that says so.
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


def way_out(name: str) -> str | None:
    """Why a name doesn't stay below the folder it is joined to, whichever slashes it has; None where it does."""
    plain = name.replace("\\", "/")
    if plain.startswith("/") or _DRIVE_OR_ADDRESS.match(plain):
        return "is absolute"
    return "leads out of its folder" if ".." in plain.split("/") else None


def is_safe_name(name: str) -> bool:
    """Whether a name stays below the folder it is joined to: not absolute, no drive, no address, no ``..``."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    return bool(parts) and way_out(name) is None and ":" not in parts[0] and "\0" not in name


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
            if name.startswith("."):
                continue
            # Images that are links to nowhere are looked at when their turn comes.
            if not has_image_suffix(name) and path.is_symlink() and not os.path.exists(path):
                unreadable[path] = f"{path} is a link to {os.readlink(path)}, which isn't there. Correct or remove it."
            else:
                files[(above / name).as_posix()] = FileRef(path)
        if len(files) > MOST_FILES:
            raise DatasetError(f"{folder} has more than {MOST_FILES} files; name the folder of an export.")
    return FileTree(folder, files, unreadable)


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
    except (SpecialFileError, DatasetError) as error:
        raise DatasetError(str(error)) from error
    except Exception as error:  # BadZipFile, and whatever else zipfile and its decoders raise on random bytes
        raise DatasetError(f"{path} can't be read as a zip: {str(error)[:200]}. {_ADVICE}") from error
    files: dict[str, FileRef] = {}
    for member in members:
        wrong = _harm(member)
        name = PurePosixPath(member.filename.replace("\\", "/")).as_posix()
        if wrong is None and name in files:
            wrong = "is there twice"
        if wrong:
            raise DatasetError(f"{path}: {shown(member.filename)} {wrong}. {_ADVICE}")
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


def joined(*parts: str) -> str:
    """Names of folders and a file, those that aren't empty, with ``/``."""
    return PurePosixPath(*(part for part in parts if part)).as_posix()


#: What :func:`why_no_file` says where nothing stands.
NOT_THERE = "isn't there"


def is_file(path: str) -> bool:
    """Whether there is such a file, on disk or in a zip."""
    return os.path.isfile(path) or member_of(path) is not None


def why_no_file(path: str) -> str | None:
    """Why there is no file to be read, a clause; None where there is a regular one, on disk or in a zip."""
    try:
        refuse_special(path, os.stat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None if member_of(path) is not None else NOT_THERE
    except OSError as error:
        return f"can't be read: {error.strerror or error}"
    return None


def is_folder(path: str) -> bool:
    """Whether there is such a folder, on disk or in a zip; a zip itself is one."""
    if os.path.isdir(path):
        return True
    tree, inner = _tree_of(path)
    return tree is not None and (not inner or any(key.startswith(f"{inner}/") for key in tree.files))


def opened(path: str) -> IO[bytes]:
    """The file, to be read; raises what files raise, or DatasetError for a member of a zip that can't be unpacked."""
    member = None if os.path.isfile(path) else member_of(path)
    return open_regular(path) if member is None else io.BytesIO(member.read())


def names_in(folder: str) -> list[str]:
    """Names of the files that lie in a folder, on disk or in a zip; none where there is no such folder."""
    if os.path.isdir(folder):
        return os.listdir(folder)
    tree, inner = _tree_of(folder)
    if tree is None:
        return []
    return [key.rpartition("/")[2] for key in tree.files if key.rpartition("/")[0] == inner]


def copy_file(source: str, target: Path) -> None:
    """Copy a file, on disk or in a zip, byte by byte."""
    with opened(source) as file, open(target, "wb") as copy:
        shutil.copyfileobj(file, copy)


def size_of(path: str) -> int:
    """Bytes of a file on disk; of one in a zip, at least 1, as zips keep them elsewhere."""
    return os.path.getsize(path) if os.path.isfile(path) else 1


def member_of(path: str) -> FileRef | None:
    """The member of a zip that a path names; None where there is none."""
    tree, inner = _tree_of(path)
    return None if tree is None else tree.files.get(inner)


def _tree_of(path: str) -> tuple[FileTree | None, str]:
    """The zip that a path leads into, and the name in it."""
    if ".zip" not in path.lower():
        return None, ""
    parts = Path(path).parts
    for count in range(len(parts), 0, -1):
        above = Path(*parts[:count])
        if above.suffix.lower() == ".zip" and os.path.isfile(above):
            status = above.stat()
            try:
                return _listed(above, status.st_mtime_ns, status.st_size), "/".join(parts[count:])
            except DatasetError:
                return None, ""  # a zip that is refused; that is said where the dataset's files are looked for
    return None, ""


@lru_cache(maxsize=8)
def _listed(path: Path, changed: int, size: int) -> FileTree:
    return zip_tree(path)
