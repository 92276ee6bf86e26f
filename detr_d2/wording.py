"""Numbers in sentences."""

from __future__ import annotations


def counted(number: int, one: str, many: str | None = None) -> str:
    """A number with what it counts: ``1 image``, ``2,000 images``; ``many`` where the plural isn't ``one`` and an s."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"
