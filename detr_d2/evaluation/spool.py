"""Lines that all processes write, and the main one reads, without keeping them in memory."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator

from detectron2.utils import comm


class LineSpool:
    """Lines on disk, in a file that goes away with this object."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115  open as long as this object lives

    def add(self, line: bytes) -> None:
        """Add a line, which ends with a line break."""
        self._file.write(line)

    def gathered(self) -> Iterator[bytes]:
        """In the main process the lines of all processes, in the order of their ranks; none elsewhere.

        All processes have to call it, and to iterate.
        """
        self._file.seek(0)
        if comm.get_world_size() == 1:
            yield from self._file
            return
        for part in comm.gather(self._file.read()):
            yield from part.splitlines(keepends=True)
