"""Datasets by name: what a user registers once, and Detectron2 then finds under its catalogs."""

from __future__ import annotations

import difflib
import logging
import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode

from ..errors import DatasetError, MissingFileError
from .categories import Category, contiguous_order
from .coco_json import DatasetDict, instances_dicts, panoptic_dicts, read_categories
from .json_reading import read_json
from .lazy_metadata import LazyMetadata, make_lazy

logger = logging.getLogger(__name__)

PathLike = str | os.PathLike[str]

_CURE = (
    "Correct the paths given to detr_d2.data.register or in DATASETS.REGISTER (relative ones start "
    "at the working directory, or at the register.yaml that names them)."
)


@dataclass(frozen=True)
class DatasetEntry:
    """What is known of a registered dataset before any file is read.

    Args:
        name: of the dataset.
        images: folder of the pictures.
        panoptic_json, panoptic_root: COCO panoptic file and folder of its PNGs; empty for boxes only.
        instances_json: COCO instances file, or empty.
        categories: known beforehand, or empty: then the JSON's.
        instances_may_be_absent: no error where ``instances_json`` isn't there.
        cure: what to do where a file is missing.
    """

    name: str
    images: str
    panoptic_json: str
    panoptic_root: str
    instances_json: str
    categories: tuple[Category, ...] = ()
    instances_may_be_absent: bool = False
    cure: str = _CURE


_entries: dict[str, DatasetEntry] = {}


def register(
    name: str,
    images: PathLike,
    panoptic_json: PathLike | None = None,
    panoptic_root: PathLike | None = None,
    instances_json: PathLike | None = None,
    categories: Iterable[Category] | None = None,
) -> None:
    """Make a dataset known under a name; no file is read before it is used.

    Args:
        name: what ``DATASETS.TRAIN`` and ``DATASETS.TEST`` call it.
        images: folder of the pictures.
        panoptic_json: COCO panoptic JSON; without it the dataset has boxes only, from ``instances_json``.
        panoptic_root: folder of the panoptic PNGs.
        instances_json: COCO instances JSON of the things, for box AP.
        categories: in the order of the JSON, if they shall be known before the JSON is there; the JSON's must be the
            same. By default they are read from the JSON.

    Raises:
        DatasetError: the name is taken by a dataset with other files, or arguments are missing.
    """
    if (panoptic_json is None) != (panoptic_root is None):
        raise DatasetError(f"dataset {name!r}: panoptic_json and panoptic_root belong together; give both or neither.")
    if panoptic_json is None and instances_json is None:
        raise DatasetError(
            f"dataset {name!r} has no annotations: give panoptic_json and panoptic_root, or instances_json."
        )
    register_entry(
        DatasetEntry(
            name=name,
            images=_absolute(images),
            panoptic_json=_absolute(panoptic_json),
            panoptic_root=_absolute(panoptic_root),
            instances_json=_absolute(instances_json),
            categories=tuple(categories or ()),
        )
    )


def register_entry(entry: DatasetEntry) -> None:
    """Put a dataset into Detectron2's catalogs; doing so again with the same entry is fine.

    Raises:
        DatasetError: the name is taken by something else.
    """
    if not isinstance(entry.name, str) or not entry.name:
        raise DatasetError(f"a dataset's name is a word, not {entry.name!r}.")
    if entry.name in DatasetCatalog.list():
        known = _entries.get(entry.name)
        if known == entry:
            return
        raise DatasetError(_taken(entry, known))
    _entries[entry.name] = entry
    DatasetCatalog.register(entry.name, partial(_load, entry))
    make_lazy(entry.name, partial(_description_of, entry), partial(_instances_of, entry)).set(
        image_root=entry.images,
        panoptic_root=entry.panoptic_root,
        panoptic_json=entry.panoptic_json,
        # The only one of Detectron2's kinds that needs nothing else, such as files of semantic segmentation.
        evaluator_type="coco",
        ignore_label=255,
        label_divisor=1000,
    )


def dataset_metadata(name: str) -> Any:
    """Detectron2's metadata of a dataset, with names, colours and ids of its categories.

    The JSON is read for its categories, unless they are known already.

    Raises:
        DatasetError: no such dataset (the nearest names are offered), or its JSON is wrong.
        MissingFileError: its JSON isn't there.
    """
    if name not in DatasetCatalog.list():
        raise DatasetError(_unknown(name))
    metadata = MetadataCatalog.get(name)
    entry = _entries.get(name)
    if entry is None:  # somebody else's dataset: reading it is what fills in its metadata
        if not hasattr(metadata, "thing_classes"):
            DatasetCatalog.get(name)
    else:
        _ = metadata.thing_dataset_id_to_contiguous_id
    return metadata


def instances_file(name: str) -> str:
    """The COCO instances file of a registered dataset, or nothing; raises as :func:`dataset_metadata`."""
    metadata, entry = dataset_metadata(name), _entries.get(name)
    return metadata.get("json_file", "") if entry is None else _instances_of(entry)


