"""Detectron2's checkpointer, which also reads DETR's published weights and watches over the categories."""

from __future__ import annotations

import argparse
import logging
import os
import pickle
import zipfile
from collections import Counter
from typing import Any

import torch
from tabulate import tabulate
from torch import nn

from detr_d2.checkpoint.categories import describe_difference, from_record, to_record
from detr_d2.checkpoint.names import PUBLISHED_WEIGHTS, convert_names
from detr_d2.errors import MissingFileError, WeightsError

from detectron2.checkpoint import DetectionCheckpointer

logger = logging.getLogger(__name__)

RECORD = "detr_d2"
"""The checkpoint's entry that holds the categories."""


class DetrCheckpointer(DetectionCheckpointer):
    """Saves and loads a :class:`detr_d2.meta_arch.DetrPanoptic`; checkpoints are plain data.

    Args:
        model: the meta-architecture, or it inside ``DistributedDataParallel``.
        save_dir: where checkpoints go.
        fine_tune: weights of other classes are welcome: what doesn't fit starts anew.
        checkpointables: whatever else is saved and loaded along, as with Detectron2's.
    """

    def __init__(
        self, model: nn.Module, save_dir: str = "", *, fine_tune: bool = False, **checkpointables: Any
    ) -> None:
        super().__init__(model, save_dir, **checkpointables)
        self.fine_tune = fine_tune

    def save(self, name: str, **kwargs: Any) -> None:
        """As Detectron2's; the categories travel along."""
        record = {"categories": to_record(self.model.categories)}
        super().save(name, **{RECORD: record}, **kwargs)

    def load(self, path: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Load weights from a file, an address, or one of the short names in ``PUBLISHED_WEIGHTS``.

        Raises:
            MissingFileError: there is no such file.
            WeightsError: it can't be read, or its weights are not for this model.
        """
        path = PUBLISHED_WEIGHTS.get(path, path)
        if path and "://" not in path and not os.path.isfile(path):
            raise MissingFileError(
                f"MODEL.WEIGHTS is {path!r}, and there is no such file (looked in {os.getcwd()}). "
                f"Give a checkpoint, an address or one of {', '.join(PUBLISHED_WEIGHTS)}"
                + ("; stage 2 starts from the model_final.pth of stage 1." if self.model.freeze_detector else ".")
            )
        if not path and self.model.freeze_detector:
            raise WeightsError(
                "MODEL.WEIGHTS is empty and MODEL.DETR.FREEZE_DETECTOR is on: a detector that never learnt would be "
                "frozen. Train stage 1 first and give its model_final.pth, or train jointly with "
                "MODEL.DETR.FREEZE_DETECTOR False."
            )
        self._path = path
        loaded: dict[str, Any] = super().load(path, *args, **kwargs)
        return loaded

    def _torch_load(self, f: str) -> Any:
        """Plain data only: nothing in the file is run."""
        try:
            with torch.serialization.safe_globals([argparse.Namespace]):  # facebookresearch/detr keeps its options
                loaded = torch.load(f, map_location="cpu", weights_only=True)
        except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, zipfile.BadZipFile, KeyError) as error:
            raise WeightsError(
                f"{f} is no checkpoint that can be read safely: {_first_line(error)} "
                "It may be truncated, or hold more than tensors and plain data."
            ) from error
        if not isinstance(loaded, dict):
            raise WeightsError(f"{f} holds a {type(loaded).__name__}; a checkpoint is a dict with the entry 'model'.")
        return loaded

    def _load_model(self, checkpoint: dict[str, Any]) -> Any:
        weights, origin = convert_names(checkpoint["model"])
        record = (checkpoint.pop(RECORD, None) or {}).get("categories")
        self._check(weights, record)
        checkpoint["model"] = weights
        logger.info("%s: weights of %s, %d tensors.", self._path, origin, len(weights))
        incompatible = super()._load_model(checkpoint)
        self._loaded_names = set(weights)
        return incompatible

    def _check(self, weights: dict[str, Any], record: list[dict[str, Any]] | None) -> None:
        """Refuse what would train or be evaluated for nothing."""
        frozen = self.model.freeze_detector
        if self.fine_tune and not frozen:
            return
        purpose = "freeze the detector and train masks on it" if frozen else "use it as it is"
        cure = (
            "Train stage 1 on the same categories, things and stuff, and give its model_final.pth"
            if frozen
            else "Give weights trained on the categories of DATASETS.TEST, or train on your data first"
        )
        if record is not None:
            self._check_categories(record, purpose, cure)
        head = weights.get("detr.class_embed.weight")
        expected = len(self.model.categories) + 1
        if head is None or len(head) != expected:
            found = "no class head" if head is None else f"a class head of {len(head)} outputs"
            raise WeightsError(
                f"{self._path} has {found}, and this model needs {expected} ({expected - 1} classes and no-object), "
                f"so the plan to {purpose} can't work. {cure}."
            )

    def _check_categories(self, record: list[dict[str, Any]], purpose: str, cure: str) -> None:
        theirs, ours = from_record(record), self.model.categories
        if not any(not category.is_thing for category in theirs) and any(not category.is_thing for category in ours):
            raise WeightsError(
                f"{self._path} knows {len(theirs)} things and no stuff, and the dataset has stuff, so the plan to "
                f"{purpose} can't work: no query would ever answer for sky or ground. {cure}."
            )
        difference = describe_difference(theirs, ours)
        if difference:
            raise WeightsError(
                f"{self._path} was trained on other categories than the dataset's: {difference}. So the plan to "
                f"{purpose} can't work. {cure}."
            )

    def _refuse_partial(self, absent: list[str]) -> None:
        """What is used as it is must be whole: the frozen detector, and the whole model unless it is fine-tuned."""
        if self.fine_tune:
            absent = [name for name in absent if self.model.freeze_detector and name.startswith("detr.")]
        if not absent:
            return
        parts = sorted({name.split(".")[0] for name in absent})
        cure = (
            "It seems to be of stage 1. Name stage 2's model_final.pth, or use MODEL.DETR.MASK_ON False for boxes."
            if "mask_head" in parts and "detr" not in parts
            else "Name the checkpoint that was trained with this config, or the config it was trained with."
        )
        raise WeightsError(
            f"{self._path} isn't this model's: {len(absent)} tensors of {', '.join(parts)} are absent or have another "
            f"shape, such as {absent[0]}. {cure}"
        )

    def _log_incompatible_keys(self, incompatible: Any) -> None:
        """One short table: for each part of the model, how many tensors came from the file, and what of the rest."""
        wrong_shape = {name: (found, wanted) for name, found, wanted in incompatible.incorrect_shapes}
        missing = set(incompatible.missing_keys) - set(wrong_shape)
        parts: dict[str, Counter[str]] = {}
        for name in self.model.state_dict():
            state = "other shape" if name in wrong_shape else "not in file" if name in missing else "loaded"
            parts.setdefault(_part(name), Counter())[state] += 1
        columns = ("loaded", "other shape", "not in file")
        rows = [[part, *(counts[column] or "" for column in columns)] for part, counts in parts.items()]
        logger.info(
            "Weights (other shape and not in file: as initialised)\n%s",
            tabulate(rows, headers=["part of the model", *columns]),
        )
        for name, (found, wanted) in wrong_shape.items():
            logger.warning("%s: the file has %s, the model needs %s; starts anew.", name, tuple(found), tuple(wanted))
        self._refuse_partial(sorted({*wrong_shape, *missing}))
        unused = [name for name in incompatible.unexpected_keys if not name.endswith("num_batches_tracked")]
        if unused:
            logger.warning("%d tensors of the file are not used: %s", len(unused), ", ".join(unused[:5]))


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _part(name: str) -> str:
    """The row of a parameter in the table: ``detr.backbone``, ``detr.transformer``, …, ``mask_head``."""
    pieces = name.split(".")
    return ".".join(pieces[:2]) if pieces[0] == "detr" else pieces[0]
