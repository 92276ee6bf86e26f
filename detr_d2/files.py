"""Files: regular ones are read, outputs reach their path whole or not at all, and no output replaces an input."""

from __future__ import annotations

import errno
import fnmatch
import json
import os
import re
import secrets
import signal
import stat
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import IO, Any, BinaryIO

from detr_d2.errors import ConfigError, UserError

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}

#: What is read at once of something whose size nobody knows.
_PIECE_BYTES = 2**20


class SpecialFileError(UserError, OSError):
    """A pipe, a device, a socket or a folder stands where a file is meant; ``strerror`` says so without the path."""

    def __str__(self) -> str:
        if self.strerror is None:
            return super().__str__()
        return f"{self.filename} {self.strerror.removeprefix('it ')}."


def open_regular(path: str | os.PathLike[str]) -> BinaryIO:
    """Opens a regular file for reading, also through a symbolic link.

    A named pipe would block until somebody writes into it, and a device may never end, so neither is opened to be read.

    Returns:
        The open file, in binary mode.

    Raises:
        SpecialFileError: the path leads to a folder, a pipe, a device or a socket.
        OSError: what ``open`` raises.
    """
    return open(path, "rb", opener=_open_if_regular)


def read_at_most(file: IO[bytes], limit: int) -> bytes:
    """What is left of an open file, but no more than ``limit`` bytes.

    Python asks for as much memory as the number says before it reads, so that a number far beyond the file's size would
    fail where memory is scarce.
    """
    try:
        there = os.fstat(file.fileno()).st_size
    except OSError:  # a member of a zip, which is read block by block
        there = limit
    pieces = [file.read(min(limit, there + 1))]
    if len(pieces[0]) > there:  # it has grown, or is of a kind whose size nobody knows, such as a pipe
        left = limit - len(pieces[0])
        while left and (piece := file.read(min(left, _PIECE_BYTES))):
            pieces.append(piece)
            left -= len(piece)
    return b"".join(pieces)


def _open_if_regular(path: str, flags: int) -> int:
    """The descriptor; what becomes of it is for ``open``, which knows whether it is closed already."""
    descriptor = os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
    try:
        refuse_special(path, os.fstat(descriptor).st_mode)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def refuse_special(path: str | os.PathLike[str], mode: int | None = None) -> None:
    """Raises a :class:`SpecialFileError` for what is there, but is no regular file.

    Args:
        path: of the file.
        mode: its ``st_mode``; by default it is looked up, and a path where nothing is passes.
    """
    if mode is None:
        try:
            mode = os.stat(path).st_mode
        except OSError:
            return
    if not stat.S_ISREG(mode):
        kind = _KINDS.get(stat.S_IFMT(mode), "a special file")
        raise SpecialFileError(errno.EINVAL, f"it is {kind}; a regular file is needed", os.fspath(path))


def refuse_replacing(output: str | os.PathLike[str], inputs: Iterable[str | os.PathLike[str]], option: str) -> None:
    """Raises a :class:`ConfigError` where an output would replace a file that is read.

    Args:
        output: the file to be written; it may be absent.
        inputs: files that the command reads.
        option: what names the output on the command line, such as ``--json``.
    """
    there = _stat(output)
    if there is None:  # nothing is there that could be lost
        return
    for path in inputs:
        found = _stat(path)
        if found is not None and os.path.samestat(found, there):
            raise ConfigError(
                f"{option} {os.fspath(output)} is one of the files that are read, and would be replaced; "
                "name another file."
            )


def check_outputs(
    outputs: Mapping[str, str | os.PathLike[str] | None], inputs: Iterable[str | os.PathLike[str]] = ()
) -> None:
    """Refuses outputs of a command that mustn't be written, before it begins to work.

    Args:
        outputs: by what names them on the command line, such as ``--json``; None where one isn't asked for.
        inputs: files that the command reads; looked at only where an output is there already.

    Raises:
        ConfigError: two outputs are the same file, or one would replace an input.
        SpecialFileError: a folder, a pipe, a device or a socket is where one is to be.
    """
    asked = {option: path for option, path in outputs.items() if path is not None}
    known: dict[str, str] = {}
    for option, path in asked.items():
        refuse_special(path)
        other = known.setdefault(os.path.realpath(path), option)
        if other != option:
            raise ConfigError(f"{other} and {option} name the same file, {os.fspath(path)}; name two.")
    existing = {option: path for option, path in asked.items() if os.path.exists(path)}
    read = list(inputs) if existing else []
    for option, path in existing.items():
        refuse_replacing(path, read, option)


def real_path(path: str | os.PathLike[str]) -> Path:
    """As ``Path.resolve``, which raises a ``RuntimeError`` where a link leads back to itself; here that link stays."""
    return Path(os.path.realpath(path))


