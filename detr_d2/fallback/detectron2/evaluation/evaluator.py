"""An independently written subset of Detectron2's API; not Detectron2. Run a model over a dataset and judge it."""

import contextlib
import datetime
import logging
import time
from collections.abc import Iterator
from typing import Any

import torch

from detectron2.utils import comm
from detectron2.utils.logger import log_every_n_seconds

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
        for found in [evaluator.evaluate() for evaluator in self._evaluators]:
            if comm.is_main_process() and found:
                assert not results.keys() & found, (
                    f"Two evaluators give the same keys: {sorted(results.keys() & found)}"
                )
                results.update(found)
        return results


@contextlib.contextmanager
def _evaluating(model: Any) -> Iterator[None]:
    was_training = getattr(model, "training", None)
    if was_training is not None:
        model.eval()
    with torch.no_grad():
        yield
    if was_training is not None:
        model.train(was_training)


def inference_on_dataset(model: Any, data_loader: Any, evaluator: Any) -> dict[str, Any]:
    """Run ``model`` (in eval mode, without gradients) on every batch; what the evaluator(s) say of the outputs."""
    evaluator = DatasetEvaluators(evaluator or []) if isinstance(evaluator, list | None) else evaluator
    evaluator.reset()
    total, start = len(data_loader), time.perf_counter()
    logger.info(f"Start inference on {total} batches")
    with _evaluating(model):
        for done, inputs in enumerate(data_loader, start=1):
            evaluator.process(inputs, model(inputs))
            pace = (time.perf_counter() - start) / done
            eta = datetime.timedelta(seconds=int(pace * (total - done)))
            log_every_n_seconds(logging.INFO, f"Inference done {done}/{total}. {pace:.4f} s/iter. ETA={eta}", n=5)
    logger.info(f"Total inference time: {datetime.timedelta(seconds=int(time.perf_counter() - start))}")
    return evaluator.evaluate() or {}
