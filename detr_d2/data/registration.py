"""Datasets by name: built in, registered by the user, or named by a config; a file is read only when it is used.

Commands without Detectron2 use the names, and so do its catalogs, see :mod:`detr_d2.data.catalogs`.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from ..errors import DatasetError, MissingFileError, UserError
from ..plain_yaml import read_yaml
from .categories import Category, coco_categories, construction_categories

if TYPE_CHECKING:
    from detectron2.config import CfgNode

    from .coco_json import DatasetDict

PathLike = str | os.PathLike[str]

_ADVICE = (
    "Correct the paths given to detr_d2.data.register or in DATASETS.REGISTER (relative ones start "
    "at the working directory, or at the register.yaml that names them)."
)
_BUILTIN_ADVICE = (
    "Set DETECTRON2_DATASETS to the folder that holds all datasets (the default is 'datasets' in the working "
    "directory); datasets/README.md shows what belongs into it. Other places: DATASETS.REGISTER."
)
_PATHS = ("images", "panoptic_json", "panoptic_root", "instances_json")


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

    @property
    def main_json(self) -> str:
        """The file that says which images and categories there are."""
        return self.panoptic_json or self.instances_json


_entries: dict[str, DatasetEntry] = {}
#: Of Detectron2's catalogs, once they follow: whether anybody has registered a name there, and what registers an entry.
_catalogs: tuple[Callable[[str], bool], Callable[[DatasetEntry], None]] | None = None


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
    paths = _absolute(images), _absolute(panoptic_json), _absolute(panoptic_root), _absolute(instances_json)
    register_entry(DatasetEntry(name, *paths, tuple(categories or ())))


def _absolute(path: PathLike | None) -> str:
    return "" if path is None else os.path.abspath(os.path.expanduser(os.fspath(path)))


def register_entry(entry: DatasetEntry) -> None:
    """Make a dataset known, to Detectron2's catalogs as well; doing so again with the same entry is fine.

    Raises:
        DatasetError: the name is taken by something else.
    """
    if not isinstance(entry.name, str) or not entry.name:
        raise DatasetError(f"a dataset's name is a word, not {entry.name!r}.")
    known = _entries.get(entry.name)
    if _catalogs[0](entry.name) if _catalogs else known is not None:
        if known == entry:
            return
        raise DatasetError(_taken(entry, known))
    _entries[entry.name] = entry
    if _catalogs is not None:
        _catalogs[1](entry)


def follow_registrations(has: Callable[[str], bool], enter: Callable[[DatasetEntry], None]) -> None:
    """From now on Detectron2's catalogs have every registered dataset, those registered before as well.

    ``has`` says whether anybody has registered a name there, and ``enter`` registers a dataset there.

    Raises:
        DatasetError: another program has registered one of the names there.
    """
    global _catalogs
    if _catalogs is not None:
        return
    for entry in _entries.values():
        if has(entry.name):
            raise DatasetError(_taken(entry, None))
    for entry in _entries.values():
        enter(entry)
    _catalogs = has, enter


def _taken(entry: DatasetEntry, known: DatasetEntry | None) -> str:
    if known is None:
        return f"the dataset name {entry.name!r} is taken by a dataset that another program registered; choose another."
    key = next((key for key in (*_PATHS, "categories") if getattr(known, key) != getattr(entry, key)), "advice")
    return (
        f"the dataset {entry.name!r} is registered already, with {key}={getattr(known, key)!r}, "
        f"now with {getattr(entry, key)!r}; give the new one another name."
    )


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


def register_from_config(cfg: CfgNode) -> None:
    """Register every entry of ``cfg.DATASETS.REGISTER``.

    An entry is a mapping with the arguments of :func:`register`, relative paths starting at the working directory, or
    the path of a yaml file with a list of such mappings, relative paths starting at that file's folder.

    Raises:
        DatasetError: an entry isn't understood, or its name is taken by something else.
        MissingFileError: a yaml file isn't there.
    """
    register_entries(cfg.DATASETS.REGISTER)


def register_entries(entries: Iterable[Any]) -> None:
    """Register the entries of a ``DATASETS.REGISTER``; see :func:`register_from_config`."""
    for number, entry in enumerate(entries):
        place = f"DATASETS.REGISTER[{number}]"
        if isinstance(entry, str):
            register_file(os.path.abspath(os.path.expanduser(entry)), place)
        else:
            _register_mapping(entry, os.getcwd(), place)


def register_file(path: str, place: str) -> list[str]:
    """Register every dataset of a yaml file, whose path is absolute, and return their names in its order.

    ``place`` says in messages who names it; raises as :func:`register_from_config`.
    """
    try:
        entries = read_yaml(path)
    except FileNotFoundError as error:
        raise MissingFileError(f"{place}: {path} isn't there. Write the path of a register.yaml.") from error
    except (OSError, UserError) as error:
        raise DatasetError(f"{place}: {path} can't be read: {error}") from error
    if not isinstance(entries, list):
        raise DatasetError(f"{place}: {path} must hold a list of datasets, each starting with '- name: ...'.")
    for number, entry in enumerate(entries):
        if isinstance(entry, str):
            raise DatasetError(
                f"{path}: entry {number} is {entry!r}; such a file holds datasets and names no other files. Name "
                "both in DATASETS.REGISTER."
            )
        _register_mapping(entry, os.path.dirname(path), f"{path}: entry {number}")
    return [entry["name"] for entry in entries]


def _register_mapping(entry: Any, folder: str, place: str) -> None:
    """Register what a mapping describes, its relative paths starting at ``folder``."""
    allowed = ("name", *_PATHS)
    if not isinstance(entry, dict):
        raise DatasetError(
            f"{place} is {entry!r}; it must be a mapping with {', '.join(allowed)}, or a yaml file's path."
        )
    for key, value in entry.items():
        if key not in allowed:
            near = difflib.get_close_matches(str(key), allowed, 1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            raise DatasetError(f"{place} has the key {key!r}{hint}; allowed are {', '.join(allowed)}.")
        if value is not None and not isinstance(value, str):
            raise DatasetError(f"{place} has {key}={value!r}; it must be text.")
    for key in ("name", "images"):
        if not entry.get(key):
            raise DatasetError(f"{place} has no {key!r}; each dataset needs name and images.")
    paths = (os.path.join(folder, os.path.expanduser(entry[key])) if entry.get(key) else None for key in _PATHS)
    register(entry["name"], *paths)  # type: ignore[arg-type]  # images are there


def write_register(folder: Path, name: str, splits: Iterable[str]) -> None:
    """Write ``register.yaml``, which ``DATASETS.REGISTER`` names, for the splits of a dataset's folder.

    The folder has ``images``, ``panoptic``, each split's ``panoptic_*.json`` and, of things, ``instances_*.json``; a
    split's dataset is called ``<name>_<split>``.
    """
    entries = []
    for split in splits:
        panoptic = {"panoptic_json": f"panoptic_{split}.json", "panoptic_root": "panoptic"}
        entries.append({"name": f"{name}_{split}", "images": "images", **panoptic})
        if (folder / f"instances_{split}.json").is_file():
            entries[-1]["instances_json"] = f"instances_{split}.json"
    write_entries(folder, entries)


def write_entries(folder: Path, entries: list[dict[str, Any]]) -> None:
    """Write a ``register.yaml`` of these entries."""
    text = yaml.safe_dump(entries, sort_keys=False, allow_unicode=True)
    (folder / "register.yaml").write_text(text, encoding="utf-8")


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
