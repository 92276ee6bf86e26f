"""JSON files written by others: read, and each field checked, with file and entry named where it is wrong."""

from __future__ import annotations

import io
import json
import os
from typing import IO, Any

from detr_d2.errors import DatasetError, MissingFileError
from detr_d2.files import open_regular


def read_json(path: str, advice: str = "") -> dict[str, Any]:
    """The content of a COCO JSON file.

    Args:
        path: of the file.
        advice: what to do where it is missing.

    Raises:
        MissingFileError: it isn't there.
        DatasetError: it can't be read, isn't JSON, or isn't an object at its top.
    """
    try:
        content = load_json(path)
    except FileNotFoundError as error:
        raise MissingFileError(f"{os.path.abspath(path)} isn't there. {advice}".rstrip()) from error
    except OSError as error:
        raise DatasetError(f"{path} can't be read: {str(error.strerror or error).rstrip('.')}.") from error
    except ValueError as error:
        raise DatasetError(f"{path} isn't JSON: {error}. Export it again, or restore it.") from error
    if not isinstance(content, dict):
        raise DatasetError(
            f"{path} has {json_type(content)} at its top; COCO files have an object "
            "with 'images', 'annotations' and 'categories'."
        )
    return content


def load_json(path: str | os.PathLike[str]) -> Any:
    """What a JSON file holds; a byte-order mark before it is no fault, as Windows' programs write one.

    Raises:
        SpecialFileError: it is no regular file.
        OSError: it isn't there, or can't be read.
        ValueError: it isn't JSON in UTF-8, or is nested too deeply.
    """
    with open_regular(path) as file:
        return parse_json(file)


def parse_json(file: IO[bytes]) -> Any:
    """What an open JSON file holds; raises a ValueError as :func:`load_json`."""
    try:
        return json.load(io.TextIOWrapper(file, encoding="utf-8-sig"))
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def json_type(value: Any) -> str:
    """What JSON calls the type of a value, with its article."""
    names = {dict: "an object", list: "a list", str: "a string", bool: "a truth value", type(None): "null"}
    return names.get(type(value), "a number")