def entry_of(name: str) -> DatasetEntry | None:
    """What was registered under a name; None where nothing was, or another program did."""
    return _entries.get(name)


def dataset_names() -> list[str]:
    """The names of all datasets registered by this project, sorted."""
    return sorted(_entries)


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
    path = entry.panoptic_json or entry.instances_json
    content = _read(entry, path)
    categories = _categories(entry, content, path)
    metadata = MetadataCatalog.get(entry.name)
    if isinstance(metadata, LazyMetadata):
        metadata.learn(_description(entry, categories))
    ordered = contiguous_order(categories)
    contiguous = {category.id: (number, category.is_thing) for number, category in enumerate(ordered)}
    for folder in filter(None, (entry.images, entry.panoptic_root)):
        if not os.path.isdir(folder):
            raise MissingFileError(f"dataset {entry.name!r}: the folder {folder} isn't there. {entry.cure}")
    if entry.panoptic_json:
        dicts = panoptic_dicts(content, path, entry.images, entry.panoptic_root, contiguous)
    else:
        dicts = instances_dicts(content, path, entry.images, contiguous, BoxMode.XYWH_ABS)
    if not dicts:
        raise DatasetError(f"dataset {entry.name!r}: {path} has no annotated picture.")
    logger.info("%s: %d pictures from %s", entry.name, len(dicts), path)
    return dicts


def _read(entry: DatasetEntry, path: str) -> dict[str, Any]:
    if not os.path.exists(path):
        raise MissingFileError(f"dataset {entry.name!r}: its annotations aren't at {path}. {entry.cure}")
    return read_json(path)


def _categories(entry: DatasetEntry, content: dict[str, Any], path: str) -> tuple[Category, ...]:
    """The file's categories, in the colours known beforehand if there are any; they must be the same as those."""
    found = read_categories(content, path, all_things=not entry.panoptic_json)
    if not entry.categories:
        return tuple(found)
    known = {(category.id, category.name, category.is_thing) for category in entry.categories}
    differing = [category for category in found if (category.id, category.name, category.is_thing) not in known]
    if differing or len(found) != len(known):
        example = f", such as {differing[0].id} {differing[0].name!r}" if differing else ""
        raise DatasetError(
            f"dataset {entry.name!r} stands for {len(known)} known categories, but {path} has {len(found)}, "
            f"{len(differing)} of them others{example}. Register the file under a name of its own."
        )
    return entry.categories


def _description_of(entry: DatasetEntry) -> dict[str, Any]:
    """The metadata that says what the ids mean, from the JSON unless its categories are known already."""
    path = entry.panoptic_json or entry.instances_json
    return _description(entry, entry.categories or _categories(entry, _read(entry, path), path))


def _description(entry: DatasetEntry, categories: Iterable[Category]) -> dict[str, Any]:
    """Things come first, so that their names are a list of their own; Detectron2 looks for stuff in the whole list."""
    ordered = contiguous_order(categories)
    names = [category.name for category in ordered]
    colors = [list(category.color) for category in ordered]
    ids = {category.id: number for number, category in enumerate(ordered)}
    things = [category.id for category in ordered if category.is_thing]
    _instances_of(entry)  # says if they are missing
    return {
        "thing_classes": names[: len(things)],
        "stuff_classes": names,
        "thing_colors": colors[: len(things)],
        "stuff_colors": colors,
        "thing_dataset_id_to_contiguous_id": {c.id: ids[c.id] for c in ordered if c.is_thing},
        "stuff_dataset_id_to_contiguous_id": {c.id: ids[c.id] for c in ordered if not c.is_thing},
    }


def _instances_of(entry: DatasetEntry) -> str:
    """The path of the instances file, or nothing where there is none and needn't be one."""
    if not entry.instances_json or os.path.isfile(entry.instances_json):
        return entry.instances_json
    if entry.instances_may_be_absent:
        return ""
    raise MissingFileError(f"dataset {entry.name!r}: its instances aren't at {entry.instances_json}. {entry.cure}")


def _absolute(path: PathLike | None) -> str:
    return "" if path is None else os.path.abspath(os.path.expanduser(os.fspath(path)))


def _taken(entry: DatasetEntry, known: DatasetEntry | None) -> str:
    if known is None:
        return f"the dataset name {entry.name!r} is taken by a dataset that another program registered; choose another."
    keys = ("images", "panoptic_json", "panoptic_root", "instances_json", "categories")
    key = next((key for key in keys if getattr(known, key) != getattr(entry, key)), "cure")
    return (
        f"the dataset {entry.name!r} is registered already, with {key}={getattr(known, key)!r}, "
        f"now with {getattr(entry, key)!r}; give the new one another name."
    )


def _unknown(name: str) -> str:
    names = DatasetCatalog.list()
    near = difflib.get_close_matches(str(name), names, 5, 0.5)
    ours = ", ".join(sorted(_entries)[:12])
    offered = f"did you mean {' or '.join(map(repr, near))}?" if near else f"registered are {ours} ..."
    return f"there is no dataset {name!r}; {offered} Register your own with DATASETS.REGISTER."
