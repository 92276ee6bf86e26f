"""What a user gives to evaluation, reports and plots may be damaged, disks may be full: one sentence, no traceback."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from detr_d2.cli import main
from detr_d2.evaluation import file_quality
from detr_d2.labels.panoptic_png import read_map
from detr_d2.labels.rules.rule import Finding
from tests.faults.evaluation_folders import (
    PROJECT,
    assert_one_sentence,
    run_command,
    run_here,
    write_evaluation,
    write_metrics,
    write_panoptic,
)


def words_for(command: str, folder: Path, target: Path) -> list[str | os.PathLike[str]]:
    """A command line whose output is ``target``."""
    if command.startswith("pq"):
        gt = write_panoptic(folder, "truth")
        return ["pq", "--gt", gt, "--pred", gt, f"--{command.split()[1]}", target]
    if command.startswith("compare"):
        first, second = write_evaluation(folder / "a"), write_evaluation(folder / "b", shift=1)
        return ["compare", first, second, f"--{command.split()[1]}", target, "--images", "1"]
    if command == "report":
        return ["report", write_evaluation(folder / "a"), "--output", target]
    return ["plot", write_metrics(folder / "run"), "--out", target.with_suffix("." + command.split()[1])]


COMMANDS = ["pq json", "pq csv", "compare json", "compare page", "report", "plot png", "plot html"]


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("place", "reason"),
    [("file/x", "file"), ("n" * 300, "File name too long"), ("/proc/detr_d2/x", "No such file or directory")],
    ids=["in a file", "too long", "unwritable"],
)
def test_output_that_the_system_refuses_is_one_sentence(command: str, place: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    done = run_here(*words_for(command, tmp_path, tmp_path / place), cwd=tmp_path)

    assert_one_sentence(done, reason)


@pytest.mark.parametrize("command", COMMANDS)
def test_full_disk_is_one_sentence_and_leaves_nothing(command: str, tmp_path: Path) -> None:
    words = words_for(command, tmp_path, tmp_path / "out")
    before = {path for path in tmp_path.rglob("*") if path.is_file()}

    # The kernel refuses to write more, as on a full disk, of which a test has none.
    done = run_command(*words, cwd=tmp_path, shell_prefix="ulimit -f 0", environment={"MPLCONFIGDIR": str(tmp_path)})

    assert_one_sentence(done, "File too large")
    left = {path for path in tmp_path.rglob("*") if path.is_file()} - before
    assert [path for path in left if "font" not in path.name] == []


@pytest.mark.parametrize("words", [["pq", "--gt", "truth.json", "--pred", "truth.json"], ["--help"]])
def test_standard_output_on_a_full_disk_is_one_sentence(words: list[str], tmp_path: Path) -> None:
    write_panoptic(tmp_path, "truth")
    environment = {**os.environ, "PYTHONPATH": str(PROJECT), "PYTHONUNBUFFERED": ""}

    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "detr_d2", *words]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )

    assert done.returncode == 2
    assert done.stderr.startswith("error: No space left on device") and done.stderr.count("\n") == 1


EVALUATION = """
import resource, sys
from pathlib import Path
import detr_d2
from detr_d2.errors import run_command
from detr_d2.evaluation import build_evaluator
from tests.made_evaluations import config, run, write_dataset
folder, limit, saved = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "png"
name = write_dataset(folder / "data", images=5)
cfg = config(instance_on=False)
cfg.TEST.PANOPTIC_PNG = saved
def main():
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    run(build_evaluator(cfg, name, str(folder / "out")), name)
sys.exit(run_command(main))
"""


STOP = """
def stop(evaluator):
    import os, signal
    from detectron2.data import DatasetCatalog
    from tests.made_evaluations import predict
    evaluator.reset()
    record = DatasetCatalog.get(name)[0]
    evaluator.process([record], [predict(record)])
    assert list((folder / "out").iterdir())
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background processes ignore it
    os.kill(os.getpid(), signal.SIGINT)
