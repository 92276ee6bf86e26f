"""What was added to a journal is read back, what was changed isn't, and two runs never write to one."""

from __future__ import annotations

import errno
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from detr_d2 import journal
from detr_d2.errors import ConfigError
from detr_d2.journal import JournalFile

LINES = [b"", b"{}", b"a b", "é".encode()]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A journal with :data:`LINES`."""
    with JournalFile(tmp_path / "made" / "journal.jsonl") as made:
        made.begin("settings")
        for line in LINES:
            made.append(line)
    return tmp_path / "made" / "journal.jsonl"


def test_lines_are_read_as_they_were_added(path: Path) -> None:
    with JournalFile(path) as again:
        found = list(again.lines())

        assert again.header == "settings"
        assert [content for _, content in found] == LINES
        assert list(again.read(offset for offset, _ in reversed(found))) == LINES[::-1]


@pytest.mark.parametrize("line", [b"\n", b"{}\n", b"00000001 {}\n", b"0 {}\n"])
def test_a_line_that_was_changed_is_left_out(path: Path, line: bytes) -> None:
    header, _, *others = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([header, line, *others]))

    with JournalFile(path) as again:
        assert [content for _, content in again.lines()] == LINES[1:]


def test_what_broke_off_is_cut_away_before_more_is_added(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])

    for _ in range(2):
        with JournalFile(path) as again:
            list(again.lines())
            again.append(b"more")

    with JournalFile(path) as again:
        assert [content for _, content in again.lines()] == [*LINES[:-1], b"more", b"more"]


def test_a_change_while_it_is_in_use_is_named(path: Path) -> None:
    with JournalFile(path) as again:
        offsets = [offset for offset, _ in again.lines()]
        path.write_bytes(path.read_bytes().replace(b"{}", b"[]"))

        with pytest.raises(ConfigError, match="was changed while it was in use"):
            list(again.read(offsets))


def test_one_run_at_a_time(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "_WAIT", 0)
    with JournalFile(path), pytest.raises(ConfigError, match="another run is writing to"):
        JournalFile(path)

    JournalFile(path).close()


def test_a_full_disk_is_said_of_the_file_and_costs_no_line_before(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with JournalFile(path) as again:
        list(again.lines())
        file, parts = again._file, [5]

        def write_a_part(line: bytes) -> int:
            if not parts:
                raise OSError(errno.EFBIG, "too large")
            return file.write(line[: parts.pop()])

        with monkeypatch.context() as patch, pytest.raises(OSError, match=re.escape(str(path))) as failure:
            patch.setattr(again, "_file", SimpleNamespace(write=write_a_part, tell=file.tell))
            again.append(b"more")
        assert failure.value.errno == errno.EFBIG, "the reason is the system's"

    with JournalFile(path) as again:
        assert [content for _, content in again.lines()] == LINES
