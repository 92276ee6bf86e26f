"""Numbers and lists in sentences."""

from __future__ import annotations

from collections.abc import Sequence


def counted(number: int, one: str, many: str | None = None) -> str:
    """A number with what it counts: ``1 image``, ``2,000 images``; ``many`` where the plural isn't ``one`` and an s."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def some(names: Sequence[str], most: int) -> str:
    """The first names of a list, and how many more it has: ``cone, pipe and 3 more``."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")
