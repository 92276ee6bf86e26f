"""A training without space or memory, or that is interrupted, ends with one sentence and keeps its checkpoints."""

from __future__ import annotations

import errno
import os
import re
import resource
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from detr_d2.errors import ConfigError
from tests.faults.training import assert_refused, environment, spoken

# --- the disk is full -------------------------------------------------------------------------------------------------


def _files_of_at_most(size: int) -> Callable[[], None]:
    """For a process that starts: files can't become larger, which the system refuses as it does on a full disk."""

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return limit


@pytest.mark.parametrize("size", [1_000, 20_000, 100_000])
def test_a_disk_that_is_full_is_one_sentence(train, tmp_path, size):
    result = train("SOLVER.CHECKPOINT_PERIOD", "1", preexec_fn=_files_of_at_most(size))

    assert_refused(result, "File too large", "output")
    assert not list((tmp_path / "output").glob("*.pth")) and not list((tmp_path / "output").glob(".*"))


def test_a_thread_that_finds_the_disk_full_leaves_it_to_the_others(tmp_path, monkeypatch):
    import threading

    from detr_d2.training.output_folder import naming_output_folder

    shown: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", shown.append)

    def write() -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match=f"No space left on device: '{tmp_path}'"), naming_output_folder(str(tmp_path)):
        thread = threading.Thread(target=write)
        thread.start()
        thread.join()
        write()

    assert shown == [] and threading.excepthook == shown.append


def test_a_full_disk_costs_no_checkpoint_that_was_there(tiny_config, tmp_path, monkeypatch):
    from detr_d2 import files
    from detr_d2.checkpoint import DetrCheckpointer

    from detectron2.modeling import build_model

    checkpointer = DetrCheckpointer(build_model(tiny_config()), str(tmp_path))
    checkpointer.save("model_final")
    before = (tmp_path / "model_final.pth").read_bytes()

    class Full:
        """A file on a disk that is full after some bytes."""

        def __init__(self, file: Any) -> None:
            self.file, self.left = file, 1000

        def write(self, data: Any) -> int:
            self.left -= len(bytes(data))
            if self.left < 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            return int(self.file.write(data))

        def __getattr__(self, name: str) -> Any:
            return getattr(self.file, name)

        def __enter__(self) -> Full:
            return self

        def __exit__(self, *exc: object) -> None:
            self.file.close()

    monkeypatch.setattr(files, "open", lambda *words: Full(open(*words)), raising=False)  # noqa: SIM115

    with pytest.raises(OSError, match=r"No space left on device: .*model_final\.pth"):
        checkpointer.save("model_final")

    monkeypatch.undo()
    assert (tmp_path / "model_final.pth").read_bytes() == before
    assert (tmp_path / "last_checkpoint").read_text() == "model_final.pth"
    assert sorted(path.name for path in tmp_path.glob("*model*")) == ["model_final.pth"]


# --- memory -----------------------------------------------------------------------------------------------------------


def test_memory_that_does_not_do_is_one_sentence():
    from detr_d2.training.launching import explaining_exhaustion

    with (
        pytest.raises(ConfigError, match=r"memory ran out: DefaultCPUAllocator.*IMS_PER_BATCH"),
        explaining_exhaustion(),
    ):
        torch.empty(2**55)
    with pytest.raises(RuntimeError, match="something else"), explaining_exhaustion():
        raise RuntimeError("something else")


class Dying(torch.utils.data.Dataset):
    """A dataset whose worker is killed, as by a machine without memory."""

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> int:
        os.kill(os.getpid(), signal.SIGKILL)
        return index


def test_a_worker_that_is_killed_is_one_sentence():
    from detr_d2.training.launching import explaining_exhaustion

    with pytest.raises(ConfigError, match=r"a data-loader worker was lost.*NUM_WORKERS"), explaining_exhaustion():
        list(torch.utils.data.DataLoader(Dying(), num_workers=1))


