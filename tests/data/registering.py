"""How a yard dataset is registered, and its files changed."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

free_numbers = itertools.count()


def arguments(folder: Path) -> dict[str, Any]:
    """What ``register`` needs to know of a yard's training part."""
    return {
        "images": folder / "images",
        "panoptic_json": folder / "panoptic_train.json",
        "panoptic_root": folder / "panoptic",
        "instances_json": folder / "instances_train.json",
    }


def change(path: Path, edit: Callable[[Any], Any]) -> None:
    """Rewrite a JSON file with its content edited in place."""
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


def _set(path: str, value: Any) -> Callable[[Any], None]:
    """An edit that puts ``value`` at a dotted path."""

    def edit(content: Any) -> None:
        *parents, last = [int(part) if part.isdigit() else part for part in path.split(".")]
        for part in parents:
            content = content[part]
        content[last] = value

    return edit
