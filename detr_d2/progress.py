"""Progress bars of long work."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TypeVar

Item = TypeVar("Item")


def progress(items: Iterable[Item], total: int, unit: str) -> Iterable[Item]:
    """The items, with a bar on stderr where that is a terminal; elsewhere tqdm isn't even imported.

    Args:
        items: any.
        total: how many they are.
        unit: what one is called.
    """
    if not sys.stderr.isatty():
        return items
    from tqdm import tqdm

    return tqdm(items, total=total, unit=unit)
