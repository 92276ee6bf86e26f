"""The command detr-d2: its help, its subcommands, its exit codes."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import detr_d2
from detr_d2 import cli


def help_of(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    with pytest.raises(SystemExit) as stopped:
        cli.main([*words, "--help"])

    assert stopped.value.code == 0
    return capsys.readouterr().out


def test_help_lists_every_subcommand_with_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    text = help_of(capsys)

    for name, command in cli.COMMANDS.items():
        assert re.search(rf"^    {name}\s", text, flags=re.MULTILINE)
        assert command.help in text


@pytest.mark.parametrize("name", sorted(cli.COMMANDS))
def test_subcommand_help_has_a_description_and_an_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = help_of(capsys, name)

    assert "example" in text
    assert f"detr-d2 {name}" in text.split("example", 1)[1]


@pytest.mark.parametrize("words", [[], ["unknown"], ["env", "--unknown"]])
def test_wrong_arguments_exit_with_two_and_the_usage(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main(words)

    assert stopped.value.code == 2
    assert "usage: detr-d2" in capsys.readouterr().err


def test_unknown_option_shows_the_usage_of_its_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["env", "--unknown"])

    error = capsys.readouterr().err
    assert "usage: detr-d2 env" in error and "unknown: --unknown; see detr-d2 env --help" in error


@pytest.mark.parametrize(
    "words",
    [
        ["model.pth", "a.jpg", "b.jpg", "--out", "results", "--rank"],
        ["model.pth", "--out", "results", "a.jpg", "--rank", "b.jpg"],
        ["--out", "results", "--rank", "model.pth", "a.jpg", "b.jpg"],
        ["model.pth", "--out", "results", "a.jpg", "b.jpg", "--rank", "--opts", "MODEL.DEVICE", "cpu"],
    ],
)
def test_options_stand_anywhere(words: list[str]) -> None:
    args = cli.build_parser("predict").parse_args(["predict", *words])

    assert (args.model, args.inputs, args.out, args.rank) == ("model.pth", ["a.jpg", "b.jpg"], "results", True)


def test_name_that_begins_with_a_dash_stands_behind_two() -> None:
    args = cli.build_parser("predict").parse_args(["predict", "model.pth", "--rank", "--", "-a.jpg"])

    assert args.inputs == ["-a.jpg"]


def test_help_imports_no_subcommand() -> None:
    before = set(sys.modules)

    cli.build_parser(chosen=None)

    assert {command.module for command in cli.COMMANDS.values()}.isdisjoint(set(sys.modules) - before)


def test_version_is_the_package_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["--version"])

    assert capsys.readouterr().out == f"detr_d2 {detr_d2.__version__}\n"


def test_python_dash_m_is_quiet_and_shows_a_user_error_without_traceback(project_folder: Path) -> None:
    code = (
        "import runpy, sys; import detr_d2.environment as e; from detr_d2.errors import DatasetError\n"
        "def run(args): raise DatasetError('fix this')\n"
        "e.run = run; sys.argv = ['detr-d2', 'env']; runpy.run_module('detr_d2', run_name='__main__')"
    )

    done = subprocess.run([sys.executable, "-c", code], cwd=project_folder, capture_output=True, text=True)

    assert (done.returncode, done.stdout, done.stderr) == (2, "", "error: fix this\n")


def test_without_a_command_all_of_them_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main([])

    shown = capsys.readouterr().err
    assert stopped.value.code == 2
    assert all(name in shown for name in cli.COMMANDS)
