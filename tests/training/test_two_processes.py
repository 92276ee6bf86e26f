"""Two processes on a CPU: losses, gradients and evaluations of one, steps left out together, an end with a reason."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from detr_d2.data import register_from_config
from detr_d2.structures import BatchedInputs

from detectron2.config import CfgNode
from detectron2.modeling import build_model

MASKS: tuple[object, ...] = (
    *("MODEL.DETR.MASK_ON", True, "MODEL.DETR.FREEZE_DETECTOR", False, "MODEL.DETR.DROPOUT", 0.0),
    *("MODEL.DEVICE", "cpu", "DATALOADER.NUM_WORKERS", 0, "MODEL.RESNETS.NORM", "FrozenBN"),
)
#: Nothing is left to chance, and a step's size is that of the gradients.
PLAIN: tuple[object, ...] = (
    *("INPUT.RANDOM_FLIP", "none", "INPUT.DETR_CROP.ENABLED", False, "INPUT.MIN_SIZE_TRAIN", (96,)),
    *(
        "SEED",
        1,
        "SOLVER.OPTIMIZER",
        "SGD",
        "SOLVER.BASE_LR",
        0.01,
        "SOLVER.WARMUP_ITERS",
        0,
        "SOLVER.IMS_PER_BATCH",
        4,
    ),
)

SCRIPT = """
import importlib.util
import json
import sys
from pathlib import Path

import torch

import detr_d2
from detr_d2.data import DetrPanopticDatasetMapper, register_from_config
from detr_d2.errors import DivergenceError
from detr_d2.training.accumulation import AccumulatedSteps
from detr_d2.training.processes import Team, run_in_team
from detectron2.modeling import build_model
from detectron2.utils import comm
from detectron2.utils.events import EventStorage


def compare(cfg, folder):
    rank = comm.get_rank()
    batches, weights = torch.load(Path(folder, "batches.pth"), weights_only=False)
    found = {}
    for name, halves in batches.items():
        model = build_model(cfg).train()
        model.load_state_dict(weights)
        model = torch.nn.parallel.DistributedDataParallel(model, broadcast_buffers=False)
        losses = model(halves[rank])
        sum(losses.values()).backward()
        gathered = comm.all_gather({name: float(loss.detach()) for name, loss in losses.items()})
        means = {name: sum(each[name] for each in gathered) / 2 for name in losses}
        found[name] = means, {name: p.grad for name, p in model.module.named_parameters() if p.requires_grad}
        found[name + ", in parts"] = accumulate(cfg, model, halves[rank])
    torch.save(found, Path(folder, f"compared{rank}.pth"))


def accumulate(cfg, model, batch):
    parts, optimizer = cfg.clone(), torch.optim.SGD(model.parameters(), lr=0.0)
    parts.SOLVER.ACCUMULATE_BATCHES = 2
    with EventStorage() as storage:
        AccumulatedSteps(parts, model, [batch], optimizer).take()
        means = {name: value for name, (value, _) in storage.latest().items() if name.startswith("loss_")}
    return means, {name: p.grad for name, p in model.module.named_parameters() if p.requires_grad}


