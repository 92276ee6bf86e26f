"""Datasets by name: built in, or registered once by the user; for commands without Detectron2, and for its catalogs."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from detr_d2.labels.rules.json_files import read_json, without_collector

from ..errors import DatasetError, MissingFileError
from .categories import Category, coco_categories, construction_categories, contiguous_order

if TYPE_CHECKING:
    from .coco_json import DatasetDict

logger = logging.getLogger(__name__)

PathLike = str | os.PathLike[str]

_ADVICE = (
    "Correct the paths given to detr_d2.data.register or in DATASETS.REGISTER (relative ones start "
    "at the working directory, or at the register.yaml that names them)."
)


class Catalogs(Protocol):
    """Detectron2's catalogs; see :mod:`detr_d2.data.catalogs`."""

    def has(self, name: str) -> bool:
        """Whether anybody has registered that name."""

    def enter(self, entry: DatasetEntry) -> None:
        """Registers a dataset."""


@dataclass(frozen=True)
class DatasetEntry:
    """What is known of a registered dataset before any file is read.

    Args:
        name: of the dataset.
        images: folder of the images.
        panoptic_json, panoptic_root: COCO panoptic file and folder of its PNGs; empty for boxes only.
        instances_json: COCO instances file, or empty.
        categories: known beforehand, or empty: then the JSON's.
        instances_may_be_absent: no error where ``instances_json`` isn't there.
        advice: what to do where a file is missing.
    """

    name: str
    images: str
    panoptic_json: str
    panoptic_root: str
    instances_json: str
    categories: tuple[Category, ...] = ()
    instances_may_be_absent: bool = False
    advice: str = _ADVICE


_entries: dict[str, DatasetEntry] = {}
_catalogs: Catalogs | None = None


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
        images: folder of the images.
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
    """Make a dataset known, to Detectron2's catalogs as well; doing so again with the same entry is fine.

    Raises:
        DatasetError: the name is taken by something else.
    """
    if not isinstance(entry.name, str) or not entry.name:
        raise DatasetError(f"a dataset's name is a word, not {entry.name!r}.")
    known = _entries.get(entry.name)
    if _catalogs.has(entry.name) if _catalogs else known is not None:
        if known == entry:
            return
        raise DatasetError(_taken(entry, known))
    _entries[entry.name] = entry
    if _catalogs is not None:
        _catalogs.enter(entry)


def follow_registrations(catalogs: Catalogs) -> None:
    """From now on the catalogs have every registered dataset, those registered before as well.

    Raises:
        DatasetError: another program has registered one of the names there.
    """
    global _catalogs
    if _catalogs is not None:
        return
    for entry in _entries.values():
        if catalogs.has(entry.name):
            raise DatasetError(_taken(entry, None))
    for entry in _entries.values():
        catalogs.enter(entry)
    _catalogs = catalogs


def entry_of(name: str) -> DatasetEntry | None:
    """What was registered under a name; None where nothing was, or another program did."""
    return _entries.get(name)


def dataset_names() -> list[str]:
    """The names of all datasets registered by this project, sorted."""
    return sorted(_entries)


def dataset_files(name: str) -> list[str]:
    """The files of labels of a dataset, for outputs that mustn't replace them; none of another program's dataset."""
    entry = entry_of(name)
    return [path for path in (entry.panoptic_json, entry.instances_json) if path] if entry else []


def image_files(records: Iterable[DatasetDict]) -> Iterator[str]:
    """The images and PNGs of dataset dicts."""
    for record in records:
        yield from (record[key] for key in ("file_name", "pan_seg_file_name") if key in record)


def segments_of(record: DatasetDict) -> list[dict[str, Any]]:
    """A dataset dict's segments, or its boxes where there are no others."""
    found: list[dict[str, Any]] = record["segments_info"] if "segments_info" in record else record["annotations"]
    return found


def read_dataset(entry: DatasetEntry, box_mode: int = 1) -> tuple[list[DatasetDict], list[Category]]:
    """A dataset's dicts, one an image, and its categories by contiguous id.

    Args:
        entry: of the dataset.
        box_mode: what to call boxes of x, y, width and height: Detectron2's ``BoxMode.XYWH_ABS``, whose value is 1.

    Raises:
        MissingFileError, DatasetError: files aren't there, or make no sense.
    """
    with without_collector():
        return _read_dataset(entry, box_mode)


