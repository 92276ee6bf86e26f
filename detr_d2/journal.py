"""What an interrupted run goes on with: a file that has a line for each finished thing, for one run at a time."""

from __future__ import annotations

import errno
import os
import time
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any, TypeVar

from detr_d2.errors import ConfigError
from detr_d2.files import refuse_special

try:
    import fcntl
except ImportError:  # Windows: two runs at once aren't noticed there
    fcntl = None  # type: ignore[assignment]

Own = TypeVar("Own", bound="JournalFile")
#: Processes of a run that was killed hold its lock until they notice, which takes less than all tries together.
_TRIES, _WAIT = 4, 0.5


class JournalFile:
    """Lines in the order in which they were added, each with a checksum, behind a first line that says what they are.

    Args:
        path: of the file, which is made where there is none.

    Attributes:
        header: the first line; None where the file is new.

    Raises:
        SpecialFileError: a folder, a pipe or a device is there.
        ConfigError: another run is at work with it.
    """

    def __init__(self, path: Path) -> None:
        refuse_special(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        self.path, self._file = path, path.open("r+b", buffering=0)
        try:
            lock(self._file, f"another run is writing to {path.parent}; wait for it to end, or name another folder.")
        except BaseException:
            self.close()
            raise
        with path.open("rb") as file:
            line = file.readline()
        self.header = line.decode("utf-8", "replace")[:-1] if line.endswith(b"\n") else None

    def begin(self, header: str) -> None:
        """Forgets all that is there."""
        self._file.truncate(0)
        self._file.seek(0)
        self._write(f"{header}\n".encode())
        self.header = header

    def lines(self) -> Iterator[tuple[int, bytes]]:
        """Where each line begins, and its content; lines that were changed are left out, and one that broke off ends.

        What is added next goes behind the last whole line.
        """
        with self.path.open("rb") as file:
            offset = len(file.readline())
            for line in file:
                if not line.endswith(b"\n"):
                    break
                content = _content_of(line)
                if content is not None:
                    yield offset, content
                offset += len(line)
        self._file.truncate(offset)
        self._file.seek(offset)

    def append(self, content: bytes) -> int:
        """Adds a line without line breaks in it, and returns where it begins."""
        offset = self._file.tell()
        self._write(b"%08x %s\n" % (zlib.crc32(content), content))
        return offset

    def _write(self, line: bytes) -> None:
        rest = line
        try:
            while rest:  # where a part has fitted, the next part gets to know why no more does
                rest = rest[self._file.write(rest) :]
        except OSError as error:  # what fitted is there, and is cut away when it is read
            reason = error.errno or errno.EIO
            raise OSError(reason, os.strerror(reason), str(self.path)) from error

    def read(self, offsets: Iterable[int]) -> Iterator[bytes]:
        """The lines that begin there, one at a time; also once the journal is closed.

        Raises:
            ConfigError: there are no such lines: somebody changed the file.
        """
        with self.path.open("rb") as file:
            for offset in offsets:
                file.seek(offset)
                content = _content_of(file.readline())
                if content is None:
                    raise ConfigError(f"{self.path} was changed while it was in use. Run the same command again.")
                yield content

    def close(self) -> None:
        """Lets the next run at it."""
        self._file.close()

    def __enter__(self: Own) -> Own:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _content_of(line: bytes) -> bytes | None:
    """What :meth:`JournalFile.append` made a line of; None where the line was changed since, or broke off."""
    checksum, _, content = line.partition(b" ")
    content = content.removesuffix(b"\n")
    return content if line.endswith(b"\n") and checksum == b"%08x" % zlib.crc32(content) else None


def lock(file: IO[Any], refusal: str) -> None:
    """Locks an open file, until it is closed, however the process ends; where a file system has no locks, it goes on.

    Raises:
        ConfigError: ``refusal``, where another run has locked it.
    """
    for attempt in range(_TRIES if fcntl else 0):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError as error:
            if attempt == _TRIES - 1:
                raise ConfigError(refusal) from error
            time.sleep(_WAIT)
        except OSError:  # as over some network file systems
            return
