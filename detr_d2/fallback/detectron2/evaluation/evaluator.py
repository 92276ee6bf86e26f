"""An independently written subset of Detectron2's API; not Detectron2. Run a model over a dataset and judge it."""

import datetime
import logging
import sys
import time
from collections.abc import Mapping
from typing import Any

import torch

from detectron2.utils import comm

logger = logging.getLogger(__name__)


class DatasetEvaluator:
    """Collects what a model makes of a dataset (``process``), then says how good it is (``evaluate``)."""

    def reset(self) -> None:
        """Forget everything."""

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        """Take a batch and what the model made of it."""

    def evaluate(self) -> dict[str, Any] | None:
        """{task: {metric: value}} on rank 0."""


class DatasetEvaluators(DatasetEvaluator):
    """Several evaluators as one."""

    def __init__(self, evaluators: list[DatasetEvaluator]) -> None:
        self._evaluators = evaluators

    def reset(self) -> None:
        for evaluator in self._evaluators:
            evaluator.reset()

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        for evaluator in self._evaluators:
            evaluator.process(inputs, outputs)

    def evaluate(self) -> dict[str, Any]:
        results: dict[str, Any] = {}
        for found in [evaluator.evaluate() or {} for evaluator in self._evaluators]:
            assert not results.keys() & found, f"Two evaluators give the same keys: {sorted(results.keys() & found)}"
            results |= found
        return results if comm.is_main_process() else {}


@torch.no_grad()
def inference_on_dataset(model: Any, data_loader: Any, evaluator: Any) -> dict[str, Any]:
    """Run ``model`` (in eval mode, without gradients) on every batch; what the evaluator(s) say of the outputs."""
    evaluator = DatasetEvaluators(evaluator or []) if isinstance(evaluator, list | None) else evaluator
    evaluator.reset()
    total, start, said = len(data_loader), time.perf_counter(), time.perf_counter()
    logger.info(f"Start inference on {total} batches")
    was_training = model.training
    model.eval()
    for done, inputs in enumerate(data_loader, start=1):
        evaluator.process(inputs, model(inputs))
        now = time.perf_counter()
        if now - said > 5:
            said, eta = now, datetime.timedelta(seconds=int((now - start) / done * (total - done)))
            logger.info(f"Inference done {done}/{total}. {(now - start) / done:.4f} s/iter. ETA={eta}")
    model.train(was_training)
    logger.info(f"Total inference time: {datetime.timedelta(seconds=int(time.perf_counter() - start))}")
    return evaluator.evaluate() or {}


def print_csv_format(results: Mapping[str, Mapping[str, float]]) -> None:
    """Log each task's main metrics (no per-class ones) as lines to paste into a spreadsheet."""
    for task, metrics in results.items():
        main = {name: value for name, value in metrics.items() if "-" not in name}
        for line in (f"Task: {task}", ",".join(main), ",".join(f"{value:.4f}" for value in main.values())):
            logger.info(f"copypaste: {line}")


def verify_results(cfg: Any, results: Mapping[str, Any]) -> bool:
    """Exit with 1 unless each (task, metric, value, tolerance) of ``cfg.TEST.EXPECTED_RESULTS`` is met."""
    for task, metric, expected, tolerance in cfg.TEST.EXPECTED_RESULTS:
        # Neither NaN nor a missing value is close to anything.
        if not abs(results[task].get(metric, float("nan")) - expected) <= tolerance:
            logger.error(f"{task}/{metric} should be {expected} ± {tolerance}; all results: {results}")
            sys.exit(1)
    return True
