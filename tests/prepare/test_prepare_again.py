"""Prepared by several processes, after a run that was killed, by other options, and twice at once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from detr_d2.errors import ConfigError, DatasetError, StoppedError
from detr_d2.labels.records import Box, Export, Label
from detr_d2.prepare import pipeline
from detr_d2.prepare.options import PrepareOptions
from detr_d2.prepare.pipeline import prepare
from detr_d2.prepare.stuff import build_policy
from tests.prepare.made_datasets import HEIGHT, WIDTH, make_export, prepare_in, read


def contents(folder: Path) -> dict[str, bytes]:
    """All files of a dataset; of the reports what doesn't depend on the clock."""
    found = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    files = {name: path.read_bytes() for name, path in found.items() if not name.startswith("report.")}
    report = read(folder / "report.json")
    return {**files, "report": json.dumps({**report, "seconds": 0}).encode()}


def test_several_processes_write_what_one_does(made: Callable[..., Path], tmp_path: Path) -> None:
    export = make_export(tmp_path, "job", 70)

    one, two = (made(export, out=f"{workers}/site", workers=workers) for workers in (1, 2))

    assert contents(one) == contents(two)


_KILLED = """
    import os, signal, sys
    from pathlib import Path
    import detr_d2
    from detr_d2.prepare import pipeline
    from detr_d2.prepare.journal import Journal
    from tests.prepare.made_datasets import make_export, prepare_in

    add, count = Journal.add, [0]

    def dying_add(journal, key, result):
        count[0] += 1
        if count[0] == 4:  # its files are there, its line isn't whole
            journal._file.write(key.encode())
            journal._file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        add(journal, key, result)

    Journal.add = dying_add
    folder = Path(sys.argv[1])
    prepare_in(folder, make_export(folder, "job", 9))
"""


def _kill_in_the_middle(folder: Path) -> None:
    words = [sys.executable, "-c", textwrap.dedent(_KILLED), str(folder)]
    paths = os.pathsep.join([str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH", "")])
    ended = subprocess.run(words, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="nothing is killed like this on Windows")
def test_a_killed_run_leaves_no_dataset_and_the_next_one_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    _kill_in_the_middle(killed)
    assert not (killed / "site").exists()

    prepared = prepare_in(killed, make_export(killed, "job", 9))
    prepare_in(whole, make_export(whole, "job", 9))

    assert prepared.reused == 3
    expected = contents(whole / "site")
    said = {name: content.replace(str(whole).encode(), str(killed).encode()) for name, content in expected.items()}
    assert contents(killed / "site") == said
    assert not list(killed.glob(".site*"))


def _interrupt(tmp_path: Path, export: Export, after: int, **options: Any) -> None:
    """A run that ends by Ctrl-C."""

    def stopping(things: Sequence[Any], count: int, unit: str, title: str) -> Any:
        for number, thing in enumerate(things):
            if title == "images" and number == after:
                raise KeyboardInterrupt
            yield thing

    chosen = PrepareOptions(out=tmp_path / "site", **options)
    with pytest.MonkeyPatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(pipeline, "progress", stopping)
        prepare([export], build_policy(["misc"]), chosen)


def test_other_options_begin_anew_but_another_split_goes_on(tmp_path: Path) -> None:
    export = make_export(tmp_path, "job", 6)

    _interrupt(tmp_path, export, 4)
    split_anew = prepare_in(tmp_path, export, val=0.5)
    _interrupt(tmp_path, export, 4)
    drawn_anew = prepare_in(tmp_path, export, min_area=3)

    assert (split_anew.reused, drawn_anew.reused) == (4, 0)


def test_images_and_labels_that_changed_meanwhile_are_prepared_again(tmp_path: Path) -> None:
    export = make_export(tmp_path, "job", 6)
    _interrupt(tmp_path, export, 5)
    Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "job" / "0.jpg")
    changed = replace(export.images[1], labels=(Label("drum", Box(0, 0, 9, 9)),))
    gone = replace(export, images=(export.images[0], changed, *export.images[3:]))

    prepared = prepare_in(tmp_path, gone)

    assert prepared.reused == 2
    assert len(list((tmp_path / "site" / "images").rglob("*.jpg"))) == 5
    assert len(list((tmp_path / "site" / "panoptic").rglob("*.png"))) == 5


def test_two_runs_at_once_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    export = make_export(tmp_path, "job", 2)

    def start_another(things: Sequence[Any], *about: Any) -> Any:
        with pytest.raises(ConfigError, match="another 'detr-d2 prepare'"):
            prepare_in(tmp_path, export)
        return things

    monkeypatch.setattr(pipeline, "progress", start_another)
    prepare([export], build_policy(["misc"]), PrepareOptions(out=tmp_path / "site"))


def test_memory_does_not_grow_with_the_images(tmp_path: Path) -> None:
    export = make_export(tmp_path, "job", 1)
    one = export.images[0]

    def most_memory(count: int) -> int:
        pictures = tuple(replace(one, name=f"{number}.jpg") for number in range(count))
        many = replace(export, images=pictures)
        chosen = PrepareOptions(out=tmp_path / f"of_{count}", val=0)
        tracemalloc.start()
        prepare([many], build_policy(["misc"]), chosen)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    prepare_in(tmp_path, export)  # imports what is needed, which would take minutes under tracemalloc's eyes
    few, many = most_memory(100), most_memory(600)

    assert many - few < 500 * 5000  # a name, a key and a few numbers of each; its pixels alone are more than that


def test_a_process_that_is_ended_is_told_from_a_fault_of_the_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> Any:
        raise DatasetError("a process was ended")
        yield

    monkeypatch.setattr(pipeline, "in_processes", broken)

    with pytest.raises(StoppedError, match="--workers 1 goes on"):
        prepare_in(tmp_path, make_export(tmp_path, "job", 2))
