"""An export that can't be read is named: ``prepare`` refuses before it begins, ``check`` reports it as an error."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.preparing import check, leftovers, prepare, run_without_privileges, write_export

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="rights and links as Linux has them")


@pytest.fixture
def exports(tmp_path: Path) -> Iterator[Path]:
    """A folder of two exports, ``brick`` and ``pipe``."""
    for seed, name in enumerate(("brick", "pipe")):
        write_export(tmp_path / "exports" / name, seed=seed)
    yield tmp_path / "exports"
    subprocess.run(["chmod", "-R", "u+rwX", str(tmp_path)], check=False)


def forbid_folder(export: Path) -> Path:
    export.chmod(0)
    return export


def forbid_json(export: Path) -> Path:
    (export / "coco.json").chmod(0)
    return export / "coco.json"


def lose_folder(export: Path) -> Path:
    """A link to a disk that isn't there any more."""
    export.rename(export.parent.parent / "elsewhere")
    export.symlink_to(export.parent.parent / "gone")
    return export


def lose_json(export: Path) -> Path:
    (export / "coco.json").unlink()
    (export / "coco.json").symlink_to(export / "gone.json")
    return export / "coco.json"


def pipe_json(export: Path) -> Path:
    (export / "coco.json").unlink()
    os.mkfifo(export / "coco.json")
    return export / "coco.json"


def empty_xml(export: Path) -> Path:
    (export / "coco.json").unlink()
    (export / "annotations.xml").write_bytes(b"")
    return export / "annotations.xml"


def broken_zip(export: Path) -> Path:
    (export / "coco.json").unlink()
    (export / "job.zip").write_bytes(b"PK\x03\x04 and then nothing")
    return export / "job.zip"


WAYS = [forbid_folder, forbid_json, lose_folder, lose_json, pipe_json, empty_xml, broken_zip]


@pytest.mark.parametrize("spoil", WAYS)
def test_prepare_names_an_export_that_cannot_be_read_and_makes_nothing(
    exports: Path, tmp_path: Path, spoil: Callable[[Path], Path]
) -> None:
    path = spoil(exports / "pipe")

    ended = run_without_privileges("prepare", "--cvat", exports, "--out", tmp_path / "made")

    assert ended.returncode == 2, ended.stderr
    assert str(path) in ended.stderr and "Traceback" not in ended.stderr
    assert not (tmp_path / "made").exists() and leftovers(tmp_path) == []


@pytest.mark.parametrize("spoil", WAYS)
def test_check_reports_an_export_that_cannot_be_read_as_an_error(exports: Path, spoil: Callable[[Path], Path]) -> None:
    path = spoil(exports / "pipe")

    ended = run_without_privileges("check", exports, "--json", "-")

    assert ended.returncode == 1, ended.stderr
    errors = [one for one in json.loads(ended.stdout)["faults"] if one["severity"] == "error"]
    assert {one["file"] for one in errors} == {str(path)}


def test_prepare_names_every_export_that_cannot_be_read(
    exports: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_export(tmp_path / "other", seed=5)
    (tmp_path / "other" / "coco.json").write_text("{")
    (exports / "brick" / "coco.json").write_text("[1")
    lose_folder(exports / "pipe")
    words = ("--cvat", exports, tmp_path / "absent", "--coco", tmp_path / "other", "--out", tmp_path / "made")

    assert prepare(*words) == 2

    message = capsys.readouterr().err
    for path in (exports / "brick", exports / "pipe", tmp_path / "absent", tmp_path / "other"):
        assert str(path) in message


def test_check_looks_at_every_export_that_prepare_reads(exports: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """However deep it lies."""
    write_export(exports / "north" / "day 2" / "drum", seed=7)
    (exports / "north" / "day 2" / "drum" / "images" / "1.jpg").unlink()

    assert check(exports) == 1

    assert "image-missing" in capsys.readouterr().out


def test_a_label_map_without_masks_is_named(exports: Path, tmp_path: Path) -> None:
    (exports / "drum").mkdir()
    (exports / "drum" / "labelmap.txt").write_text("drum:1,2,3::\n")

    ended = run_without_privileges("prepare", "--cvat", exports, "--out", tmp_path / "made")

    assert ended.returncode == 0
    assert f"WARNING: {exports / 'drum' / 'labelmap.txt'} has no masks" in ended.stderr


def test_what_the_file_system_keeps_for_itself_is_passed_by(exports: Path, tmp_path: Path) -> None:
    (exports / "lost+found").mkdir(mode=0)

    ended = run_without_privileges("prepare", "--cvat", exports, "--out", tmp_path / "made")

    assert ended.returncode == 0, ended.stderr
