"""Errors that the user can fix: what they are caught as, what they say, and how a command line shows them."""

from __future__ import annotations

import pickle
import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from torch.multiprocessing import ProcessRaisedException, spawn
from torch.utils.data import DataLoader, Dataset

from detr_d2 import errors
from detr_d2.errors import UserError, run_command

CONCRETE = [
    (errors.BackendError, ImportError),
    (errors.DatasetError, KeyError),
    (errors.DatasetError, ValueError),
    (errors.ConfigError, KeyError),
    (errors.ConfigError, ValueError),
    (errors.WeightsError, ValueError),
    (errors.MissingFileError, FileNotFoundError),
]
MESSAGE = "no dataset 'yrad'; the nearest name is 'yard'.\nSee \"datasets\"."


@pytest.mark.parametrize(("error_type", "builtin"), CONCRETE)
def test_error_is_also_the_builtin_that_a_caller_expects(error_type: type[UserError], builtin: type[Exception]) -> None:
    with pytest.raises(builtin):
        raise error_type(MESSAGE)


@pytest.mark.parametrize("error_type", sorted({error for error, _ in CONCRETE}, key=lambda error: error.__name__))
def test_error_reads_as_its_plain_message_also_after_pickling(error_type: type[UserError]) -> None:
    error = error_type(MESSAGE)

    assert str(error) == str(pickle.loads(pickle.dumps(error))) == MESSAGE


def test_run_command_shows_a_user_error_as_one_message(capsys: pytest.CaptureFixture[str]) -> None:
    def main() -> int:
        raise errors.DatasetError("unknown dataset; try another")

    code = run_command(main)

    assert code == 2
    assert capsys.readouterr() == ("", "error: unknown dataset; try another\n")


@pytest.mark.parametrize(("result", "code"), [(None, 0), (0, 0), (3, 3)])
def test_run_command_returns_the_exit_code(result: int | None, code: int) -> None:
    assert run_command(lambda: result) == code


def test_interruption_that_other_code_made_another_error_of_stays_one(capsys: pytest.CaptureFixture[str]) -> None:
    def main() -> None:
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise ValueError("Invalid bounding box") from None

    code = run_command(main)

    assert code == 130 and capsys.readouterr().err == "stopped: interrupted; nothing half-written is left.\n"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


class Faulty(Dataset):
    """A dataset whose only image can't be read."""

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> None:
        try:
            Path("/no/such/image.jpg").read_bytes()
        except FileNotFoundError as error:
            raise errors.MissingFileError(MESSAGE) from error


def load_in_worker(rank: int = 0) -> None:
    list(DataLoader(Faulty(), num_workers=1))


def make_another_mistake(rank: int) -> None:
    try:
        load_in_worker()
    except UserError as error:
        raise RuntimeError("a mistake of ours") from error


@pytest.mark.parametrize("start", [load_in_worker, lambda: spawn(load_in_worker)], ids=["worker", "process"])
def test_run_command_shows_a_user_error_of_another_process_alike(
    start: Callable[[], None], capsys: pytest.CaptureFixture[str]
) -> None:
    code = run_command(start)

    assert code == 2
    assert capsys.readouterr().err == f"error: {MESSAGE}\n"


def test_run_command_lets_other_errors_of_another_process_pass() -> None:
    with pytest.raises(ProcessRaisedException, match="a mistake of ours"):
        run_command(lambda: spawn(make_another_mistake))


def test_run_command_lets_other_errors_pass() -> None:
    def main() -> int:
        return {}["a mistake of ours"]

    with pytest.raises(KeyError):
        run_command(main)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(28, "No space left on device", "out/a.png"), r"error: out/a.png: No space left on device\. Make room"),
        (NotADirectoryError(20, "Not a directory", b"f/x"), r"error: f/x: Not a directory\. A file stands where"),
        (FileExistsError(17, "File exists", "a", None, "b"), r"error: a -> b: File exists\. Name another path"),
        (OSError("odd"), r"error: odd\. Name another path"),
    ],
)
def test_run_command_shows_what_the_system_refused_in_one_sentence(
    error: OSError, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def main() -> int:
        raise error

    code = run_command(main)

    shown = capsys.readouterr().err
    assert code == 2
    assert re.match(message, shown) and shown.count("\n") == 1


class Absent(Faulty):
    """A dataset whose image isn't there, without a word of ours."""

    def __getitem__(self, index: int) -> None:
        Path("/no/such/image.jpg").read_bytes()


def load_absent_in_worker(rank: int = 0) -> None:
    list(DataLoader(Absent(), num_workers=1))


@pytest.mark.parametrize("start", [load_absent_in_worker, lambda: spawn(load_absent_in_worker)], ids=["worker", "both"])
def test_run_command_shows_what_the_system_refused_another_process(
    start: Callable[[], None], capsys: pytest.CaptureFixture[str]
) -> None:
    code = run_command(start)

    shown = capsys.readouterr().err
    assert code == 2
    assert "No such file or directory: '/no/such/image.jpg'" in shown and shown.count("\n") == 1


def test_run_command_escapes_what_steers_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    def main() -> int:
        raise errors.DatasetError("class '\x1b[31mred\x07\udcff' in\ntwo lines, größer")

    run_command(main)

    assert capsys.readouterr().err == "error: class '\\x1b[31mred\\x07\\udcff' in\ntwo lines, größer\n"


def test_run_command_takes_an_interrupt_for_an_end(capsys: pytest.CaptureFixture[str]) -> None:
    def main() -> int:
        raise KeyboardInterrupt("run it again to go on")

    assert run_command(main) == 130
    assert capsys.readouterr().err == "stopped: run it again to go on\n"
