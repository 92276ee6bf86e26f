"""Folders of files that are there whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from detr_d2.errors import DatasetError
from detr_d2.files import current_umask, uninterrupted


@contextmanager
def new_folder(target: Path, marker: str, files: Collection[str], kind: str) -> Iterator[Path]:
    """A folder to write into; it is renamed to ``target`` at the end, or removed where that isn't reached.

    A folder of the same kind that is there already is replaced once the new one is complete.

    Args:
        target: absolute path.
        marker: a file that every folder of this kind has.
        files: all names that such a folder may hold.
        kind: what it is, for messages: "a yard dataset".

    Raises:
        DatasetError: ``target`` is or holds something else.
    """
    refuse_foreign(target, marker, files, kind)
    with folder_beside(target) as partial:
        yield partial


@contextmanager
def folder_beside(target: Path, is_kept: bool = True) -> Iterator[Path]:
    """A folder beside the wanted one, which takes its place at the end, or goes, and with it what was made for it.

    Args:
        target: absolute path.
        is_kept: else the folder goes in any case: it was only to be seen whether it can be made.

    Raises:
        OSError: the system refuses the folder, or its name.
    """
    made = [above for above in target.parents if not above.exists()]
    partial = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{target.name[:20]}.", suffix=".partial", dir=target.parent))
        with suppress(FileNotFoundError):
            os.lstat(target)  # says that a name is too long, before anything is done for it
        yield partial
        if is_kept:
            partial.chmod(0o777 & ~current_umask())
            put_in_place(partial, target)
            made = []
    finally:
        with uninterrupted():
            if partial is not None:
                shutil.rmtree(partial, ignore_errors=True)
            for above in made:
                with suppress(OSError):  # it wasn't made after all, or another program's files are there now
                    above.rmdir()


def refuse_foreign(target: Path, marker: str, files: Collection[str], kind: str) -> None:
    """Raises a :class:`DatasetError` where ``target`` is or holds something else; see :func:`new_folder`."""
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise DatasetError(f"{target} is there and isn't a folder; name another one.")
    if not target.is_dir():
        return
    found = {entry.name for entry in target.iterdir()}
    if found and marker not in found:
        raise DatasetError(
            f"{target} holds files, but no {marker}, so it isn't {kind} and stays as it is; "
            "name a new or an empty folder."
        )
    if foreign := sorted(found - {marker, *files}):
        raise DatasetError(
            f"{target} is {kind} that also holds {', '.join(foreign[:5])}; it would be lost. "
            "Move it away or name another folder."
        )


def put_in_place(partial: Path, target: Path) -> None:
    """Rename ``partial`` to ``target``; what was there goes only once the new one stands."""
    if not target.exists():
        partial.rename(target)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".old", dir=target.parent))
    target.rename(old / "data")
    partial.rename(target)
    shutil.rmtree(old, ignore_errors=True)