def leave_out(cfg, folder, project):
    rank, give, calls = comm.get_rank(), DetrPanopticDatasetMapper.to_example, iter(range(99))

    def spoiled(self, *arguments):
        item = give(self, *arguments)
        return item | {"image": item["image"] * float("nan")} if rank == 1 and next(calls) in (1, 2) else item

    DetrPanopticDatasetMapper.to_example = spoiled
    spec = importlib.util.spec_from_file_location("train_net_of_two", Path(project, "train_net.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    trainer, message = module.Trainer(cfg), ""
    try:
        trainer.train()
    except DivergenceError as error:
        message = str(error)
    total = float(sum(p.detach().double().sum() for p in trainer.model.parameters()))
    found = {"message": message, "skipped": trainer.guard.skipped, "iteration": trainer.iter, "weights": total}
    Path(folder, f"left_out{rank}.json").write_text(json.dumps(found))


def work(folder, project):
    for name, task in (("compare", compare), ("leave_out", lambda *arguments: leave_out(*arguments, project))):
        cfg = detr_d2.load_config(str(Path(folder, name + ".yaml")))
        register_from_config(cfg)
        task(cfg, folder)


if __name__ == "__main__":
    run_in_team(Team(2, 2, 0, "auto"), False, work, sys.argv[1:])
"""


@pytest.fixture
def cases(tiny_config: Callable[..., CfgNode], yard_folder: Path) -> tuple[CfgNode, dict[str, list[BatchedInputs]]]:
    """A config, and batches of four images in two halves: with objects; without in an image, in a half, in both."""
    from detr_d2.training.evaluators import GroundTruthMapper

    from detectron2.data import DatasetCatalog

    cfg = tiny_config(*MASKS, *PLAIN, "TEST.VALIDATION_LOSS", True)
    register_from_config(cfg)
    mapper = GroundTruthMapper(cfg)
    items = [mapper(record) for record in DatasetCatalog.get("yard_train")[:4]]
    bare = [item | {"instances": item["instances"][:0]} for item in items]
    return cfg, {
        "objects": [items[:2], items[2:]],
        "an image without": [[items[0], bare[1]], items[2:]],
        "a process without": [items[:2], bare[2:]],
        "none at all": [bare[:2], bare[2:]],
    }


def test_two_processes_take_the_steps_of_one(
    cases: tuple[CfgNode, dict[str, list[BatchedInputs]]],
    tiny_config: Callable[..., CfgNode],
    tmp_path: Path,
    project_folder: Path,
) -> None:
    cfg, batches = cases
    model = build_model(cfg).train()
    torch.save((batches, model.state_dict()), tmp_path / "batches.pth")
    (tmp_path / "compare.yaml").write_text(cfg.dump())
    keys = ("DATASETS.TEST", (), "SOLVER.MAX_ITER", 4, "SOLVER.MAX_SKIPPED_STEPS", 1)
    (tmp_path / "leave_out.yaml").write_text(tiny_config(*MASKS, *keys).dump())
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [sys.executable, "-W", "ignore", "script.py", str(tmp_path), str(project_folder)]

    # The limit is for processes that wait for each other for ever; a busy machine takes minutes.
    done = subprocess.run(
        command, cwd=tmp_path, env=_environment(project_folder), timeout=3600, capture_output=True, text=True
    )

    assert done.returncode == 0, done.stderr[-3000:]
    compared = [torch.load(tmp_path / f"compared{rank}.pth", weights_only=True) for rank in (0, 1)]
    for name, halves in batches.items():
        model.zero_grad()
        losses = model(halves[0] + halves[1])
        torch.stack(list(losses.values())).sum().backward()
        expected = {key: p.grad for key, p in model.named_parameters() if p.requires_grad}
        whole = {key: float(value.detach()) for key, value in losses.items()}
        for means, gradients in (each[name] for each in compared):
            assert means == pytest.approx(whole, rel=1e-5)
            torch.testing.assert_close(gradients, expected, rtol=1e-3, atol=1e-5)
        for means, gradients in (each[f"{name}, in parts"] for each in compared):
            assert means == pytest.approx(whole, rel=1e-5)
            difference = torch.cat([(each - expected[key]).flatten() for key, each in gradients.items()]).norm()
            assert difference < 0.005 * torch.cat([each.flatten() for each in expected.values()]).norm()
    first, second = (json.loads((tmp_path / f"left_out{rank}.json").read_text()) for rank in (0, 1))
    assert first == second and first["skipped"] == 1 and first["iteration"] == 2
    assert first["message"].startswith("Process 1: The training diverged at iteration 2")
    assert "iteration_0000002_process_1.pth" in first["message"]


@pytest.fixture
def start(tiny_config: Callable[..., CfgNode], project_folder: Path, tmp_path: Path) -> Callable[..., list[str]]:
    """The command line of a training of a tiny model: launcher's words, then options and KEY VALUE pairs."""

    def make(launcher: tuple[str, ...], *words: object) -> list[str]:
        file = tmp_path / "config.yaml"
        file.write_text(tiny_config(*MASKS, *PLAIN, "TEST.SCENES", 0).dump())
        return [
            *(sys.executable, "-W", "ignore", *launcher, str(project_folder / "train_net.py"), "--config-file"),
            *(str(file), *map(str, words)),
        ]

    return make


TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
TWO = ("--num-gpus", "2", "--dist-url", "auto")


def test_a_training_of_two_processes_is_that_of_one(
    start: Callable[..., list[str]], project_folder: Path, tmp_path: Path
) -> None:
    found = {}
    for name, launcher, options in (("one", (), ()), ("two", (), TWO), ("torchrun", TORCHRUN, ())):
        keys = ("SOLVER.MAX_ITER", "3", "DATASETS.TEST", "()", "OUTPUT_DIR", str(tmp_path / name))
        _run(start(launcher, *options, *keys), project_folder, tmp_path)
        found[name] = torch.load(tmp_path / name / "model_final.pth", weights_only=True)["model"]

    for name in ("two", "torchrun"):
        assert "log.txt.rank1" in os.listdir(tmp_path / name)
        torch.testing.assert_close(found[name], found["one"], rtol=1e-3, atol=1e-5)


def test_an_evaluation_by_two_processes_is_that_of_one(
    start: Callable[..., list[str]], tiny_config: Callable[..., CfgNode], project_folder: Path, tmp_path: Path
) -> None:
    from tests.made_models import decided

    cfg = tiny_config(*MASKS)
    register_from_config(cfg)
    from detr_d2.checkpoint import DetrCheckpointer

    DetrCheckpointer(decided(cfg), str(tmp_path)).save("weights")
    keys = ("MODEL.WEIGHTS", tmp_path / "weights.pth", "MODEL.DETR.SCORE_THRESHOLD", "0.1", "TEST.PANOPTIC_PNG", "True")

    for name, options in (("one", ()), ("two", TWO)):
        _run(start((), *options, "--eval-only", *keys, "OUTPUT_DIR", tmp_path / name), project_folder, tmp_path)

    one, two = (tmp_path / name / "inference" / "yard_val" for name in ("one", "two"))
    names = {path.relative_to(one) for path in one.rglob("*") if path.is_file()}
    assert names == {path.relative_to(two) for path in two.rglob("*") if path.is_file()}
    different = {str(name) for name in names if _content(one / name) != _content(two / name)}
    # Times, the command and the run's own folder.
    assert different <= {"run.json", "report.html", "report.json"}, different
    reports = [json.loads((folder / "report.json").read_text()) for folder in (one, two)]
    for report in reports:
        report["run"] = None
    assert reports[0] == reports[1]


def _content(path: Path) -> Any:
    """A file's bytes; of a zip, whose entries have their time, those of the entries; of a ``.pth`` what it holds."""
    if path.suffix == ".pth":
        return torch.load(path, weights_only=True)
    if path.suffix != ".zip":
        return path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_a_process_that_is_killed_ends_the_run_with_its_reason(
    start: Callable[..., list[str]], project_folder: Path, tmp_path: Path
) -> None:
    keys = ("SOLVER.MAX_ITER", "100000", "SOLVER.CHECKPOINT_PERIOD", "3", "DATASETS.TEST", "()")
    out, err = tmp_path / "out.txt", tmp_path / "err.txt"
    with open(out, "wb") as stdout, open(err, "wb") as stderr:
        process = subprocess.Popen(
            start((), *TWO, *keys), stdout=stdout, stderr=stderr, cwd=tmp_path, env=_environment(project_folder)
        )
        while "0000002.pth" not in out.read_text(errors="replace") and process.poll() is None:
            time.sleep(0.1)

        os.kill(max(_children(process.pid)), signal.SIGKILL)
        code = process.wait(600)

    assert code == 2, err.read_text()
    assert "error: process 1 was ended by SIGKILL" in err.read_text() and "Traceback" not in err.read_text()


def _children(parent: int) -> list[int]:
    """Processes that another one has started, but for Python's resource tracker."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            words = (entry / "cmdline").read_bytes()
        except (OSError, IndexError):
            continue
        if int(fields[1]) == parent and b"spawn_main" in words:
            found.append(int(entry.name))
    return found


def _environment(project: Path) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(project), "OMP_NUM_THREADS": "1"}


def _run(command: list[str], project: Path, folder: Path) -> Any:
    done = subprocess.run(
        command, cwd=folder, env=_environment(project), timeout=3600, capture_output=True, text=True, errors="replace"
    )
    assert done.returncode == 0, done.stderr[-3000:]
