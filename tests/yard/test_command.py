"""``detr-d2 yard``: what it writes and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from detr_d2.cli import main
from detr_d2.errors import run_command


def test_command_writes_a_dataset(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["yard", str(tmp_path / "yard"), "--train", "2", "--val", "1", "--size", "96x80", "--seed", "5"])

    assert code == 0
    assert "2 training and 1 validation scenes of 96x80" in capsys.readouterr().out
    assert sorted(path.name for path in (tmp_path / "yard").iterdir()) == [
        "images",
        "instances_train.json",
        "instances_val.json",
        "panoptic",
        "panoptic_train.json",
        "panoptic_val.json",
        "register.yaml",
        "yard.json",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--size", "160"], "'160' isn't a size; write WIDTHxHEIGHT"),
        (["--size", "-5x10"], "isn't a size|expected one argument"),
        (["--train", "0"], "'0' isn't a whole number from 1"),
        (["--val", "many"], "'many' isn't a whole number"),
        (["--seed", "-1"], "isn't a whole number|expected one argument"),
    ],
)
def test_command_refuses_wrong_values(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["yard", str(tmp_path / "yard"), *arguments])

    assert caught.value.code == 2
    complaint = capsys.readouterr().err
    assert any(part in complaint for part in message.split("|"))
    assert not (tmp_path / "yard").exists()


def test_command_names_a_parent_that_is_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")

    code = run_command(lambda: main(["yard", str(tmp_path / "file" / "yard"), "--train", "1", "--val", "1"]))

    assert code == 2
    assert f"{tmp_path / 'file'}: File exists. Name another path" in capsys.readouterr().err


@pytest.mark.parametrize("layout", ["dataset", "cvat"])
def test_command_refuses_a_size_and_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], layout: str
) -> None:
    code = run_command(lambda: main(["yard", str(tmp_path / "yard"), "--size", "10x10", "--layout", layout]))

    assert code == 2
    assert "size 10x10; allowed are 64x48 to 4096x4096" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
