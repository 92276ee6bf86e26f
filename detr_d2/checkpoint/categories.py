"""The categories a model knows: from the dataset it is trained on, and inside the checkpoints it leaves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from detr_d2.data import Category, categories_of, register_from_config
from detr_d2.errors import ConfigError, WeightsError

from detectron2.config import CfgNode


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
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str) or entry.get("isthing") not in (0, 1):
        return False
    color = entry.get("color")
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
