"""Signals end a training with a checkpoint, from which it goes on as if nothing had happened."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from detr_d2.data.train_loader import OutlivingSignals
from detr_d2.errors import ConfigError, Terminated, run_command
from detr_d2.training.output_folder import locking_output_folder
from detr_d2.training.stopping import terminated_by_signal
from tests.training.cutting import Cut, differences


def signals(*numbers: int) -> Callable[[], None]:
    return lambda: [os.kill(os.getpid(), number) for number in numbers] and None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_after_the_iteration(train: Callable[..., Any], tmp_path: Path, number: int) -> None:
    before = signal.getsignal(number)

    whole, resumed = train("whole"), train("resumed", cuts=[Cut(2, signals(number))])

    assert differences(whole, resumed) == []
    assert (tmp_path / "resumed" / "model_0000002.pth").is_file() and signal.getsignal(number) is before


def test_a_signal_in_the_last_iteration_leaves_the_evaluation_to_the_next_run(
    train: Callable[..., Any], tmp_path: Path
) -> None:
    whole, resumed = train("whole"), train("resumed", cuts=[Cut(5, signals(signal.SIGTERM))])

    assert differences(whole, resumed) == []
    lines = [(tmp_path / name / "evaluations.jsonl").read_text().count("\n") for name in ("whole", "resumed")]
    assert lines == [3, 3]


def test_the_second_signal_does_not_wait(train: Callable[..., Any], tmp_path: Path) -> None:
    train("resumed", cuts=[Cut(2, signals(signal.SIGINT, signal.SIGINT))])

    assert not (tmp_path / "resumed" / "model_0000002.pth").exists()


def test_an_evaluation_is_interrupted_and_made_up_for(
    train: Callable[..., Any], real_trainer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train("whole", "TEST.EVAL_PERIOD", 3)
    evaluate, tested = real_trainer.test, []

    def interrupted(cfg: Any, model: Any, evaluators: Any = None) -> Any:
        tested.append(model)
        if len(tested) == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return evaluate(cfg, model, evaluators)

    monkeypatch.setattr(real_trainer, "test", staticmethod(interrupted))

    resumed = train("resumed", "TEST.EVAL_PERIOD", 3, cuts=[Cut(9)])

    assert differences(whole, resumed) == [] and len(tested) == 3
    assert (tmp_path / "resumed" / "model_0000002.pth").is_file()


def test_termination_has_its_own_exit_code() -> None:
    def terminate() -> None:
        with terminated_by_signal():
            os.kill(os.getpid(), signal.SIGTERM)

    assert run_command(terminate) == 143
    assert issubclass(Terminated, KeyboardInterrupt)


class Waiting(torch.utils.data.Dataset[str]):
    """Three texts."""

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> str:
        return f"{os.getpid()} {OutlivingSignals(lambda entry: {'number': entry})(index)['number']}"


def test_workers_leave_signals_to_their_parent() -> None:
    loader = iter(torch.utils.data.DataLoader(Waiting(), num_workers=1, prefetch_factor=1, batch_size=None))

    pid = int(next(loader).split()[0])
    # From another process, as from a terminal or a scheduler.
    subprocess.run(["kill", "-INT", str(pid)], check=True)
    subprocess.run(["kill", "-TERM", str(pid)], check=True)

    assert [text.split()[1] for text in loader] == ["1", "2"]


# --- the output folder ------------------------------------------------------------------------------------------------

HOLDER = """
import sys
import detr_d2
from detr_d2.training.output_folder import locking_output_folder
with locking_output_folder(sys.argv[1]):
    print("locked", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(project_folder: Path, tmp_path: Path) -> Any:
    """Another process that writes into the folder ``run``."""
    env = os.environ | {"PYTHONPATH": str(project_folder)}
    command = [sys.executable, "-W", "ignore", "-c", HOLDER, str(tmp_path / "run")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env) as process:
        assert process.stdout is not None
        while process.stdout.readline().strip() != "locked":
            assert process.poll() is None
        yield process
        process.kill()


def test_a_second_run_in_a_folder_is_refused(holder: Any, tmp_path: Path) -> None:
    with (
        pytest.raises(ConfigError, match=f"another run is writing there .process {holder.pid} on "),
        locking_output_folder(str(tmp_path / "run")),
    ):
        pass


def test_a_lock_ends_with_its_process(holder: Any, tmp_path: Path) -> None:
    holder.kill()
    holder.wait()

    with locking_output_folder(str(tmp_path / "run")):
        assert f"process {os.getpid()} on " in (tmp_path / "run" / "running.lock").read_text()


def test_what_a_killed_run_had_begun_to_write_is_removed(tmp_path: Path) -> None:
    begun = [".model_0000004.pth.0123abcd", ".last_checkpoint.0123abcd"]
    others = [".model_notes", ".config.yaml.0123abcd", "model_0000004.pth"]
    for name in (*begun, *others):
        (tmp_path / name).write_text("")

    with locking_output_folder(str(tmp_path)):
        pass

    assert {path.name for path in tmp_path.iterdir()} == {*others, "running.lock"}
