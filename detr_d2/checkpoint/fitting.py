"""Which of a file's weights a model takes over, and what is refused because it would be used for nothing.

Three purposes: fine-tuning (what differs in classes and queries starts anew), a frozen detector that masks are trained
on, and use as it is. The latter two take only what is whole.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from detr_d2.data import Category
from detr_d2.errors import WeightsError
from detr_d2.wording import some

from .categories import (
    BIAS,
    WEIGHT,
    HeadClass,
    chosen_rows,
    describe_difference,
    from_record,
    head_classes,
    match_rows,
    mixed_rows,
)
from .reading import WeightsFile
from .recipe import DETECTOR_KEYS, WHOLE_MODEL_KEYS, deduced_recipe, differing_keys, refuse_other_images

if TYPE_CHECKING:
    from detr_d2.meta_arch import DetrPanoptic

logger = logging.getLogger(__name__)

QUERIES = "detr.query_embed.weight"
#: What only training has; it starts anew wherever it is absent or of other classes.
TRAINING_ONLY = ("denoising.", "dense.")
_MAY_DIFFER = (WEIGHT, BIAS, QUERIES)


@dataclass(frozen=True)
class Purpose:
    """What a model's weights are for, in the words of an error."""

    plan: str
    fix: str


FREEZE = Purpose(
    "freeze the detector and train masks on it",
    "Train stage 1 on the same categories, things and stuff, and give its model_final.pth",
)
USE = Purpose(
    "use it as it is",
    "Give weights trained on the categories of DATASETS.TEST, or train on your data first",
)


def fit(file: WeightsFile, model: DetrPanoptic, fine_tune: bool) -> dict[str, Tensor]:
    """The file's weights as the model takes them: heads mapped by class name, queries cut or extended.

    Args:
        file: of weights.
        model: that takes them.
        fine_tune: weights of other classes are welcome, unless the detector is frozen.

    Raises:
        WeightsError: the weights are for other images, for another network or other classes, or contradict
            themselves.
    """
    fresh: dict[str, Tensor] = model.state_dict()
    purpose = FREEZE if model.freeze_detector else None if fine_tune else USE
    if not set(file.weights) & set(fresh):
        example = next(iter(file.weights))
        raise WeightsError(
            f"{file.path} is of no program that is known here: none of its {len(file.weights)} tensors (such as "
            f"{example}) is one of DETR's or of a ResNet's. docs/weights.md lists what loads."
        )
    refuse_other_images(file, model.recipe)
    _refuse_other_network(file, model.recipe, whole=purpose is not None)
    weights = {
        name: value
        for name, value in file.weights.items()
        if not name.startswith(TRAINING_ONLY) or (name in fresh and value.shape == fresh[name].shape)
    }
    if purpose is None:
        weights = _adapted(file, weights, fresh, model.categories)
    else:
        weights = _exact(file, weights, purpose, model.categories)
    _refuse_other_shapes(file, weights, fresh, model.recipe, anew=() if purpose else _MAY_DIFFER)
    return weights


def refuse_absent(path: str, model: DetrPanoptic, absent: list[str], fine_tune: bool) -> None:
    """What is used as it is must be whole: a frozen detector, and the whole model unless it is fine-tuned.

    Args:
        path: of the weights, for the message.
        model: that takes them.
        absent: names of the model's tensors that the weights lack.
        fine_tune: the model is trained further.

    Raises:
        WeightsError: a part would stay random that nothing trains.
    """
    absent = [name for name in absent if not name.startswith(TRAINING_ONLY)]
    if fine_tune:
        absent = [name for name in absent if model.freeze_detector and name.startswith("detr.")]
    if not absent:
        return
    parts = sorted({name.split(".")[0] for name in absent})
    without_masks = "mask_head" in parts and "detr" not in parts
    fix = (
        "It has no masks, and seems to be of stage 1 or of boxes. Name stage 2's model_final.pth, or use "
        "MODEL.DETR.MASK_ON False for boxes."
        if without_masks
        else "Name the checkpoint that was trained with this config, or the config it was trained with."
    )
    raise WeightsError(
        f"{path} isn't this model's: {len(absent)} tensors of {', '.join(parts)} are absent, such as "
        f"{absent[0]}, expected as {tuple(model.state_dict()[absent[0]].shape)}. {fix}"
    )


def _refuse_other_network(file: WeightsFile, ours: dict[str, Any], whole: bool) -> None:
    theirs = deduced_recipe(file)
    keys = differing_keys(theirs, ours, DETECTOR_KEYS + (WHOLE_MODEL_KEYS if whole else ()))
    if keys:
        found = ", ".join(f"{key} is {ours[key]}" for key in keys)
        fix = " ".join(f"{key} {theirs[key]}" for key in keys)
        raise WeightsError(
            f"{file.path} ({file.origin}) isn't of the network that the config describes: {found}. Set {fix}, or "
            f"{_elsewhere(file, keys, theirs, ours)}"
        )


def _elsewhere(file: WeightsFile, keys: list[str], theirs: dict[str, Any], ours: dict[str, Any]) -> str:
    """The end of the sentence: which tensor shows it, and the other way out."""
    shown = {"MODEL.DETR.HIDDEN_DIM": QUERIES, "MODEL.DETR.NHEADS": "mask_head.lay1.weight"}
    shown["MODEL.DETR.DIM_FEEDFORWARD"] = "detr.transformer.decoder.layers.0.linear1.weight"
    shown["MODEL.RESNETS.STEM_OUT_CHANNELS"] = "detr.backbone.stem.conv1.weight"
    name = next((shown[key] for key in keys if key in shown and shown[key] in file.weights), None)
    shape = "" if name is None else f" ({name} is {tuple(file.weights[name].shape)} there)"
    return f"name other weights{shape}."