# --- interruption -----------------------------------------------------------------------------------------------------


def _interrupt(
    command: list[str], env: dict[str, str], folder: Path, ready: Callable[[str], bool], whole_group: bool
) -> tuple[int, str, str]:
    """Starts a training, sends SIGINT once its output shows that it is ready; exit code, stdout and stderr."""
    out, err = folder / "out.txt", folder / "err.txt"
    with open(out, "wb") as stdout, open(err, "wb") as stderr:
        process = subprocess.Popen(command, stdout=stdout, stderr=stderr, cwd=folder, env=env, start_new_session=True)
        deadline = time.monotonic() + 240
        while not ready(out.read_text(errors="replace")):
            if process.poll() is not None or time.monotonic() > deadline:
                break
            time.sleep(0.05)
        if whole_group:
            os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        else:
            process.send_signal(signal.SIGINT)
        try:
            code = process.wait(60)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    return code, out.read_text(errors="replace"), err.read_text(errors="replace")


LONG = ("SOLVER.MAX_ITER", "100000", "SOLVER.CHECKPOINT_PERIOD", "3")


@pytest.mark.parametrize("workers", ["0", "2"])
def test_an_interrupted_training_says_how_to_go_on(command, project_folder, tmp_path, workers):
    words = command(*LONG, "DATALOADER.NUM_WORKERS", workers)

    code, _, err = _interrupt(words, environment(project_folder), tmp_path, lambda text: "0000005.pth" in text, True)

    assert code == 130 and "Traceback" not in err, err
    assert re.search(r"^stopped: .*--resume.*output/model_\d+\.pth", err, re.MULTILINE), err
    heard, _ = spoken(err)
    assert heard.startswith("Ctrl-C: the training saves and stops after this iteration")


def test_an_interruption_before_the_training_says_so(command, project_folder, tmp_path):
    """A signal that comes later, as the machine is busy, has a checkpoint written."""
    (tmp_path / "output").mkdir()
    (tmp_path / "output" / "last_checkpoint").write_text("model_of_long_ago.pth")
    words = command(*LONG[:2], "SOLVER.CHECKPOINT_PERIOD", "99999")

    code, _, err = _interrupt(
        words, environment(project_folder), tmp_path, lambda text: "Environment info" in text, True
    )

    assert code == 130 and "Traceback" not in err, err
    assert "before the first checkpoint" in err or ("goes on from" in err and "of_long_ago" not in err), err


@pytest.mark.parametrize("whole_group", [True, False], ids=["terminal", "only the first process"])
def test_interrupted_processes_end_together_and_silently(command, project_folder, tmp_path, whole_group):
    words = command("--num-gpus", "2", "--dist-url", "auto", *LONG, "DATALOADER.NUM_WORKERS", "1")

    code, _, err = _interrupt(
        words, environment(project_folder), tmp_path, lambda text: "0000005.pth" in text, whole_group
    )

    assert code == 130 and "Traceback" not in err, err
    assert re.search(r"^stopped: .*--resume.*output/model_\d+\.pth", err, re.MULTILINE), err
    with pytest.raises(ProcessLookupError):
        for _ in range(100):
            time.sleep(0.1)
            os.killpg(_group_of(tmp_path), 0)


def _group_of(folder: Path) -> int:
    """A process that was started in the folder and still runs."""
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdecimal() and os.readlink(entry / "cwd") == str(folder):
                return os.getpgid(int(entry.name))
        except OSError:
            continue
    raise ProcessLookupError


def test_an_interruption_waits_for_the_checkpoint_that_is_being_written(tmp_path, monkeypatch):
    from detr_d2.checkpoint import formats

    def save(content: Any, file: Any) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        file.write(b"whole")

    monkeypatch.setattr(formats.torch, "save", save)

    with pytest.raises(KeyboardInterrupt):
        formats.write_checkpoint({}, tmp_path / "model.pth")

    assert (tmp_path / "model.pth").read_bytes() == b"whole"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
