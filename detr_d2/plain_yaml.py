"""Yaml files, and configs with ``_BASE_``, read as plain data: nothing in them is run.

What is wrong is named with its line. Detectron2's own reading runs what Python tags in a file ask for; here such a file
is refused.
"""

from __future__ import annotations

import os
from typing import Any

import yaml

from detr_d2.errors import ConfigError, MissingFileError
from detr_d2.files import open_regular, read_at_most

BASE_KEY = "_BASE_"

_MOST_BYTES = 4_000_000
_MOST_VALUES = 100_000
_MOST_LEVELS = 50
_PLAIN = (dict, list, str, bool, int, float)
_UNLIKE_YAML = "it is no yaml that a person would write"


def read_yaml(path: str | os.PathLike[str]) -> Any:
    """What a yaml file holds: dicts, lists, texts, numbers, True, False and None.

    Raises:
        MissingFileError: it isn't there.
        SpecialFileError: it is no regular file.
        ConfigError: it is no yaml, has a tag that stands for something else than data, or is far too large.
    """
    path = os.fspath(path)
    try:
        with open_regular(path) as file:
            content = read_at_most(file, _MOST_BYTES + 1)
            size = os.fstat(file.fileno()).st_size
    except FileNotFoundError as error:
        raise MissingFileError(f"{path} isn't there. Write the path of a yaml file.") from error
    if len(content) > _MOST_BYTES:
        raise ConfigError(f"{path} has {size / 1e6:.1f} MB, and {_UNLIKE_YAML}. Name a yaml file.")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} isn't text in UTF-8 (byte {error.start}). Name a yaml file.") from error
    return parse_yaml(text, path)


def parse_yaml(text: str, name: str) -> Any:
    """As :func:`read_yaml`, of a text; ``name`` says in messages whose it is."""
    try:
        content = yaml.safe_load(text)
    except yaml.constructor.ConstructorError as error:
        raise ConfigError(f"{_where(error, name)}: {_tag_message(str(error.problem))}") from error
    except yaml.MarkedYAMLError as error:
        reason = ", ".join(filter(None, (error.context, error.problem)))
        raise ConfigError(f"{_where(error, name)} is no yaml that can be read: {reason}. Correct the line.") from error
    except (yaml.YAMLError, ValueError) as error:  # signs that no text has; a date with a month 99
        raise ConfigError(f"{name} is no yaml that can be read: {' '.join(str(error).split())}.") from error
    except RecursionError as error:
        raise ConfigError(_too_deep(name)) from error
    _check(content, name, [0], 0)
    return content


def _where(error: yaml.MarkedYAMLError, name: str) -> str:
    mark = error.problem_mark or error.context_mark
    return name if mark is None else f"{name}, line {mark.line + 1}"


def _tag_message(problem: str) -> str:
    """Why a value can't be built: a tag that isn't one of yaml's own, or a key that can't be one."""
    _, found, tag = problem.partition("could not determine a constructor for the tag ")
    if not found:
        return f"{problem}. Correct the line."
    shown = tag.strip("'").replace("tag:yaml.org,2002:", "!!")
    return (
        f"the tag {shown} asks for more than plain data, such as for running code, and is refused. Write the value "
        "itself, [1, 2] for a tuple."
    )


def _check(value: Any, name: str, count: list[int], level: int) -> None:
    """Refuses what is no plain data, and what aliases make endless: a value within itself, or doubled again and again.

    ``count`` holds the number of values so far.
    """
    count[0] += 1
    if level > _MOST_LEVELS:
        raise ConfigError(_too_deep(name))
    if count[0] > _MOST_VALUES:
        raise ConfigError(f"{name} stands for more than {_MOST_VALUES} values, and {_UNLIKE_YAML}. Take out aliases.")
    if value is not None and not isinstance(value, _PLAIN):
        raise ConfigError(f"{name} has {value} as a {type(value).__name__}; put it in quotes, as text.")
    inner = [*value, *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else ()
    for entry in inner:
        _check(entry, name, count, level + 1)


def _too_deep(name: str) -> str:
    return f"{name} is nested more than {_MOST_LEVELS} levels deep, and {_UNLIKE_YAML}. Make it flatter."


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
        from detectron2.utils.file_io import PathManager  # importing it takes longer than most commands

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
