"""Datasets that a config names: ``DATASETS.REGISTER``."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from ..errors import DatasetError, MissingFileError, UserError
from ..plain_yaml import read_yaml
from .registration import register

if TYPE_CHECKING:
    from detectron2.config import CfgNode

_REQUIRED = ("name", "images")
_PATHS = ("images", "panoptic_json", "panoptic_root", "instances_json")


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
    """Register every dataset of a yaml file.

    Args:
        path: of the file, absolute.
        place: who names it, for messages.

    Returns:
        The names, in the order of the file.

    Raises:
        DatasetError, MissingFileError: as :func:`register_from_config`.
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


def write_register(folder: Path, name: str, splits: Iterable[str]) -> None:
    """Write ``register.yaml``, which ``DATASETS.REGISTER`` names.

    Args:
        folder: of the dataset: ``images``, ``panoptic``, each split's ``panoptic_*.json`` and, of things,
            ``instances_*.json``.
        name: of the dataset; a split's own is ``<name>_<split>``.
        splits: such as ``train`` and ``val``.
    """
    entries: list[dict[str, Any]] = [
        {
            "name": f"{name}_{split}",
            "images": "images",
            "panoptic_json": f"panoptic_{split}.json",
            "panoptic_root": "panoptic",
            **({"instances_json": f"instances_{split}.json"} if (folder / f"instances_{split}.json").is_file() else {}),
        }
        for split in splits
    ]
    write_entries(folder, entries)


def write_entries(folder: Path, entries: list[dict[str, Any]]) -> None:
    """Write a ``register.yaml`` of these entries."""
    text = yaml.safe_dump(entries, sort_keys=False, allow_unicode=True)
    (folder / "register.yaml").write_text(text, encoding="utf-8")


def _register_mapping(entry: Any, folder: str, place: str) -> None:
    """Register what a mapping describes, its relative paths starting at ``folder``."""
    allowed = ("name", *_PATHS)
    if not isinstance(entry, dict):
        raise DatasetError(
            f"{place} is {entry!r}; it must be a mapping with {', '.join(allowed)}, or a yaml file's path."
        )
    for key in entry:
        if key not in allowed:
            near = difflib.get_close_matches(str(key), allowed, 1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            raise DatasetError(f"{place} has the key {key!r}{hint}; allowed are {', '.join(allowed)}.")
    for key in _REQUIRED:
        if not entry.get(key):
            raise DatasetError(f"{place} has no {key!r}; each dataset needs {' and '.join(_REQUIRED)}.")
    for key, value in entry.items():
        if value is not None and not isinstance(value, str):
            raise DatasetError(f"{place} has {key}={value!r}; it must be text.")
    paths = {key: os.path.join(folder, os.path.expanduser(entry[key])) for key in _PATHS if entry.get(key)}
    register(
        entry["name"],
        paths["images"],
        panoptic_json=paths.get("panoptic_json"),
        panoptic_root=paths.get("panoptic_root"),
        instances_json=paths.get("instances_json"),
    )