def _adapted(
    file: WeightsFile, weights: dict[str, Tensor], fresh: dict[str, Tensor], categories: list[Category]
) -> dict[str, Tensor]:
    """Fine-tuning: rows by class name, and as many queries as the model has."""
    known = head_classes(file)
    if known is not None and weights[WEIGHT].shape[1:] == fresh[WEIGHT].shape[1:]:
        rows = match_rows(known, categories)
        weights |= mixed_rows(weights, fresh, rows)
        _report(categories, rows)
    queries, wanted = weights.get(QUERIES), len(fresh[QUERIES])
    if queries is not None and len(queries) != wanted and queries.shape[1:] == fresh[QUERIES].shape[1:]:
        values = fresh[QUERIES].detach().clone()
        values[: len(queries)] = queries[:wanted].to(values)
        weights[QUERIES] = values
        others = f"{wanted - len(queries)} start anew" if wanted > len(queries) else "the others are left out"
        logger.info("Queries: the first %d of the file's %d; %s.", min(wanted, len(queries)), len(queries), others)
    return weights


def _report(categories: list[Category], rows: list[int | None]) -> None:
    taken = [category.name for category, row in zip(categories, rows, strict=True) if row is not None]
    anew = [category.name for category, row in zip(categories, rows, strict=True) if row is None]
    if anew:
        logger.info("Classes taken from the file by name, %d: %s.", len(taken), ", ".join(taken) or "none")
        logger.info("Classes that start anew, %d: %s.", len(anew), ", ".join(anew))
    else:
        logger.info("Classes: all %d are taken from the file by name.", len(taken))


def _exact(
    file: WeightsFile, weights: dict[str, Tensor], purpose: Purpose, categories: list[Category]
) -> dict[str, Tensor]:
    """Use as it is: each class has its row, and each class of the file is the model's."""
    record = file.record.get("categories")
    if record is not None:
        _refuse_other_categories(file.path, record, purpose, categories)
    head, expected = weights.get(WEIGHT), len(categories) + 1
    known = None if head is None or record is not None else head_classes(file)
    if known is not None:
        rows = match_rows(known, categories)
        _refuse_unmatched(file, known, rows, purpose, categories)
        return weights | chosen_rows(weights, [row for row in rows if row is not None])
    if head is None or len(head) != expected:
        found = "no class head" if head is None else f"a class head of {len(head)} outputs"
        raise WeightsError(
            f"{file.path} has {found}, and this model needs {expected} ({expected - 1} classes and no-object), "
            f"so the plan to {purpose.plan} can't work. {purpose.fix}."
        )
    return weights


def _refuse_unmatched(
    file: WeightsFile,
    known: list[HeadClass | None],
    rows: list[int | None],
    purpose: Purpose,
    categories: list[Category],
) -> None:
    absent = [category.name for category, row in zip(categories, rows, strict=True) if row is None]
    others = [head_class.name for row, head_class in enumerate(known) if head_class is not None and row not in rows]
    if not absent and not others:
        return
    named = sum(head_class is not None for head_class in known)
    lacks = f"knows no {some(absent, 3)}" if absent else f"also knows {some(others, 3)}, which the dataset hasn't"
    raise WeightsError(
        f"{file.path} has a class head of {len(known) + 1} outputs for {named} named classes, and {lacks}, so the plan "
        f"to {purpose.plan} can't work. {purpose.fix}."
    )


def _refuse_other_categories(path: str, record: list[dict[str, Any]], purpose: Purpose, ours: list[Category]) -> None:
    theirs = from_record(record, path)
    if all(category.is_thing for category in theirs) and not all(category.is_thing for category in ours):
        raise WeightsError(
            f"{path} knows {len(theirs)} things and no stuff, and the dataset has stuff, so the plan to "
            f"{purpose.plan} can't work: no query would ever answer for sky or ground. {purpose.fix}."
        )
    difference = describe_difference(theirs, ours)
    if difference:
        raise WeightsError(
            f"{path} was trained on other categories than the dataset's: {difference}. So the plan to "
            f"{purpose.plan} can't work. {purpose.fix}."
        )


def _refuse_other_shapes(
    file: WeightsFile, weights: dict[str, Tensor], fresh: dict[str, Tensor], ours: dict[str, Any], anew: tuple[str, ...]
) -> None:
    wrong = [name for name, value in weights.items() if name in fresh and value.shape != fresh[name].shape]
    wrong = [name for name in wrong if name not in anew]
    if not wrong:
        return
    name = wrong[0]
    if name == QUERIES:
        fix = f"Set MODEL.DETR.NUM_QUERIES {len(weights[name])}; only fine-tuning may change it."
    else:
        fix = "The file contradicts itself or is of another network; name another one."
    raise WeightsError(
        f"{file.path}: {name} is {tuple(weights[name].shape)}, and this model needs {tuple(fresh[name].shape)}"
        + (f" ({len(wrong)} tensors don't fit). " if len(wrong) > 1 else ". ")
        + fix
    )
