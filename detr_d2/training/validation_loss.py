"""The training's losses over a validation set, without augmentation, from the forward pass of the evaluation.

A test loader with :class:`TruthMapper` hands the model pictures with their truth; the model then returns losses beside
its predictions, and :class:`ValidationLossEvaluator` averages them.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from detr_d2.data import DetrPanopticDatasetMapper
from detr_d2.data.augmentation import build_augmentations
from detr_d2.errors import DatasetError

from detectron2.config import CfgNode
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm

logger = logging.getLogger(__name__)


class TruthMapper:
    """As the mapper for testing, and with the truth at the picture's test size; nothing is left to chance.

    A picture whose truth contradicts itself comes without: evaluators say what is wrong with the truth, of all pictures
    at once.
    """

    def __init__(self, cfg: CfgNode) -> None:
        self._plain = DetrPanopticDatasetMapper(cfg, is_train=False)
        self._with_truth = DetrPanopticDatasetMapper(
            cfg, is_train=True, augmentations=build_augmentations(cfg, is_train=False)
        )

    def __call__(self, dataset_dict: dict[str, Any]) -> dict[str, Any]:
        """A dataset dict to the model's input; see ``DetrPanopticDatasetMapper``.

        Raises:
            MissingFileError, DatasetError: the picture isn't there, or can't be read.
        """
        try:
            return self._with_truth(dataset_dict)
        except DatasetError:
            return self._plain(dataset_dict)


class ValidationLossEvaluator(DatasetEvaluator):
    """Mean losses of a dataset, each term by itself: what the loss would be if all pictures were one batch.

    It keeps two numbers for each term, however many pictures there are, and adds up those of all processes.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget all pictures."""
        self._sums: Counter[str] = Counter()
        self._shares: Counter[str] = Counter()
        self._without = 0

    def process(self, inputs: Sequence[dict[str, Any]], outputs: Sequence[dict[str, Any]]) -> None:
        """Add the "losses" of each output."""
        for output in outputs:
            self._without += "losses" not in output
            for name, (value, share) in output.get("losses", {}).items():
                self._sums[name] += value * share  # type: ignore[assignment]
                self._shares[name] += share  # type: ignore[assignment]

    def evaluate(self) -> dict[str, dict[str, float]] | None:
        """Means over all processes; None but in the main one.

        Returns:
            {"validation": {"total_loss", "ce", "bbox", "giou", "mask", "dice", "ce_0", ..., "class_error",
            "cardinality_error"}}, of which those exist that training has; weighted as in training. NaN where no picture
            has a segment. Empty if no picture had its truth.
        """
        parts = comm.gather((dict(self._sums), dict(self._shares), self._without))
        if not comm.is_main_process():
            return None
        sums, shares = Counter[str](), Counter[str]()
        for some_sums, some_shares, _ in parts:
            sums.update(some_sums)
            shares.update(some_shares)
        without = sum(number for *_, number in parts)
        if without:
            logger.warning(
                "The truth of %d pictures can't be used; the validation loss is that of the others.", without
            )
        means = {name: sums[name] / shares[name] if shares[name] else np.nan for name in sums}
        losses = {name: value for name, value in means.items() if name.startswith("loss_")}
        if not losses:
            return {}
        # "loss" in only one name: Detectron2's console line shows every name that has it.
        total = {"total_loss": float(np.nansum(list(losses.values())))}
        return {"validation": total | {name.removeprefix("loss_"): value for name, value in means.items()}}
