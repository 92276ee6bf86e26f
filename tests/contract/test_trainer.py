"""``DefaultTrainer``: the loop, its hooks, the files it leaves, and going on from them."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import nn

from detectron2.config import CfgNode, get_cfg
from detectron2.engine import DefaultTrainer, HookBase, default_argument_parser, default_setup, launch
from detectron2.evaluation import DatasetEvaluator
from detectron2.modeling import META_ARCH_REGISTRY


@META_ARCH_REGISTRY.register()
class ContractLine(nn.Module):
    """Fits y = weight * x to y = 2x."""

    def __init__(self, cfg: CfgNode) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, inputs: list[dict[str, Any]]) -> Any:
        x = torch.tensor([entry["x"] for entry in inputs])
        if not self.training:
            return [{"y": float(self.weight * value)} for value in x]
        error = self.weight * x - 2 * x
        return {"loss_square": error.square().mean(), "loss_absolute": 0.1 * error.abs().mean()}


class ErrorEvaluator(DatasetEvaluator):
    def reset(self) -> None:
        self.error = 0.0

    def process(self, inputs: list[dict[str, Any]], outputs: list[dict[str, Any]]) -> None:
        self.error += sum(abs(output["y"] - 2 * entry["x"]) for entry, output in zip(inputs, outputs))

    def evaluate(self) -> dict[str, Any]:
        return {"line": {"error": self.error}}


class Trainer(DefaultTrainer):
    @classmethod
    def build_optimizer(cls, cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.SGD(model.parameters(), lr=cfg.SOLVER.BASE_LR, momentum=0.9, weight_decay=1e-4)

    @classmethod
    def build_train_loader(cls, cfg: CfgNode) -> Iterator[list[dict[str, Any]]]:
        while True:
            yield [{"x": 1.0}, {"x": 0.5}]

    @classmethod
    def build_test_loader(cls, cfg: CfgNode, dataset_name: str) -> list[list[dict[str, Any]]]:
        return [[{"x": 1.0}], [{"x": 3.0}]]

    @classmethod
    def build_evaluator(cls, cfg: CfgNode, dataset_name: str) -> DatasetEvaluator:
        return ErrorEvaluator()


@pytest.fixture
def cfg(tmp_path: Path) -> CfgNode:
    cfg = get_cfg()
    cfg.MODEL.META_ARCHITECTURE = "ContractLine"
    cfg.MODEL.DEVICE = "cpu"
    cfg.DATASETS.TEST = ("contract_line_val",)
    cfg.SOLVER.MAX_ITER = 6
    cfg.SOLVER.STEPS = (4,)
    cfg.SOLVER.BASE_LR = 0.1
    cfg.SOLVER.WARMUP_ITERS = 0
    cfg.SOLVER.CHECKPOINT_PERIOD = 4
    cfg.TEST.EVAL_PERIOD = 3
    cfg.OUTPUT_DIR = str(tmp_path / "out")
    return cfg


class Recorder(HookBase):
    def __init__(self) -> None:
        self.calls: list[str] = []

    def before_train(self) -> None:
        self.calls.append("before_train")

    def before_step(self) -> None:
        self.calls.append(f"before_step {self.trainer.iter}")

    def after_step(self) -> None:
        self.calls.append(f"after_step {self.trainer.iter} {self.trainer.storage.iter}")

    def after_train(self) -> None:
        self.calls.append(f"after_train {self.trainer.iter}")


class Failure(HookBase):
    def after_step(self) -> None:
        if self.trainer.iter == 4:
            raise KeyboardInterrupt


def metrics(cfg: CfgNode) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (Path(cfg.OUTPUT_DIR) / "metrics.json").read_text().splitlines()]


def test_trainer_leaves_checkpoints_metrics_and_events(cfg: CfgNode) -> None:
    Trainer(cfg).train()

    names = sorted(path.name for path in Path(cfg.OUTPUT_DIR).iterdir())
    assert [name for name in names if not name.startswith("events.")] == [
        "last_checkpoint",
        "metrics.json",
        "model_0000003.pth",
        "model_final.pth",
    ]
    assert any(name.startswith("events.out.tfevents") for name in names)


def test_trainer_metrics_hold_losses_rate_times_and_results(cfg: CfgNode) -> None:
    Trainer(cfg).train()

    last = {name: value for line in metrics(cfg) for name, value in line.items()}
    assert {"loss_square", "loss_absolute", "total_loss", "lr", "data_time", "rank_data_time", "time"} <= set(last)
    assert "line/error" in last and metrics(cfg)[0]["iteration"] == 5
    assert last["lr"] == pytest.approx(0.01)


# The weight after 6 steps of SGD with momentum in Detectron2 0.6.
RECORDED_WEIGHT = 2.021609


def test_trainer_weight_is_the_one_recorded_from_detectron2(cfg: CfgNode) -> None:
    trainer = Trainer(cfg)

    trainer.train()

    assert trainer.model.weight.item() == pytest.approx(RECORDED_WEIGHT, abs=1e-5)
    assert trainer.iter == trainer.max_iter == 6


def test_trainer_calls_hooks_in_order(cfg: CfgNode) -> None:
    recorder = Recorder()
    trainer = Trainer(cfg)
    trainer.register_hooks([None, recorder])

    trainer.train()

    steps = [call for i in range(6) for call in (f"before_step {i}", f"after_step {i} {i}")]
    assert recorder.calls == ["before_train", *steps, "after_train 6"]


def test_trainer_builds_its_hooks_in_detectron2s_order(cfg: CfgNode) -> None:
    built = [type(hook).__name__ for hook in Trainer(cfg).build_hooks() if hook is not None]

    assert built == ["IterationTimer", "LRScheduler", "PeriodicCheckpointer", "EvalHook", "PeriodicWriter"]


def test_checkpoint_holds_model_trainer_and_iteration(cfg: CfgNode) -> None:
    Trainer(cfg).train()

    saved = torch.load(Path(cfg.OUTPUT_DIR) / "model_0000003.pth", weights_only=True)
    assert set(saved) == {"model", "trainer", "iteration"}
    assert saved["iteration"] == saved["trainer"]["iteration"] == 3
    assert set(saved["trainer"]) == {"iteration", "hooks", "_trainer"}
    assert saved["trainer"]["hooks"] == {"LRScheduler": {"base_lrs": [0.1], "last_epoch": 4}}
    assert "momentum_buffer" in saved["trainer"]["_trainer"]["optimizer"]["state"][0]


def test_interrupted_training_resumes_to_the_same_end(cfg: CfgNode) -> None:
    uninterrupted = Trainer(cfg)
    uninterrupted.train()
    cfg.OUTPUT_DIR += "_interrupted"
    interrupted = Trainer(cfg)
    interrupted.register_hooks([Failure()])
    with pytest.raises(KeyboardInterrupt):
        interrupted.train()

    resumed, recorder = Trainer(cfg), Recorder()
    resumed.register_hooks([recorder])
    resumed.resume_or_load(resume=True)
    resumed.train()

    assert resumed.start_iter == 4 and recorder.calls[1] == "before_step 4"
    torch.testing.assert_close(resumed.model.weight, uninterrupted.model.weight)
    assert resumed.optimizer.param_groups[0]["lr"] == uninterrupted.optimizer.param_groups[0]["lr"]


def test_trainer_without_resume_starts_over_with_the_given_weights(cfg: CfgNode) -> None:
    Trainer(cfg).train()
    cfg.MODEL.WEIGHTS = str(Path(cfg.OUTPUT_DIR) / "model_final.pth")
    trainer = Trainer(cfg)

    trainer.resume_or_load(resume=False)

    assert trainer.start_iter == 0
    assert trainer.model.weight.item() != 0


def test_trainer_refuses_losses_that_are_not_finite(cfg: CfgNode) -> None:
    trainer = Trainer(cfg)
    trainer.model.weight.data.fill_(float("nan"))

    with pytest.raises(FloatingPointError, match="iteration=0"):
        trainer.train()


def test_trainer_test_returns_the_only_datasets_results_or_all_by_name(cfg: CfgNode) -> None:
    trainer = Trainer(cfg)

    one = Trainer.test(cfg, trainer.model)
    cfg.DATASETS.TEST = ("contract_a", "contract_b")
    two = Trainer.test(cfg, trainer.model, [ErrorEvaluator(), ErrorEvaluator()])

    assert one == {"line": {"error": 8.0}}
    assert two == {"contract_a": one, "contract_b": one}
    assert trainer.model.training


def test_trainer_verifies_expected_results(cfg: CfgNode) -> None:
    cfg.TEST.EXPECTED_RESULTS = [["line", "error", 8.0, 8.0]]

    assert set(Trainer(cfg).train()) == {"line"}

    cfg.TEST.EXPECTED_RESULTS = [["line", "error", 99.0, 0.1]]
    with pytest.raises(SystemExit):
        Trainer(cfg).train()


def test_argument_parser_knows_detectron2s_arguments() -> None:
    args = default_argument_parser().parse_args(["--config-file", "a.yaml", "--num-gpus", "2", "SOLVER.MAX_ITER", "5"])

    url = args.dist_url
    assert url.startswith("tcp://127.0.0.1:") and 49152 <= int(url.rpartition(":")[2]) < 65536
    assert vars(args) == {
        "config_file": "a.yaml",
        "resume": False,
        "eval_only": False,
        "num_gpus": 2,
        "num_machines": 1,
        "machine_rank": 0,
        "dist_url": url,
        "opts": ["SOLVER.MAX_ITER", "5"],
    }


def test_default_setup_saves_the_config_logs_and_seeds(cfg: CfgNode) -> None:
    cfg.SEED = 7
    args = argparse.Namespace(config_file="", eval_only=False)

    default_setup(cfg, args)
    first = torch.rand(1)
    default_setup(cfg, args)

    folder = Path(cfg.OUTPUT_DIR)
    assert yaml.safe_load((folder / "config.yaml").read_text())["SOLVER"]["MAX_ITER"] == 6
    assert "Command line arguments" in (folder / "log.txt").read_text()
    torch.testing.assert_close(torch.rand(1), first)


LAUNCHED = """
import sys
from pathlib import Path

