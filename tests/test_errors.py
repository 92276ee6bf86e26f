"""Errors that the user can mend: what they are caught as, what they say, and how a command line shows them."""

from __future__ import annotations

import pickle

import pytest

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


def test_run_command_lets_other_errors_pass() -> None:
    def main() -> int:
        return {}["a mistake of ours"]

    with pytest.raises(KeyError):
        run_command(main)
