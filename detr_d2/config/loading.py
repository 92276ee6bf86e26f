"""A config from defaults, files and ``KEY VALUE`` pairs; and where this project's own files are."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Sequence
from pathlib import Path

from detr_d2.errors import ConfigError, MissingFileError
from detr_d2.plain_yaml import read_config

from detectron2.config import CfgNode, get_cfg

from .keys import add_detr_config, check_values, value_of

_PACKAGE = Path(__file__).resolve().parent.parent


def load_config(config_file: str, overrides: Sequence[str] = ()) -> CfgNode:
    """Detectron2's defaults, this project's, a yaml file, then ``KEY VALUE`` pairs.

    Files are plain data on every Detectron2: Python tags, which its own ``merge_from_file`` would obey, are refused.

    Args:
        config_file: a yaml file, which may name others as ``_BASE_``; empty: defaults only.
        overrides: keys and values in turn, as they come from a command line.

    Raises:
        MissingFileError: there is no such file.
        ConfigError: a file can't be read as a config, a key is unknown (the nearest ones are offered), a value isn't
            allowed, or an option of the command line stands among them.
    """
    misplaced = [str(word) for word in overrides if str(word).startswith("--")]
    if misplaced:
        raise ConfigError(
            f"{' '.join(misplaced)} stands among the KEY VALUE pairs; options come before the first of them, such as "
            f"'{misplaced[0]} MODEL.WEIGHTS model_final.pth …'."
        )
    cfg = get_cfg()
    add_detr_config(cfg)
    if config_file and not os.path.lexists(config_file):
        raise MissingFileError(
            f"There is no config file {config_file!r} (looked in {Path.cwd()}). "
            "Those of this project are in configs/, for example configs/detr_panoptic_R50.yaml."
        )
    if config_file:
        _merge(cfg, config_file, _content(config_file, cfg.VERSION))
    override_(cfg, overrides)
    return cfg


def override_(cfg: CfgNode, overrides: Sequence[str]) -> None:
    """Puts ``KEY VALUE`` pairs into a config, whose values are then looked at.

    Raises:
        ConfigError: as :func:`load_config`.
    """
    _merge(cfg, "The configuration", _with_decimals(overrides, cfg))
    check_values(cfg)


def _content(config_file: str, version: int) -> CfgNode:
    """A config file's content, bases included, which must be of this version."""
    content = read_config(config_file)
    found = content.get("VERSION", version)
    if found != version:
        raise ConfigError(
            f"{config_file} is a v{found} config, and only v{version} is read. Rename its keys to those of Detectron2 "
            f"0.6, and set VERSION: {version}."
        )
    return CfgNode(content)


#: What merging raises: keys that aren't there, values of other types, a text nested too deeply to be a value.
_REFUSED = (KeyError, ValueError, AssertionError, TypeError, AttributeError, RecursionError, MemoryError)


def _merge(cfg: CfgNode, origin: str, content: CfgNode | list[str]) -> None:
    """Puts a file's content or ``KEY VALUE`` pairs into ``cfg``; ``origin`` begins the message if that can't be."""
    try:
        if isinstance(content, CfgNode):
            cfg.merge_from_other_cfg(content)
        else:
            cfg.merge_from_list(content)
    except _REFUSED as error:
        message = str(error.args[0]) if error.args else repr(error)
        reason = _wrong_type(message) or f"{message}.{_nearest_keys(message, cfg)}"
        raise ConfigError(f"{origin} can't be used: {reason}") from error


#: How yacs says that a value has another type than its key.
_MISMATCH = re.compile(
    r"Type mismatch \(<class '(\w+)'> vs\. <class '(\w+)'>\) with values \((.*) vs\. (.*)\) for config key: (\S+)", re.S
)
_KINDS = {"int": "a whole number", "float": "a number", "bool": "True or False", "str": "a text", "list": "a list"}


def _wrong_type(message: str) -> str:
    """What a value has to be, in words; nothing where something else is wrong."""
    found = _MISMATCH.fullmatch(message.strip())
    if found is None or found[1] not in (*_KINDS, "tuple"):
        return ""
    kind, kind_given, present, given, key = found.groups()
    if kind in ("list", "tuple"):
        entry = f"'{given}'" if kind_given == "str" else given
        return f'{key} is {given}, and must be a list. In a shell: {key} "[{entry}]".'
    return f"{key} is {given}, and must be {_KINDS[kind]}, such as {present or repr(present)}."


def _with_decimals(overrides: Sequence[str], cfg: CfgNode) -> list[str]:
    """``KEY VALUE`` pairs in which whole numbers for keys that are fractions have a point, as yaml wants it."""
    found = list(overrides)
    for index in range(1, len(found), 2):
        if isinstance(value_of(cfg, str(found[index - 1])), float) and re.fullmatch(r"[+-]?\d+", str(found[index])):
            found[index] = f"{found[index]}.0"
    return found


def _nearest_keys(message: str, cfg: CfgNode) -> str:
    """The end of an error about an unknown key: what it may have been meant to be."""
    unknown = message.rsplit(" ", 1)[-1]
    keys = _all_keys(cfg)
    near = difflib.get_close_matches(unknown, keys, n=3, cutoff=0.6)
    leaf = unknown.rsplit(".", 1)[-1]
    near += [key for key in keys if key.rsplit(".", 1)[-1] == leaf and key not in near][:3]
    return f" Did you mean {' or '.join(near)}?" if near and unknown not in keys else ""


def _all_keys(cfg: CfgNode, prefix: str = "") -> list[str]:
    keys: list[str] = []
    for key, value in cfg.items():
        keys += _all_keys(value, f"{prefix}{key}.") if isinstance(value, CfgNode) else [prefix + key]
    return keys


def configs_folder() -> Path:
    """The folder of the project's yaml files: inside an installed package, beside the package in a checkout."""
    inside = _PACKAGE / "configs"
    return inside if inside.is_dir() else _PACKAGE.parent / "configs"


def get_config_file(name: str) -> str:
    """The path of one of the project's own configs, e.g. ``get_config_file("detr_panoptic_R50.yaml")``.

    Args:
        name: path below ``configs/``.

    Raises:
        MissingFileError: there is no such config; the message lists those that there are.
    """
    folder = configs_folder()
    path = folder / name
    if path.is_file():
        return str(path)
    known = sorted(found.relative_to(folder).as_posix() for found in folder.rglob("*.yaml"))
    raise MissingFileError(f"No config {name!r} in {folder}. There are: {', '.join(known) or 'none'}.")
