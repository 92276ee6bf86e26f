"""Progress bars of long work."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TypeVar

Item = TypeVar("Item")


def progress(items: Iterable[Item], total: int, unit: str, title: str | None = None) -> Iterable[Item]:
    """The items, with a bar on stderr where that is a terminal; elsewhere tqdm isn't even imported.

    Args:
        items: any.
        total: how many they are.
        unit: what one is called.
        title: of the bar.
    """
    if not sys.stderr.isatty():
        return items
    from tqdm import tqdm

    return tqdm(items, desc=title, total=total, unit=unit)
