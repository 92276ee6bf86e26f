"""Files and folders on disk or inside zips, named by one path: ``exports/brick.zip/images/1.jpg``."""

from __future__ import annotations

import io
import os
import shutil
from functools import lru_cache
from pathlib import Path
from typing import IO

from detr_d2.errors import DatasetError
from detr_d2.files import open_regular, refuse_special

from .archives import FileTree, zip_tree
from .records import FileRef

#: What :func:`why_no_file` says where nothing stands.
NOT_THERE = "isn't there"

_ENDING = ".zip"


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
    if _ENDING not in path.lower():
        return None, ""
    parts = Path(path).parts
    for count in range(len(parts), 0, -1):
        above = Path(*parts[:count])
        if above.suffix.lower() == _ENDING and os.path.isfile(above):
            status = above.stat()
            try:
                return _listed(above, status.st_mtime_ns, status.st_size), "/".join(parts[count:])
            except DatasetError:
                return None, ""  # a zip that is refused; that is said where the dataset's files are looked for
    return None, ""


@lru_cache(maxsize=8)
def _listed(path: Path, changed: int, size: int) -> FileTree:
    return zip_tree(path)
