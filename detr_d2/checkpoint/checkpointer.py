"""Detectron2's checkpointer, which also reads other programs' weights and watches over the categories.

Every way of loading goes through the model's own ``load_state_dict``. A model's state dict says which classes and which
network it is of, in the metadata that torch keeps beside the tensors (``state_dict._metadata``), so that names and
tensors stay as they are. Detectron2's own checkpointer, which hands on the state dict and nothing else, is guarded by
that as this project's is.
"""

from __future__ import annotations

import logging
import os
from collections import Counter, OrderedDict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tabulate import tabulate
from torch import Tensor, nn

from detr_d2.errors import DivergenceError, UserError, WeightsError
from detr_d2.files import write_text
from detr_d2.training_step import LESS_DIVERGENCE, non_finite

from detectron2.checkpoint import DetectionCheckpointer

from .categories import WEIGHT, to_record
from .fitting import QUERIES, fit, refuse_absent
from .formats import write_checkpoint
from .names import convert_names
from .paths import LAST_CHECKPOINT, earlier_checkpoints, find_model_weights, last_checkpoint, remove_old_checkpoints
from .reading import RECORD, WeightsFile, read_weights
from .recipe import convention_of

if TYPE_CHECKING:
    from detr_d2.meta_arch import DetrPanoptic

logger = logging.getLogger(__name__)

#: What a state dict is called in messages, whose file nobody knows.
_CALLED = "The checkpoint"


class UnreadableError(WeightsError):
    """A file that holds no weights, or not what was written."""


