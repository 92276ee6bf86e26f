"""What training adds to Detectron2's evaluation: the validation loss, and scenes in TensorBoard.

The losses are the training's, without augmentation, from the forward pass of the evaluation. A test loader with
:class:`GroundTruthMapper` gives images with their ground truth. :class:`ValidatedModel` returns the model's results and
the sums of its losses; :class:`ValidationEvaluator` hands the results to the evaluators, and the sums to
:class:`MeanLosses`.
"""

from __future__ import annotations

import importlib.util
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from detr_d2.data import DetrPanopticDatasetMapper, dataset_metadata
from detr_d2.data.augmentation import build_augmentations
from detr_d2.data.train_loader import OutlivingSignals
from detr_d2.errors import DatasetError, UserError
from detr_d2.modeling.criterion import Sum
from detr_d2.structures import BatchedInputs
from detr_d2.visualization import draw_side_by_side

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm
from detectron2.utils.events import get_event_storage

logger = logging.getLogger(__name__)

#: TensorBoard keeps every image of every evaluation; a row of three is no wider than this.
MAX_WIDTH = 1500


def build_test_mapper(cfg: CfgNode, dataset_name: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """The mapper for testing; with ground truth, if ``TEST.VALIDATION_LOSS`` asks for it and the dataset has it."""
    has_losses = _has_losses(cfg, dataset_name)
    return OutlivingSignals(GroundTruthMapper(cfg) if has_losses else DetrPanopticDatasetMapper(cfg, is_train=False))


def training_evaluators(cfg: CfgNode, dataset_name: str) -> list[DatasetEvaluator]:
    """Evaluators of TensorBoard's scenes, while training."""
    is_wanted = cfg.TEST.SCENES and _is_training() and importlib.util.find_spec("tensorboard")
    return [SceneEvaluator(dataset_name, cfg.TEST.SCENES)] if is_wanted else []


def with_validation_loss(
    cfg: CfgNode, model: nn.Module, evaluators: Mapping[str, DatasetEvaluator]
) -> tuple[nn.Module, list[DatasetEvaluator]]:
    """What Detectron2's evaluation of a model is to be given, so that it measures losses in the same forward passes.

    Args:
        cfg: ``TEST.VALIDATION_LOSS`` is looked at.
        model: a ``DetrPanoptic``, perhaps for several processes.
        evaluators: of the model's results, for each of ``DATASETS.TEST``.

    Returns:
        The model and its evaluators, in the same order.
    """
    if not cfg.TEST.VALIDATION_LOSS:
        return model, list(evaluators.values())
    return ValidatedModel(model), [
        ValidationEvaluator(evaluator, _has_losses(cfg, name)) for name, evaluator in evaluators.items()
    ]


def _has_losses(cfg: CfgNode, dataset_name: str) -> bool:
    """Masks need panoptic ground truth, or polygons that may be absent; boxes need no more than annotations."""
    if not cfg.TEST.VALIDATION_LOSS:
        return False
    return bool(dataset_metadata(dataset_name).get("panoptic_json")) or not cfg.MODEL.DETR.MASK_ON


def _is_training() -> bool:
    try:
        get_event_storage()
    except AssertionError:
        return False
    return True


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


class SceneEvaluator(DatasetEvaluator):
    """Draws some images, always the same, from the predictions that are evaluated; they cost no forward pass.

    Args:
        dataset_name: a registered dataset.
        count: how many, spread evenly over the dataset.
    """

    def __init__(self, dataset_name: str, count: int) -> None:
        self._dataset_name, self._metadata = dataset_name, dataset_metadata(dataset_name)
        records = DatasetCatalog.get(dataset_name)
        chosen = np.linspace(0, len(records) - 1, min(count, len(records))).round().astype(int).tolist()
        self._records = {records[row]["image_id"]: records[row] for row in chosen}
        self.reset()

    def reset(self) -> None:
        """Forget all images."""
        self._rows: dict[Any, np.ndarray] = {}

    def process(self, inputs: Sequence[dict[str, Any]], outputs: Sequence[dict[str, Any]]) -> None:
        """Draw the images that belong to the set."""
        for item, output in zip(inputs, outputs, strict=True):
            record = self._records.get(item["image_id"])
            if record is None:
                continue
            try:
                row = draw_side_by_side(record, output, self._metadata)
            except UserError as error:  # what is wrong with the ground truth is the other evaluators' matter
                logger.warning("A validation scene can't be drawn: %s", error)
                continue
            self._rows[item["image_id"]] = _at_most(row, MAX_WIDTH)

    def evaluate(self) -> None:
        """Hand the images of all processes to TensorBoard's writer, in the order of the dataset; no results."""
        parts = comm.gather(self._rows)
        rows = {image_id: row for part in parts for image_id, row in part.items()}
        if comm.is_main_process():
            storage = get_event_storage()
            for number, image_id in enumerate(name for name in self._records if name in rows):
                name = f"{self._dataset_name}/{number:02d} (image {image_id})"
                storage.put_image(name, np.ascontiguousarray(rows[image_id].transpose(2, 0, 1)))
        self.reset()


def _at_most(row: np.ndarray, width: int) -> np.ndarray:
    if row.shape[1] <= width:
        return row
    size = (width, max(1, round(row.shape[0] * width / row.shape[1])))
    return np.asarray(Image.fromarray(row).resize(size, Image.Resampling.LANCZOS))