"""


@pytest.mark.parametrize("limit", [0, 100, 1500, 4000])
@pytest.mark.parametrize("kept", ["png", "records"])
def test_evaluation_on_a_full_disk_is_one_sentence_and_leaves_nothing_half(
    kept: str, limit: int, tmp_path: Path
) -> None:
    environment = {**os.environ, "PYTHONPATH": str(PROJECT), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-c", EVALUATION, str(tmp_path), str(limit), kept]

    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)

    assert_one_sentence(done, "File too large")
    left = [path.name for path in (tmp_path / "out").rglob("*")] if (tmp_path / "out").exists() else []
    assert [name for name in left if name.startswith(".") or "partial" in name] == []


def test_interrupted_evaluation_leaves_no_half_of_its_predictions(tmp_path: Path) -> None:
    stopping = EVALUATION.replace(
        "    resource.setrlimit",
        "    evaluator = build_evaluator(cfg, name, str(folder / 'out'))\n    stop(evaluator)\n    resource.setrlimit",
    )
    stopping = stopping.replace("def main():", STOP + "def main():")
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    command = [sys.executable, "-c", stopping, str(tmp_path), "0", "png"]

    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)

    assert done.returncode == 130, done.stderr
    assert done.stderr.startswith("stopped:") and done.stderr.count("\n") == 1
    assert list((tmp_path / "out").iterdir()) == []


def test_temporary_folder_that_is_full_is_named_with_the_remedy(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(PROJECT), "TMPDIR": str(tmp_path / "tmp")}
    (tmp_path / "tmp").mkdir()
    command = [sys.executable, "-c", EVALUATION, str(tmp_path), "0", "records"]

    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)

    assert_one_sentence(done, str(tmp_path / "tmp"), "TMPDIR")


SAVING = """
import resource, sys
import torch
from detr_d2.cli import main
from detr_d2.errors import run_command
resource.setrlimit(resource.RLIMIT_FSIZE, (20000, resource.RLIM_INFINITY))
sys.exit(run_command(lambda: main(sys.argv[1:])))
"""


def test_checkpoint_on_a_full_disk_is_one_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    import torch

    weights = {f"layer1.0.conv{i}.weight": torch.randn(64, 64) for i in (1, 2, 3)}
    stem = {"conv1.weight": torch.randn(64, 3, 7, 7), "bn1.weight": torch.randn(64)}
    torch.save(stem | weights, tmp_path / "resnet.pth")
    words = ["convert-weights", str(tmp_path / "resnet.pth"), str(tmp_path / "new.pth")]
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}

    command = [sys.executable, "-c", SAVING, *words]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)

    assert_one_sentence(done, "new.pth: File too large")
    assert [path.name for path in tmp_path.iterdir()] == ["resnet.pth"]


@pytest.mark.parametrize("seed", ["-1", "1.5", "9" * 30])
def test_seed_that_is_none_is_refused(seed: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["compare", "a", "b", "--seed", seed])

    assert stopped.value.code == 2
    assert "isn't a whole number" in capsys.readouterr().err


@pytest.mark.parametrize("workers", ["1", "2"])
def test_interrupted_pq_ends_at_once_and_writes_nothing(
    workers: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gt = write_panoptic(tmp_path, "truth", images=1)
    content = json.loads(gt.read_text())
    png = tmp_path / "truth" / content["annotations"][0]["file_name"]
    for number in range(1, 20_000):
        os.link(png, png.with_name(f"{number}.png"))
    for key, name in (("images", "id"), ("annotations", "image_id")):
        content[key] = [content[key][0] | {name: n, "file_name": f"{n}.png"} for n in range(20_000)]
    gt.write_text(json.dumps(content))
    times = itertools.count(1)
    seen = []

    def read_and_interrupt(path: str) -> tuple[np.ndarray | None, list[Finding]]:
        seen.append(path)
        if next(times) == 20:
            os.kill(os.getpid(), signal.SIGINT)
        return read_map(str(png))

    monkeypatch.setattr(file_quality, "read_map", read_and_interrupt)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background processes ignore it
    words = ["pq", "--gt", gt, "--pred", gt, "--workers", workers, "--json", "pq.json"]

    try:
        done = run_here(*words, cwd=tmp_path)
    finally:
        signal.signal(signal.SIGINT, before)

    assert done.returncode == 130
    assert done.stderr.startswith("stopped:") and done.stderr.count("\n") == 1
    assert len(seen) < 2_000
    assert not (tmp_path / "pq.json").exists()