def _read_dataset(entry: DatasetEntry, box_mode: int) -> tuple[list[DatasetDict], list[Category]]:
    path = entry.panoptic_json or entry.instances_json
    content = _read(entry, path)
    ordered = contiguous_order(_categories(entry, content, path))
    contiguous = {category.id: (number, category.is_thing) for number, category in enumerate(ordered)}
    for folder in filter(None, (entry.images, entry.panoptic_root)):
        if not os.path.isdir(folder):
            raise MissingFileError(f"dataset {entry.name!r}: the folder {folder} isn't there. {entry.advice}")
    from .coco_json import instances_dicts, panoptic_dicts  # with the rules of labels, which names don't need

    if entry.panoptic_json:
        dicts = panoptic_dicts(content, path, entry.images, entry.panoptic_root, contiguous)
    else:
        dicts = instances_dicts(content, path, entry.images, contiguous, box_mode)
    if not dicts:
        raise DatasetError(f"dataset {entry.name!r}: {path} has no annotated image.")
    logger.info("%s: %d images from %s", entry.name, len(dicts), path)
    return dicts, ordered


def read_dataset_categories(entry: DatasetEntry) -> list[Category]:
    """A dataset's categories by contiguous id, from its JSON unless they are known already.

    Raises:
        MissingFileError, DatasetError: the JSON isn't there, or its categories make no sense.
    """
    if entry.categories:
        return contiguous_order(entry.categories)
    path = entry.panoptic_json or entry.instances_json
    return contiguous_order(_categories(entry, _read(entry, path), path))


def _read(entry: DatasetEntry, path: str) -> dict[str, Any]:
    if not os.path.exists(path):
        raise MissingFileError(f"dataset {entry.name!r}: its annotations aren't at {path}. {entry.advice}")
    return read_json(path)


def _categories(entry: DatasetEntry, content: dict[str, Any], path: str) -> tuple[Category, ...]:
    """The file's categories, in the colours known beforehand if there are any; they must be the same as those."""
    from .coco_json import read_categories

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


def instances_path(entry: DatasetEntry) -> str:
    """The path of the instances file, or nothing where there is none and needn't be one.

    Raises:
        MissingFileError: it isn't there, and should be.
    """
    if not entry.instances_json or os.path.isfile(entry.instances_json):
        return entry.instances_json
    if entry.instances_may_be_absent:
        return ""
    raise MissingFileError(f"dataset {entry.name!r}: its instances aren't at {entry.instances_json}. {entry.advice}")


def _absolute(path: PathLike | None) -> str:
    return "" if path is None else os.path.abspath(os.path.expanduser(os.fspath(path)))


def _taken(entry: DatasetEntry, known: DatasetEntry | None) -> str:
    if known is None:
        return f"the dataset name {entry.name!r} is taken by a dataset that another program registered; choose another."
    keys = ("images", "panoptic_json", "panoptic_root", "instances_json", "categories")
    key = next((key for key in keys if getattr(known, key) != getattr(entry, key)), "advice")
    return (
        f"the dataset {entry.name!r} is registered already, with {key}={getattr(known, key)!r}, "
        f"now with {getattr(entry, key)!r}; give the new one another name."
    )


_BUILTIN_ADVICE = (
    "Set DETECTRON2_DATASETS to the folder that holds all datasets (the default is 'datasets' in the working "
    "directory); datasets/README.md shows what belongs into it. Other places: DATASETS.REGISTER."
)


def datasets_root() -> str:
    """The folder of all datasets: ``DETECTRON2_DATASETS``, or ``datasets`` in the working directory."""
    return os.path.abspath(os.path.expanduser(os.environ.get("DETECTRON2_DATASETS") or "datasets"))


def builtin_entries(root: str) -> list[DatasetEntry]:
    """The built-in datasets with ``root`` as the folder of all datasets."""
    made = "images", "panoptic_{}.json", "panoptic", "instances_{}.json"
    coco = "{}2017", "annotations/panoptic_{}2017.json", "panoptic_{}2017", "annotations/instances_{}2017.json"
    kinds = (
        ("construction_panoptic_{}", "construction", made, construction_categories()),
        ("construction_coco_panoptic_{}", "construction_coco", made, construction_categories()),
        ("coco_2017_{}_panoptic_detr", "coco", coco, coco_categories()),
    )
    entries = []
    for name, folder, places, categories in kinds:
        for split in ("train", "val"):
            images, labels, pngs, objects = (
                os.path.join(root, folder, *place.format(split).split("/")) for place in places
            )
            paths = images, labels, pngs, objects
            entries.append(DatasetEntry(name.format(split), *paths, categories, True, _BUILTIN_ADVICE))
    return entries


def register_builtin(root: str | None = None) -> None:
    """Register the built-in datasets; they are looked for under ``root``, by default :func:`datasets_root`."""
    for entry in builtin_entries(root or datasets_root()):
        register_entry(entry)