def _stat(path: str | os.PathLike[str]) -> os.stat_result | None:
    try:
        return os.stat(path)
    except (OSError, ValueError):  # ValueError: a null byte
        return None


def write_whole(
    path: str | os.PathLike[str], write: Callable[[BinaryIO], object], *, outlasts_power_cut: bool = False
) -> Path:
    """Calls ``write`` with a file beside ``path`` and renames that file to ``path`` once it is complete.

    Args:
        path: where to; its folder is made, and a file that is there is replaced.
        write: is given the open file.
        outlasts_power_cut: wait until all is on the disk. Without, a machine that loses its power may keep an empty
            file; a process that is killed never leaves one.

    Returns:
        ``path``.

    Raises:
        SpecialFileError: a folder, a device, a pipe or a socket is there.
        OSError: the system refuses it.
    """
    target = Path(path)
    refuse_special(target)  # a device would be replaced by a file
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.parent / f".{target.name[:20]}.{secrets.token_hex(4)}"
    try:
        with open(beside, "xb") as file:
            write(file)
            if outlasts_power_cut:
                file.flush()
                os.fsync(file.fileno())
        os.replace(beside, target)
        if outlasts_power_cut:
            _sync_folder(target.parent)
    except BaseException as error:
        with suppress(OSError):  # Ctrl-C may have come before it was made, and after it was renamed
            beside.unlink()
        refused = _refused(error)
        if refused is None:
            raise
        raise OSError(refused.errno, refused.strerror, str(target)) from error
    return target


def _refused(error: BaseException) -> OSError | None:
    """What the system refused, which names no file, or one that nobody has heard of; ``torch.save`` hides it."""
    found = error.__context__ if isinstance(error, RuntimeError) else error
    return found if isinstance(found, OSError) and found.errno and not isinstance(found, UserError) else None


def _sync_folder(folder: Path) -> None:
    """Puts the names of a folder on the disk; where folders can't be opened, the system does it by itself."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def remove_unfinished(folder: str | os.PathLike[str], pattern: str) -> list[str]:
    """Removes what :func:`write_whole` had begun to write when its process was killed.

    Nobody else may be writing there.

    Args:
        folder: of the files.
        pattern: of the names that they were to have, such as ``model_*.pth``.

    Returns:
        The paths that are gone.
    """
    removed = []
    for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else []:
        begun = re.fullmatch(r"\.(.{1,20})\.[0-9a-f]{8}", name)
        if begun and fnmatch.fnmatch(begun[1], pattern[:20]):
            path = os.path.join(folder, name)
            with suppress(OSError):
                os.unlink(path)
                removed.append(path)
    return removed


def write_text(path: str | os.PathLike[str], text: str, *, outlasts_power_cut: bool = False) -> Path:
    """Writes a text file in UTF-8, whole or not at all; see :func:`write_whole`.

    What isn't UTF-8 in names of files, which Python keeps as lone surrogates, is written as escapes, ``\\udce9``; JSON
    has the same ones.
    """
    content = text.encode("utf-8", "backslashreplace")
    return write_whole(path, lambda file: file.write(content), outlasts_power_cut=outlasts_power_cut)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Ctrl-C and SIGTERM wait for what is done within, such as removing what is half-written."""
    if threading.current_thread() is not threading.main_thread():  # only that one is interrupted
        yield
        return
    waiting: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    ours = {number: handler for number, handler in before.items() if handler is not None}  # None: not Python's
    for number in ours:
        signal.signal(number, lambda received, frame: waiting.append(received))
    try:
        yield
    finally:
        for number, handler in ours.items():
            signal.signal(number, handler)
    for received in waiting:
        signal.raise_signal(received)


def write_json(path: str | os.PathLike[str], content: Any) -> Path:
    """Writes a JSON file, whole or not at all; see :func:`write_whole`.

    Raises:
        ValueError: ``content`` holds NaN or Infinity, which JSON doesn't have.
    """
    return write_text(path, json.dumps(content, indent=1, allow_nan=False))


def current_umask() -> int:
    """The process's umask, which can be read only by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def numbered_names(names: Sequence[str]) -> list[str]:
    """Names of files, perhaps with folders in front, made distinct: the second of a name gets ``_2``, and so on.

    A name that is there already is left to its owner.
    """
    taken = {name.casefold() for name in names}
    used: set[str] = set()
    distinct = []
    for name in names:
        candidate, number = name, 2
        while candidate.casefold() in used or (candidate != name and candidate.casefold() in taken):
            candidate = str(PurePosixPath(name).with_stem(f"{PurePosixPath(name).stem}_{number}"))
            number += 1
        used.add(candidate.casefold())
        distinct.append(candidate)
    return distinct