class DetrCheckpointer(DetectionCheckpointer):
    """Saves and loads a :class:`detr_d2.meta_arch.DetrPanoptic`; checkpoints are plain data.

    Args:
        model: the meta-architecture, or it inside ``DistributedDataParallel``.
        save_dir: where checkpoints go.
        fine_tune: weights of other classes are welcome: those of the same name are taken, the others start anew.
        keep: so many of the numbered checkpoints stay, the newest; 0: all.
        checkpointables: whatever else is saved and loaded along, as with Detectron2's.
    """

    def __init__(
        self,
        model: nn.Module,
        save_dir: str = "",
        *,
        fine_tune: bool = False,
        keep: int = 0,
        **checkpointables: Any,
    ) -> None:
        super().__init__(model, save_dir, **checkpointables)
        self.fine_tune, self._keep = fine_tune, keep
        self.saved_iteration: int | None = None

    def save(self, name: str, **kwargs: Any) -> None:
        """As Detectron2's; what the model is travels along: its categories, and the config keys that build it.

        The file is written whole or not at all, and what stood there before stays until then.

        Raises:
            DivergenceError: weights aren't finite.
            OSError: what the system refused.
        """
        if not self.save_dir or not self.save_to_disk:
            return
        path = os.path.join(self.save_dir, f"{name}.pth")
        weights = self.model.state_dict()
        if wrong := non_finite(weights):
            raise DivergenceError(
                f"The training diverged: {len(wrong)} tensors of the model, such as {wrong[0]}, hold NaN or infinity; "
                f"{path} isn't written. {LESS_DIVERGENCE}"
            )
        parts = {key: part.state_dict() for key, part in self.checkpointables.items()}
        logger.info("Saving checkpoint to %s", path)
        write_checkpoint({"model": weights, **parts, RECORD: model_record(self.model), **kwargs}, path)
        self.tag_last_checkpoint(f"{name}.pth")
        self.saved_iteration = kwargs.get("iteration")
        remove_old_checkpoints(self.save_dir, f"{name}.pth", self._keep)

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """Say what ``--resume`` goes on from."""
        path = os.path.join(self.save_dir, LAST_CHECKPOINT)
        write_text(path, last_filename_basename, outlasts_power_cut=True)

    def get_checkpoint_file(self) -> str:
        """What ``--resume`` goes on from; raises as :func:`last_checkpoint`."""
        return last_checkpoint(self.save_dir)

    def resume_or_load(self, path: str, *, resume: bool = True) -> dict[str, Any]:
        """As Detectron2's; a last checkpoint that can't be read is named, and the one before is taken.

        Raises:
            WeightsError: none can be read; or what :meth:`load` raises.
        """
        if not resume or not self.has_checkpoint():
            loaded: dict[str, Any] = super().resume_or_load(path, resume=False)
            return loaded
        last = self.get_checkpoint_file()
        refused: list[UnreadableError] = []
        for candidate in (last, *earlier_checkpoints(last)):
            try:
                return self.load(candidate)
            except UnreadableError as error:
                logger.error("This checkpoint can't be used, and the one before is looked for: %s", error)
                refused.append(error)
        raise refused[0]

    def load(self, path: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Load weights of any kind that the project knows; docs/weights.md lists them.

        Args:
            path: a file, a folder of Hugging Face, an address, one of the short names in ``PUBLISHED_WEIGHTS``, or
                empty for none.
            args, kwargs: as Detectron2's.

        Raises:
            MissingFileError: there is no such file.
            WeightsError: it can't be read, or its weights are not for this model.
        """
        file = find_model_weights(path, self.model.freeze_detector)
        self._parsed_url_during_load = None  # Detectron2's own refuses to load where a file before couldn't be read
        try:
            loaded: dict[str, Any] = super().load(os.path.abspath(file) if file else "", *args, **kwargs)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            if isinstance(error, UserError):
                raise
            raise WeightsError(
                f"{file}: the state of the training in it can't be taken up here ({type(error).__name__}: {error}). "
                "Go on in the folder and with the config that it was trained with, or start anew from its weights: "
                f"without --resume, and with MODEL.WEIGHTS {file}."
            ) from error
        return loaded

    def _load_file(self, filename: str) -> dict[str, Any]:
        """Plain data only: nothing in the file is run."""
        try:
            self._file: WeightsFile = read_weights(filename)
        except WeightsError as error:
            raise UnreadableError(str(error)) from error
        return {"model": self._file.weights, **self._file.rest}

    def _load_model(self, checkpoint: dict[str, Any]) -> Any:
        checkpoint["model"] = fit(self._file, self.model, self.fine_tune)
        if wrong := non_finite(checkpoint["model"]):
            raise WeightsError(
                f"{self._file.path}: {len(wrong)} tensors, such as {wrong[0]}, hold NaN or infinity; its training "
                "diverged, or it is damaged. Name another checkpoint, such as an earlier one."
            )
        checkpoint["matching_heuristics"] = False  # names are converted already
        logger.info("%s: weights of %s, %d tensors.", self._file.path, self._file.origin, len(checkpoint["model"]))
        return super()._load_model(checkpoint)

    def _log_incompatible_keys(self, incompatible: Any) -> None:
        """One short table: for each part of the model, how many tensors came from the file, and what of the rest."""
        wrong_shape = {name: (found, wanted) for name, found, wanted in incompatible.incorrect_shapes}
        missing = set(incompatible.missing_keys) - set(wrong_shape)
        refuse_absent(self._file.path, self.model, sorted({*wrong_shape, *missing}), self.fine_tune)
        parts: dict[str, Counter[str]] = {}
        for name in self.model.state_dict():
            state = "other shape" if name in wrong_shape else "not in file" if name in missing else "loaded"
            parts.setdefault(part_of(name), Counter())[state] += 1
        columns = ("loaded", "other shape", "not in file")
        rows = [[part, *(counts[column] or "" for column in columns)] for part, counts in parts.items()]
        logger.info(
            "Weights (other shape and not in file: as initialised)\n%s",
            tabulate(rows, headers=["part of the model", *columns]),
        )
        for name, (found, wanted) in wrong_shape.items():
            logger.warning("%s: the file has %s, the model needs %s; starts anew.", name, tuple(found), tuple(wanted))
        unused = [name for name in incompatible.unexpected_keys if not name.endswith("num_batches_tracked")]
        if unused:
            logger.warning("%d tensors of the file are not used: %s", len(unused), ", ".join(unused[:5]))


def part_of(name: str) -> str:
    """The part of the model that a parameter belongs to: ``detr.backbone``, ``detr.transformer``, …, ``mask_head``."""
    pieces = name.split(".")
    return ".".join(pieces[:2]) if pieces[0] == "detr" else pieces[0]


def model_record(model: DetrPanoptic) -> dict[str, Any]:
    """What a model is, as plain data: its categories, and the config keys that build it."""
    return {"categories": to_record(model.categories), "config": model.recipe}


def with_record(weights: Mapping[str, Tensor], record: dict[str, Any]) -> OrderedDict[str, Tensor]:
    """Weights as a model of this record gives them as its state dict."""
    state_dict = OrderedDict(weights)
    state_dict._metadata = OrderedDict({"": {RECORD: record}})  # type: ignore[attr-defined]
    return state_dict


def guard_loading(model: DetrPanoptic) -> None:
    """Let a model's state dict say what it is of, and look at what is loaded into the model."""
    model.register_state_dict_post_hook(_add_record_)
    model.register_load_state_dict_pre_hook(_fit_)


def _add_record_(model: Any, state_dict: dict[str, Any], prefix: str, local_metadata: dict[str, Any]) -> None:
    local_metadata[RECORD] = model_record(model)


def _fit_(model: Any, state_dict: dict[str, Any], prefix: str, local_metadata: dict[str, Any], *unused: Any) -> None:
    """Before weights are taken over: give them this model's names and rows, or refuse them.

    A model in evaluation mode is about to be used as it is, one in training mode is trained further. State dicts that
    have this model's names and no record (parts, or of a ``DetrCheckpointer``, which has fitted them) are left alone.

    Raises:
        WeightsError: the weights are for other classes, other images or another network, or of no known program.
    """
    given = {name.removeprefix(prefix): value for name, value in state_dict.items() if name.startswith(prefix)}
    weights, origin = convert_names(given)
    record = local_metadata.get(RECORD)
    if not given or (record is None and weights.keys() == given.keys() and weights.keys() & model.state_dict().keys()):
        return
    record = record or {}
    _refuse_cut_off_head(model, weights, origin, record)
    convention = convention_of(origin, "", record.get("config", {}), {})
    file = WeightsFile(_CALLED, origin, weights, record, convention=convention)
    fitted = fit(file, model, fine_tune=model.training)
    statistics = {name for name in model.state_dict() if name.endswith("num_batches_tracked")}  # may be absent
    refuse_absent(_CALLED, model, sorted(model.state_dict().keys() - fitted.keys() - statistics), model.training)
    for name in given:
        del state_dict[prefix + name]
    state_dict.update({prefix + name: value for name, value in fitted.items()})


def _refuse_cut_off_head(
    model: DetrPanoptic, weights: Mapping[str, Tensor], origin: str, record: Mapping[str, Any]
) -> None:
    """Says who left out the class head of a detector that is to be used as it is."""
    if model.training or record or WEIGHT in weights or QUERIES not in weights:
        return
    raise WeightsError(
        f"{_CALLED} ({origin}) comes without its class head: Detectron2's checkpointer leaves out what has another "
        "shape, as published heads have. Load it with detr_d2.prediction.DetrPredictor(cfg), by its short name if it "
        "has one, or convert it: detr-d2 convert-weights IN OUT."
    )