import torch

import detr_d2
from detectron2.engine import launch
from detectron2.utils import comm


def write_rank(folder):
    gathered = comm.all_gather(comm.get_rank())
    Path(folder, f"rank{comm.get_rank()}").write_text(f"{comm.get_world_size()} {gathered} {comm.get_local_rank()}")
    comm.synchronize()


if __name__ == "__main__":
    launch(write_rank, int(sys.argv[1]), dist_url="auto", args=(sys.argv[2],))
"""


def test_launch_of_one_process_runs_the_function_here() -> None:
    called: list[int] = []

    launch(called.append, 1, args=(3,))

    assert called == [3]


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs as many GPUs as processes where there is one")
@pytest.mark.parametrize(
    ("processes", "expected"),
    [(1, {"rank0": "1 [0] 0"}), (2, {"rank0": "2 [0, 1] 0", "rank1": "2 [0, 1] 1"})],
)
def test_launch_starts_processes_that_know_each_other(
    tmp_path: Path, project_folder: Path, processes: int, expected: dict[str, str]
) -> None:
    (tmp_path / "script.py").write_text(LAUNCHED)
    (tmp_path / "out").mkdir()
    command = [sys.executable, "-W", "ignore", str(tmp_path / "script.py"), str(processes), str(tmp_path / "out")]

    # The exit code says nothing: after the work, gloo's threads sometimes abort a process that Detectron2 started.
    # The limit is for processes that wait for each other for ever; a busy machine takes minutes.
    subprocess.run(command, env={**os.environ, "PYTHONPATH": str(project_folder)}, timeout=3600)

    assert {path.name: path.read_text() for path in (tmp_path / "out").iterdir()} == expected
