"""Yaml files of others, read as plain data: nothing in them is run, and what is wrong is named with its line."""

from __future__ import annotations

import os
from typing import Any

import yaml

from detr_d2.errors import ConfigError, MissingFileError
from detr_d2.files import open_regular

_MOST_BYTES = 4_000_000
_MOST_VALUES = 100_000
_MOST_LEVELS = 50
_PLAIN = (dict, list, str, bool, int, float)
_UNLIKE_YAML = "it is no yaml that a person would write"


def read_yaml(path: str | os.PathLike[str]) -> Any:
    """What a yaml file holds: dicts, lists, texts, numbers, truth values and None.

    Raises:
        MissingFileError: it isn't there.
        SpecialFileError: it is no regular file.
        ConfigError: it is no yaml, has a tag that stands for something else than data, or is far too large.
    """
    path = os.fspath(path)
    try:
        with open_regular(path) as file:
            content = file.read(_MOST_BYTES + 1)
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
        raise ConfigError(f"{_place(error, name)}: {_tag_message(str(error.problem))}") from error
    except yaml.MarkedYAMLError as error:
        reason = ", ".join(filter(None, (error.context, error.problem)))
        raise ConfigError(f"{_place(error, name)} is no yaml that can be read: {reason}. Correct the line.") from error
    except (yaml.YAMLError, ValueError) as error:  # signs that no text has; a date with a month 99
        raise ConfigError(f"{name} is no yaml that can be read: {' '.join(str(error).split())}.") from error
    except RecursionError as error:
        raise ConfigError(_too_deep(name)) from error
    _check(content, name, [0], 0)
    return content


def _place(error: yaml.MarkedYAMLError, name: str) -> str:
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
