"""Lines that all processes write, and the main one reads, without keeping them in memory."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator

from detr_d2.errors import ConfigError

from detectron2.utils import comm


class LineSpool:
    """Lines on disk, in a file that goes away with this object.

    Raises:
        ConfigError: in any method: the folder of temporary files is full, or can't be written.
    """

    def __init__(self) -> None:
        with _told():
            self._file = tempfile.TemporaryFile()  # noqa: SIM115  open as long as this object lives

    def add(self, line: bytes) -> None:
        """Add a line, which ends with a line break."""
        with _told():
            self._file.write(line)

    def gathered(self) -> Iterator[bytes]:
        """In the main process the lines of all processes, in the order of their ranks; none elsewhere.

        All processes have to call it, and to iterate.
        """
        with _told():
            self._file.seek(0)
        if comm.get_world_size() == 1:
            yield from self._file
            return
        for part in comm.gather(self._file.read()):
            yield from part.splitlines(keepends=True)


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """What the system refuses, with the folder, which nobody has named."""
    try:
        yield
    except OSError as error:
        raise ConfigError(
            f"what is kept of each image while an evaluation goes on can't be written to {tempfile.gettempdir()}: "
            f"{error.strerror or error}. Make room there, or set TMPDIR to a folder on another disk."
        ) from error
