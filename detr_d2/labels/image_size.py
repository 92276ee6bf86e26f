"""The size that labels say an image has: one bound for all who read it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .values import shown

#: Pixels beyond which Pillow refuses to open an image.
MOST_PIXELS = 178_956_970


def size_problem(entry: Mapping[str, Any]) -> tuple[str, str] | None:
    """What is wrong with ``width`` and ``height`` of an image's entry.

    Args:
        entry: as a JSON has it; keys that are absent aren't there.

    Returns:
        The code of the fault and a sentence's end, such as "has no width."; None for a size that an image can have.
    """
    for key in ("width", "height"):
        value = entry.get(key)
        if key not in entry:
            return "json-key", f"has no {key}."
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            return "json-type", f"has {key}={shown(value)}; it must be a whole number of pixels."
    if entry["width"] * entry["height"] > MOST_PIXELS:
        return "image-large", f"is said to be {shown(entry['width'])}x{shown(entry['height'])} pixels; too many."
    return None
