"""Files: only regular ones are read, and outputs never replace inputs."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from detr_d2.errors import ConfigError
from detr_d2.files import (
    SpecialFileError,
    open_regular,
    read_at_most,
    refuse_replacing,
    refuse_special,
    write_text,
)
from tests.special_files import make_special


def test_regular_file_is_read_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to(tmp_path / "file")

    with open_regular(tmp_path / "link") as file:
        assert file.read() == b"content"


@pytest.mark.parametrize(("kind", "words"), [("pipe", "a named pipe"), ("folder", "a folder"), ("zero", "a device")])
def test_special_file_is_refused_at_once(kind: str, words: str, tmp_path: Path) -> None:
    path = make_special(tmp_path / "special", kind)

    with pytest.raises(SpecialFileError, match=f"special is {words}; a regular file is needed"):
        open_regular(path)
    with pytest.raises(SpecialFileError, match=words):
        refuse_special(path)


def test_absent_file_is_the_usual_error(tmp_path: Path) -> None:
    refuse_special(tmp_path / "absent")

    with pytest.raises(FileNotFoundError):
        open_regular(tmp_path / "absent")


@pytest.mark.parametrize("way", ["same", "relative", "symbolic link", "hard link"])
def test_output_that_is_an_input_is_refused(way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "labels.json"
    source.write_text("{}")
    monkeypatch.chdir(tmp_path)
    output = {"same": source, "relative": Path("labels.json")}.get(way, tmp_path / "other.json")
    if way == "symbolic link":
        output.symlink_to(source)
    elif way == "hard link":
        os.link(source, output)

    with pytest.raises(ConfigError, match=r"--json .* is one of the files that are read"):
        refuse_replacing(output, [tmp_path / "other", source], "--json")


def test_output_beside_an_input_is_fine(tmp_path: Path) -> None:
    (tmp_path / "labels.json").write_text("{}")

    refuse_replacing(tmp_path / "new.json", [tmp_path / "labels.json", tmp_path / "absent"], "--json")


def test_file_of_the_longest_name_can_be_written(tmp_path: Path) -> None:
    path = write_text(tmp_path / ("n" * 255), "text")

    assert path.read_text() == "text"


def _interrupted_at_every_step(act: Callable[[], object]) -> Iterator[None]:
    """Runs ``act`` again and again, with Ctrl-C one bytecode later each time; yields after each until it gets through.

    Raises:
        BaseException: whatever else than KeyboardInterrupt came of it.
    """
    left = 0

    def interrupt(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal left
        frame.f_trace_opcodes = True
        left -= event == "opcode"
        if left == 0 and event == "opcode":
            raise KeyboardInterrupt
        return interrupt

    before = sys.gettrace()
    for step in range(1, 2000):
        left = step
        sys.settrace(interrupt)
        try:
            act()
            return
        except KeyboardInterrupt:
            sys.settrace(before)
            yield
        finally:
            sys.settrace(before)
    raise AssertionError("it never got through")


def test_an_interrupt_while_a_file_is_opened_stays_an_interrupt(tmp_path: Path) -> None:
    """Ctrl-C at any step: a file that is closed twice would make an error of it, as if the file couldn't be read."""
    path = tmp_path / "file"
    path.write_bytes(b"content")

    interrupts = sum(1 for _ in _interrupted_at_every_step(lambda: open_regular(path).close()))

    assert interrupts > 10


def test_an_interrupt_while_a_file_is_written_leaves_the_old_or_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    interrupts = 0
    for _ in _interrupted_at_every_step(lambda: write_text(path, "new")):
        interrupts += 1
        assert path.read_text() in ("old", "new")
        assert os.listdir(tmp_path) == ["file"]

    assert interrupts > 10


@pytest.mark.parametrize(("limit", "expected"), [(2**50, b"content"), (7, b"content"), (3, b"con")])
def test_file_is_read_with_no_more_memory_than_it_needs(tmp_path: Path, limit: int, expected: bytes) -> None:
    (tmp_path / "file").write_bytes(b"content")

    with open_regular(tmp_path / "file") as file:
        assert read_at_most(file, limit) == expected  # memory of 2**50 bytes can't be had


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="no /proc")
def test_file_whose_size_is_unknown_is_read_to_its_end() -> None:
    with open("/proc/self/status", "rb") as file:
        assert b"VmPeak" in read_at_most(file, 2**20)


def test_pipe_is_read_with_no_more_memory_than_it_needs() -> None:
    content = bytes(range(256)) * 2**13
    reader, writer = os.pipe()
    sending = threading.Thread(target=_send, args=(writer, content))
    sending.start()

    with open(reader, "rb") as pipe:
        received = read_at_most(pipe, 2**50)  # so much can't be had

    sending.join()
    assert received == content


def _send(writer: int, content: bytes) -> None:
    with open(writer, "wb") as pipe:
        pipe.write(content)
