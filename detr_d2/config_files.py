"""Config files with ``_BASE_``, read as plain data.

Detectron2's own reading runs what Python tags in a file ask for; here such a file is refused.
"""

from __future__ import annotations

import os
from typing import Any

from detr_d2.errors import ConfigError, MissingFileError
from detr_d2.yaml_files import read_yaml

from detectron2.utils.file_io import PathManager

BASE_KEY = "_BASE_"


def read_config(path: str) -> dict[str, Any]:
    """The content of a config file over that of the files it names as ``_BASE_``.

    Args:
        path: of a yaml file. ``_BASE_`` is a path or a list of paths, of which later ones win; they start at the folder
            of the file that names them, at ``~``, at the root, or are addresses.

    Raises:
        MissingFileError: a file isn't there.
        SpecialFileError: a path leads to a folder, a pipe or a device.
        ConfigError: a file is no config, asks for running code, or is a base of itself.
    """
    return _read(path, [], {})


def _read(path: str, chain: list[str], known: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """``chain``: the files that led here; ``known``: the content, bases included, of those read before."""
    real = os.path.realpath(path)
    if real in map(os.path.realpath, chain):
        ring = " -> ".join([*chain, path])
        raise ConfigError(f"{path}: {BASE_KEY} leads in a ring: {ring}. Take it out of one of them.")
    if real not in known:
        content = _mapping(path)
        together: dict[str, Any] = {}
        for base in _bases(content.pop(BASE_KEY, []), path):
            if not os.path.lexists(base):
                raise MissingFileError(f"{path} names {base} as {BASE_KEY}, and {base} isn't there. Correct the path.")
            together = _over(_read(base, [*chain, path], known), together, path)
        known[real] = _over(content, together, path)
    return known[real]


def _mapping(path: str) -> dict[str, Any]:
    """The file's content, which has to be a mapping with texts for keys."""
    content = read_yaml(path)
    if content is None:
        return {}
    if not isinstance(content, dict):
        found = "a list" if isinstance(content, list) else repr(content)[:60]
        raise ConfigError(f"{path} holds {found}, and a config is a mapping, such as 'SOLVER: {{MAX_ITER: 100}}'.")
    _refuse_odd_keys(content, path)
    return content


def _refuse_odd_keys(content: dict[Any, Any], path: str) -> None:
    for key, value in content.items():
        if not isinstance(key, str):
            raise ConfigError(f"{path} has the key {key!r}; keys of configs are words, such as SOLVER.")
        if isinstance(value, dict):
            _refuse_odd_keys(value, path)


def _bases(named: Any, path: str) -> list[str]:
    bases = named if isinstance(named, list) else [named]
    if not all(isinstance(base, str) for base in bases):
        raise ConfigError(f"{path}: {BASE_KEY} is {named!r}; it has to be a file's path, or a list of paths.")
    return [_located(base, os.path.dirname(path)) for base in bases]


def _located(base: str, folder: str) -> str:
    if base.startswith(("http://", "https://")):
        return str(PathManager.get_local_path(base))
    return os.path.join(folder, os.path.expanduser(base))


def _over(upper: dict[str, Any], lower: dict[str, Any], path: str) -> dict[str, Any]:
    """Both, where ``upper`` wins."""
    merged = dict(lower)
    for key, value in upper.items():
        below = lower.get(key)
        if isinstance(value, dict) and key in lower:
            if not isinstance(below, dict):
                raise ConfigError(f"{path}: {key} is a section here, and {below!r} in a file below {BASE_KEY}.")
            value = _over(value, below, path)
        merged[key] = value
    return merged
