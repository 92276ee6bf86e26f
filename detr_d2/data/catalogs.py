"""Registered datasets in Detectron2's catalogs, where a training and everything else of Detectron2 find them.

The JSON of a dataset is read when somebody asks its ``Metadata`` for what only the JSON knows.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from functools import partial
from typing import Any

from detr_d2.labels.rules.json_files import read_json

from detectron2.data import DatasetCatalog, Metadata, MetadataCatalog
from detectron2.structures import BoxMode

from ..errors import DatasetError
from .categories import Category
from .coco_json import DatasetDict, read_dataset, read_dataset_categories
from .registration import (
    DatasetEntry,
    dataset_names,
    entry_of,
    follow_registrations,
    instances_path,
)


def use_catalogs() -> None:
    """Enter every registered dataset into Detectron2's catalogs, and from now on each one that is registered.

    Raises:
        DatasetError: another program has registered one of the names there.
    """
    follow_registrations(lambda name: name in DatasetCatalog.list(), _enter)


def _enter(entry: DatasetEntry) -> None:
    DatasetCatalog.register(entry.name, partial(_load, entry))
    known = MetadataCatalog.get(entry.name).as_dict()  # somebody may have set something
    MetadataCatalog[entry.name] = metadata = LazyMetadata(**known)
    metadata.set(
        image_root=entry.images,
        panoptic_root=entry.panoptic_root,
        panoptic_json=entry.panoptic_json,
        # The only one of Detectron2's kinds that needs nothing else, such as files of semantic segmentation.
        evaluator_type="coco",
        ignore_label=255,
        label_divisor=1000,
    )


def dataset_metadata(name: str) -> Any:
    """Detectron2's metadata of a dataset, with what its ids mean; its JSON is read if it has to be.

    Raises:
        DatasetError: no such dataset (the nearest names are offered), or its JSON is wrong.
        MissingFileError: its JSON isn't there.
    """
    if name not in DatasetCatalog.list():
        near = difflib.get_close_matches(str(name), DatasetCatalog.list(), 5, 0.5)
        offered = (
            f"did you mean {' or '.join(map(repr, near))}?"
            if near
            else f"registered are {', '.join(dataset_names()[:12])} ..."
        )
        raise DatasetError(f"there is no dataset {name!r}; {offered} Register your own with DATASETS.REGISTER.")
    metadata = MetadataCatalog.get(name)
    entry = entry_of(name)
    if entry is None:  # somebody else's dataset: reading it is what fills in its metadata
        if not hasattr(metadata, "thing_classes"):
            DatasetCatalog.get(name)
    else:
        _ = metadata.thing_dataset_id_to_contiguous_id
    return metadata


def instances_file(name: str) -> str:
    """The COCO instances file of a registered dataset, or nothing; raises as :func:`dataset_metadata`."""
    metadata, entry = dataset_metadata(name), entry_of(name)
    return metadata.get("json_file", "") if entry is None else instances_path(entry)


def categories_of(name: str) -> list[Category]:
    """The categories of a dataset by contiguous id: things first, then stuff.

    Raises:
        DatasetError, MissingFileError: as :func:`dataset_metadata`.
    """
    metadata = dataset_metadata(name)
    thing_ids: dict[int, int] = metadata.thing_dataset_id_to_contiguous_id
    stuff_ids: dict[int, int] = getattr(metadata, "stuff_dataset_id_to_contiguous_id", {})
    things = {contiguous: dataset_id for dataset_id, contiguous in thing_ids.items()}
    stuff = {contiguous: dataset_id for dataset_id, contiguous in stuff_ids.items() if contiguous not in things}
    names, colors = list(metadata.thing_classes), list(getattr(metadata, "thing_colors", []))
    if stuff:
        names, colors = list(metadata.stuff_classes), list(getattr(metadata, "stuff_colors", []))
    found = []
    for number, dataset_id in sorted({**things, **stuff}.items()):
        red, green, blue = colors[number] if number < len(colors) else (128, 128, 128)
        found.append(Category(dataset_id, names[number], number in things, (red, green, blue)))
    return found


def _load(entry: DatasetEntry) -> list[DatasetDict]:
    """The dataset's dicts; Detectron2's catalog calls this."""
    dicts, categories = read_dataset(entry, BoxMode.XYWH_ABS)
    metadata = MetadataCatalog.get(entry.name)
    if isinstance(metadata, LazyMetadata):
        metadata.learn(_description(entry, categories))
    return dicts


def _description(entry: DatasetEntry, ordered: Sequence[Category]) -> dict[str, Any]:
    """Things come first, so that their names are a list of their own; Detectron2 looks for stuff in the whole list."""
    names = [category.name for category in ordered]
    colors = [list(category.color) for category in ordered]
    ids = {category.id: number for number, category in enumerate(ordered)}
    things = [category.id for category in ordered if category.is_thing]
    instances_path(entry)  # says if they are missing
    return {
        "thing_classes": names[: len(things)],
        "stuff_classes": names,
        "thing_colors": colors[: len(things)],
        "stuff_colors": colors,
        "thing_dataset_id_to_contiguous_id": {c.id: ids[c.id] for c in ordered if c.is_thing},
        "stuff_dataset_id_to_contiguous_id": {c.id: ids[c.id] for c in ordered if not c.is_thing},
    }


#: What :func:`_description` returns.
FROM_JSON = (
    *("thing_classes", "thing_colors", "thing_dataset_id_to_contiguous_id"),
    *("stuff_classes", "stuff_colors", "stuff_dataset_id_to_contiguous_id"),
)


class LazyMetadata(Metadata):
    """Has ``thing_classes`` and the like from the start, and ``json_file`` where COCO's evaluators can judge by it."""

    def __getattr__(self, key: str) -> Any:
        """Called for what isn't known yet; raises what reading the JSON raises."""
        entry = entry_of(self.name) if key in FROM_JSON or key == "json_file" else None
        if entry is None:
            return super().__getattr__(key)
        if key == "json_file":
            self.__dict__[key] = _ground_truth(self, instances_path(entry))
        else:
            self.learn(_description(entry, read_dataset_categories(entry)))
        return self.__dict__[key]

    def learn(self, values: dict[str, Any]) -> None:
        """Set attributes; AssertionError, as ever, where one is known already and was another."""
        new = {key: value for key, value in values.items() if key not in self.__dict__}
        self.__dict__.update(new)
        self.set(**values)


def _ground_truth(metadata: LazyMetadata, path: str) -> str:
    """The instances file, if ``COCOEvaluator`` can judge by it: it takes the n-th thing for the n-th id in the file.

    Raises:
        DatasetError: it would judge by nothing, stop without a word, or take one class for another.
    """
    wanted = list(metadata.thing_dataset_id_to_contiguous_id)
    if not path:
        reason = "no instances_json to judge by"
    elif wanted != sorted(wanted):
        reason = f"things whose ids don't rise in the order of the categories ({', '.join(map(str, wanted[:5]))} ...)"
    elif sorted(entry["id"] for entry in read_json(path).get("categories", [])) != wanted:
        reason = f"an instances_json, {path}, whose categories aren't its things"
    else:
        return path
    raise DatasetError(
        f"dataset {metadata.name!r} has {reason}, so COCOEvaluator can't be used; "
        "detr_d2.evaluation.build_evaluator(cfg, name, folder) gives the same AP of any dataset."
    )
