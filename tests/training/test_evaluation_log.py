"""A line for every evaluation, across interruptions and restarts."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np

from detr_d2.training.evaluation_log import EvaluationLog, read_evaluations

from detectron2.utils.events import EventStorage


def _log(folder, start_iter: int = 0) -> EvaluationLog:
    log = EvaluationLog(2, str(folder))
    log.trainer = SimpleNamespace(iter=start_iter, start_iter=start_iter, max_iter=7, _last_eval_results={})
    log.before_train()
    return log


def _train(log: EvaluationLog) -> None:
    trainer = log.trainer
    with EventStorage(trainer.start_iter) as trainer.storage:
        for iteration in range(trainer.start_iter, trainer.max_iter):
            trainer.iter = trainer.storage.iter = iteration
            trainer.storage.put_scalars(lr=0.1 * iteration, total_loss=float(iteration))
            trainer._last_eval_results = {"panoptic_seg": {"PQ": np.float64(iteration), "PQ_st": float("nan")}}
            log.after_step()
        trainer.iter += 1
        trainer.storage.iter = trainer.iter
        log.after_train()


def test_log_has_a_line_for_each_evaluation(tmp_path):
    _train(_log(tmp_path / "run"))

    lines = [json.loads(line) for line in (tmp_path / "run" / "evaluations.jsonl").read_text().splitlines()]
    assert [line["iteration"] for line in lines] == [1, 3, 5, 7]
    assert lines[1]["panoptic_seg/PQ"] == 3 and lines[1]["panoptic_seg/PQ_st"] is None
    assert lines[1]["total_loss"] == 1.5 or lines[1]["total_loss"] == 2  # a median of 0, 1, 2, 3
    assert {"time", "lr"} <= set(lines[0])


def test_resumed_run_goes_on_from_its_earlier_evaluations(tmp_path):
    _train(_log(tmp_path))

    resumed = _log(tmp_path, start_iter=4)
    before = [line["iteration"] for line in resumed.evaluations]
    _train(resumed)

    assert before == [1, 3]
    assert [line["iteration"] for line in read_evaluations(tmp_path / "evaluations.jsonl")] == [1, 3, 5, 7]


def test_run_that_starts_over_knows_nothing_of_the_earlier_one(tmp_path):
    _train(_log(tmp_path))

    assert _log(tmp_path).evaluations == []


def test_incomplete_lines_are_left_out(tmp_path):
    file = tmp_path / "evaluations.jsonl"
    file.write_text('{"iteration": 1}\n[2]\n{"itera\n{"iteration": 5}\n{"no": 1}\n')

    assert [line["iteration"] for line in read_evaluations(file)] == [1, 5]


def test_last_line_without_its_end_does_not_swallow_the_next(tmp_path):
    (tmp_path / "evaluations.jsonl").write_text('{"iteration": 1}\n{"iteration": 3, "pan')

    _train(_log(tmp_path, start_iter=4))

    assert [line["iteration"] for line in read_evaluations(tmp_path / "evaluations.jsonl")] == [1, 5, 7]
