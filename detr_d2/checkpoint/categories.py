"""The classes of models and of files of weights: named, compared, and the rows of class heads that stand for them.

Source: the published heads count by COCO's category id and have no-object last (91 of 92, 250 of 251).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from detr_d2.data import Category, categories_of, coco_categories, register_from_config
from detr_d2.errors import ConfigError, WeightsError

from detectron2.config import CfgNode

from .names import HUGGING_FACE, PUBLISHED
from .reading import WeightsFile

WEIGHT, BIAS = "detr.class_embed.weight", "detr.class_embed.bias"

_PUBLISHED_ROWS = (92, 251)
_CONTIGUOUS_ROWS = 81
"""Boxes, converted for the Detectron2 wrapper of facebookresearch/detr: the 80 things in the order of their ids."""


def model_categories(cfg: CfgNode) -> list[Category]:
    """The categories in contiguous order of the datasets named in the config, which must agree.

    Raises:
        ConfigError: no dataset is named, or two of them have other categories.
        DatasetError: a dataset isn't registered, or contradicts itself.
        MissingFileError: a dataset's file isn't there.
    """
    register_from_config(cfg)
    names = [*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST]
    if not names:
        raise ConfigError(
            "DATASETS.TRAIN and DATASETS.TEST are both empty, so the model's classes are unknown. "
            "Name a dataset, for example DATASETS.TRAIN \"('construction_panoptic_train',)\"."
        )
    categories = categories_of(names[0])
    for name in names[1:]:
        difference = describe_difference(categories, categories_of(name))
        if difference:
            raise ConfigError(
                f"Datasets {names[0]!r} and {name!r} have other categories: {difference}. "
                "DATASETS.TRAIN and DATASETS.TEST must name datasets of the same categories."
            )
    return categories


def to_record(categories: Sequence[Category]) -> list[dict[str, Any]]:
    """Categories as plain data, for a checkpoint."""
    return [category.to_json() for category in categories]


def from_record(record: Any, path: str) -> list[Category]:
    """What :func:`to_record` wrote, as categories.

    Args:
        record: of a checkpoint; anything may come.
        path: of that file, for messages.

    Raises:
        WeightsError: it is no list of categories.
    """
    if not isinstance(record, list | tuple):
        raise WeightsError(
            f"{path}: the list of categories in it is damaged: it is a {type(record).__name__}. Use another copy."
        )
    for number, entry in enumerate(record):
        if not _is_category(entry):
            raise WeightsError(
                f"{path}: the list of categories in it is damaged: entry {number} is {repr(entry)[:200]}, and needs "
                "id, name, isthing (0 or 1) and color (three numbers from 0 to 255). Use another copy."
            )
    return [Category(entry["id"], entry["name"], bool(entry["isthing"]), tuple(entry["color"])) for entry in record]


def _is_category(entry: Any) -> bool:
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
        return False
    is_thing, color = entry.get("isthing"), entry.get("color")
    if not isinstance(is_thing, int) or is_thing not in (0, 1):
        return False
    if not isinstance(entry.get("id"), int) or not isinstance(color, list | tuple) or len(color) != 3:
        return False
    return all(isinstance(part, int) and 0 <= part <= 255 for part in color)


def describe_difference(ours: Sequence[Category], theirs: Sequence[Category]) -> str:
    """In words, how the classes that a model would see differ; empty if they don't. Ids and colours don't count."""
    if len(ours) != len(theirs):
        return f"{_count(ours)} against {_count(theirs)}"
    for i, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        if (a.name, a.is_thing) != (b.name, b.is_thing):
            return f"class {i} is {_describe(a)} against {_describe(b)}"
    return ""


def _count(categories: Sequence[Category]) -> str:
    things = sum(category.is_thing for category in categories)
    return f"{things} things and {len(categories) - things} stuff classes"


def _describe(category: Category) -> str:
    return f"{category.name!r} ({'thing' if category.is_thing else 'stuff'})"


@dataclass(frozen=True)
class HeadClass:
    """A class that a row of the class head stands for.

    Args:
        name: as its program calls it.
        is_thing: None where nobody says.
        category: all that is known of it, if more than the name is.
    """

    name: str
    is_thing: bool | None = None
    category: Category | None = None


def head_classes(file: WeightsFile) -> list[HeadClass | None] | None:
    """What each output of a file's class head stands for, without no-object.

    Returns:
        One entry an output, None for ids that no class has; or None where nobody says what they are.

    Raises:
        WeightsError: the file's own list of categories is damaged.
    """
    head = file.weights.get(WEIGHT)
    if head is None:
        return None
    outputs = len(head)
    record = file.record.get("categories")
    if record:
        return [HeadClass(category.name, category.is_thing, category) for category in from_record(record, file.path)]
    published = file.origin == PUBLISHED or (file.origin == HUGGING_FACE and _are_coco(file.labels))
    if published and outputs in _PUBLISHED_ROWS:
        by_id = {category.id: category for category in coco_categories() if category.id < outputs - 1}
        return [_known(by_id[number]) if number in by_id else None for number in range(outputs - 1)]
    if file.origin == PUBLISHED and outputs == _CONTIGUOUS_ROWS:
        return [_known(category) for category in coco_categories() if category.is_thing]
    if file.labels is not None and len(file.labels) == outputs - 1:
        return [HeadClass(name) for name in file.labels]
    return None


def match_rows(known: Sequence[HeadClass | None], categories: Sequence[Category]) -> list[int | None]:
    """For each category the row of the class of its name, or None.

    Names are compared as :func:`normalised`; of two rows of one name, that of the same kind (thing, stuff) is taken.
    """
    rows: dict[str, list[int]] = {}
    for row, head_class in enumerate(known):
        if head_class is not None:
            rows.setdefault(normalised(head_class.name), []).append(row)

    def unlike(row: int, category: Category) -> tuple[bool, bool]:
        head_class = known[row]
        assert head_class is not None
        return head_class.is_thing is (not category.is_thing), head_class.name != category.name

    matched: list[int | None] = []
    for category in categories:
        candidates = sorted(rows.get(normalised(category.name), []), key=lambda row: unlike(row, category))
        matched.append(candidates[0] if candidates else None)
        if len(candidates) > 1:  # so that two classes of one name get a row each
            rows[normalised(category.name)].remove(candidates[0])
    return matched


def normalised(name: str) -> str:
    """A class name without what programs write differently: case, ``_`` and ``-``, and COCO's "-merged", "-other",
    "-stuff"; ``Sky-other-merged`` is ``sky``."""
    words = re.split(r"[\s_\-/]+", name.strip().lower())
    while len(words) > 1 and words[-1] in ("merged", "other", "stuff"):
        words.pop()
    return " ".join(words)


def chosen_rows(weights: dict[str, Tensor], rows: Sequence[int]) -> dict[str, Tensor]:
    """A class head of those rows of the file's head, in that order, and its last row, no-object's."""
    return {name: weights[name][[*rows, len(weights[name]) - 1]] for name in (WEIGHT, BIAS)}


def mixed_rows(weights: dict[str, Tensor], fresh: dict[str, Tensor], rows: Sequence[int | None]) -> dict[str, Tensor]:
    """A class head of the matched rows, and no-object's; unmatched classes keep the fresh values.

    Args:
        weights: with the file's head, (R, D) and (R,), no-object last.
        fresh: with the model's head, (K+1, D) and (K+1,).
        rows: for each of the K classes its row in the file's head, or None.
    """
    head = {}
    for name in (WEIGHT, BIAS):
        values = fresh[name].detach().clone()
        for number, row in [*enumerate(rows), (len(rows), len(weights[name]) - 1)]:
            if row is not None:
                values[number] = weights[name][row].to(values)
        head[name] = values
    return head


def _known(category: Category) -> HeadClass:
    return HeadClass(category.name, category.is_thing, category)


def _are_coco(labels: list[str] | None) -> bool:
    """Whether Hugging Face's labels are COCO's; without any they are the published ones, which have no names."""
    return labels is None or (len(labels) > 90 and (labels[1], labels[90]) == ("person", "toothbrush"))
