"""What every way of loading weights goes through: the model's own ``load_state_dict``.

A model's state dict says which classes and which network it is of, in the metadata that torch keeps beside the tensors
(``state_dict._metadata``), so that names and tensors stay as they are. Detectron2's checkpointer, which hands on the
state dict and nothing else, is guarded by that as this project's own is.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor

from detr_d2.errors import WeightsError

from .categories import WEIGHT, to_record
from .fitting import QUERIES, fit, refuse_absent
from .names import convert_names
from .reading import RECORD, WeightsFile, convention_of

if TYPE_CHECKING:
    from detr_d2.meta_arch import DetrPanoptic

_CALLED = "The checkpoint"


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
