"""The training's losses over a validation set, without augmentation, from the forward pass of the evaluation.

A test loader with :class:`GroundTruthMapper` gives images with their ground truth. :class:`ValidatedModel` returns the
model's results and the sums of its losses; :class:`ValidationEvaluator` hands the results to the evaluators, and the
sums to :class:`MeanLosses`.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from detr_d2.data import DetrPanopticDatasetMapper
from detr_d2.data.augmentation import build_augmentations
from detr_d2.errors import DatasetError
from detr_d2.modeling.criterion import Sum
from detr_d2.structures import BatchedInputs

from detectron2.config import CfgNode
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm

logger = logging.getLogger(__name__)


class GroundTruthMapper:
    """As the mapper for testing, and with the ground truth at the image's test size; nothing is left to chance.

    An image whose ground truth contradicts itself comes without: evaluators say what is wrong with it, of all images at
    once.
    """

    def __init__(self, cfg: CfgNode) -> None:
        self._plain = DetrPanopticDatasetMapper(cfg, is_train=False)
        self._with_ground_truth = DetrPanopticDatasetMapper(
            cfg, is_train=True, augmentations=build_augmentations(cfg, is_train=False)
        )

    def __call__(self, dataset_dict: dict[str, Any]) -> dict[str, Any]:
        """A dataset dict to the model's input; see ``DetrPanopticDatasetMapper``.

        Raises:
            MissingFileError, DatasetError: the image isn't there, or can't be read.
        """
        try:
            return self._with_ground_truth(dataset_dict)
        except DatasetError:
            return self._plain(dataset_dict)


class ValidatedModel(nn.Module):
    """A model whose forward pass is ``DetrPanoptic.validate``, for Detectron2's ``inference_on_dataset``.

    Args:
        model: a ``DetrPanoptic``, or one for several processes (``DistributedDataParallel``).
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.training = model.training

    def forward(self, batched_inputs: BatchedInputs) -> tuple[BatchedInputs, dict[str, Sum]]:
        """The model's results, and the sums of its losses and metrics."""
        model: Any = getattr(self.model, "module", self.model)
        validated: tuple[BatchedInputs, dict[str, Sum]] = model.validate(batched_inputs)
        return validated


class ValidationEvaluator(DatasetEvaluator):
    """What a :class:`ValidatedModel` returns: the results are judged, and the means of the losses stand beside that.

    Args:
        evaluator: takes the results.
        has_losses: whether the dataset's images have ground truth; else the sums are left aside.
    """

    def __init__(self, evaluator: DatasetEvaluator, has_losses: bool = True) -> None:
        self._evaluator = evaluator
        self._losses = MeanLosses() if has_losses else None

    def reset(self) -> None:
        """Forget all images."""
        self._evaluator.reset()
        if self._losses is not None:
            self._losses = MeanLosses()

    def process(self, inputs: BatchedInputs, outputs: Any) -> None:
        """Take a batch's results and sums."""
        results, sums = outputs
        self._evaluator.process(inputs, results)
        if self._losses is not None:
            self._losses.add(inputs, sums)

    def evaluate(self) -> dict[str, Any]:
        """The evaluator's results, and {"validation": means}; empty but in the main process."""
        results = self._evaluator.evaluate() or {}
        means = {} if self._losses is None else self._losses.means()
        return {**results, "validation": means} if means else dict(results)


class MeanLosses:
    """Mean losses of a dataset, each term by itself: what the loss would be if all images were one batch.

    Two numbers are kept for each term, however many images there are, and those of all processes are added up.
    """

    def __init__(self) -> None:
        self._totals: Counter[str] = Counter()
        self._counts: Counter[str] = Counter()
        self._without = 0

    def add(self, inputs: BatchedInputs, sums: Mapping[str, Sum]) -> None:
        """Add a batch's sums; images without "instances" have no part in them."""
        self._without += sum("instances" not in item for item in inputs)
        if sums:
            totals = torch.stack([each.total.float() for each in sums.values()]).tolist()
            self._totals.update(dict(zip(sums, totals, strict=True)))
            self._counts.update({name: each.count for name, each in sums.items()})  # type: ignore[misc]

    def means(self) -> dict[str, float]:
        """Means over all processes, which all have to call it.

        Returns:
            "total_loss", "ce", "bbox", "giou", "mask", "dice", "ce_0", ..., "class_error", "cardinality_error", of
            which those exist that training has; weighted as in training. NaN where no image has a segment. Empty if no
            image had ground truth, and but in the main process.
        """
        parts = comm.gather((dict(self._totals), dict(self._counts), self._without))
        if not comm.is_main_process():
            return {}
        totals, counts = Counter[str](), Counter[str]()
        for some_totals, some_counts, _ in parts:
            totals.update(some_totals)
            counts.update(some_counts)
        without = sum(number for *_, number in parts)
        if without:
            logger.warning(
                "The ground truth of %d images can't be used; the validation loss is that of the others.", without
            )
        means = {name: totals[name] / counts[name] if counts[name] else np.nan for name in totals}
        losses = {name: value for name, value in means.items() if name.startswith("loss_")}
        if not losses:
            return {}
        # "loss" in only one name: Detectron2's console line shows every name that has it.
        total = {"total_loss": float(np.nansum(list(losses.values())))}
        return total | {name.removeprefix("loss_"): value for name, value in means.items()}
