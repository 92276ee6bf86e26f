"""Two processes: one validation loss, one mean of logged figures, and both stop at the same iteration."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = """
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import torch

import detr_d2
from detr_d2.training.model_selection import EarlyStop, EarlyStopping
from detr_d2.training_step import log_scalars, mean_over_processes
from detr_d2.training.evaluation_log import EvaluationLog
from detr_d2.training.model_selection import Metric
from detr_d2.modeling.criterion import sum_of
from detr_d2.training.evaluators import MeanLosses
from detectron2.engine import launch
from detectron2.utils import comm
from detectron2.utils.events import EventStorage


def work(folder):
    rank = comm.get_rank()
    losses = MeanLosses()
    for number in range(1 + 2 * rank):  # one image here, three there
        losses.add([{"instances": None}], {"loss_ce": sum_of(torch.tensor(float(10 * rank + number)), 1)})
    found = {"validation": losses.means()}
    with EventStorage() as storage:
        log_scalars({"class_error": torch.tensor(40.0 * rank), "cardinality_error": torch.tensor(1.0)})
        found["mean"] = mean_over_processes(torch.tensor([1.0, 5.0 * rank])).tolist()
        found["logged"] = {name: value for name, (value, _) in storage.latest().items()}
    saved = []
    log = EvaluationLog(2, folder) if rank == 0 else None
    hook = EarlyStopping(2, Metric("a/b", "max"), 1, 0.0, log)
    hook.trainer = SimpleNamespace(max_iter=9, checkpointer=SimpleNamespace(save=lambda *_, **__: saved.append(rank)))
    for hook.trainer.iter in range(9):
        if log is not None and hook.trainer.iter % 2:
            log.evaluations.append({"iteration": hook.trainer.iter, "a/b": 1.0})
        try:
            hook.after_step()
        except EarlyStop:
            found["stopped"] = hook.trainer.iter
            break
    found["saved"] = saved
    Path(folder, f"rank{rank}.json").write_text(json.dumps(found))
    comm.synchronize()


if __name__ == "__main__":
    launch(work, 2, dist_url="auto", args=(sys.argv[1],))
"""


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs as many GPUs as processes where there is one")
def test_processes_agree(tmp_path: Path, project_folder: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [sys.executable, "-W", "ignore", str(tmp_path / "script.py"), str(tmp_path)]

    # The exit code says nothing: after the work, gloo's threads sometimes abort a process that Detectron2 started.
    # The limit is for processes that wait for each other for ever; a busy machine takes minutes.
    subprocess.run(command, env={**os.environ, "PYTHONPATH": str(project_folder)}, timeout=3600)

    first, second = (json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in (0, 1))
    mean = (0 + 10 + 11 + 12) / 4
    assert first["validation"] == {"total_loss": mean, "ce": mean} and second["validation"] == {}
    assert first["logged"] == second["logged"] == {"class_error": 20.0, "cardinality_error": 1.0}
    assert first["mean"] == second["mean"] == [1.0, 2.5]
    assert first["stopped"] == second["stopped"] == 3
