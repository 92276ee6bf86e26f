"""What a dataset has of each class, counted from its JSON."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from detr_d2.data import Category


def segments_of(record: dict[str, Any]) -> list[dict[str, Any]]:
    """A dataset dict's segments, or its boxes where there are no others."""
    found: list[dict[str, Any]] = record["segments_info"] if "segments_info" in record else record["annotations"]
    return found


def class_rows(records: Iterable[dict[str, Any]], categories: Sequence[Category]) -> list[dict[str, Any]]:
    """For each class its name, colour and kind, the images and segments that have it, its crowds and its pixels.

    Args:
        records: dataset dicts.
        categories: by contiguous id.

    Returns:
        One dict a class; ``pixels`` is None where the JSON has no areas.
    """
    rows = [
        {
            "name": c.name,
            "color": c.color,
            "is_thing": c.is_thing,
            "images": 0,
            "segments": 0,
            "crowds": 0,
            "pixels": 0,
        }
        for c in categories
    ]
    has_areas = True
    for record in records:
        segments = segments_of(record)
        for number in {segment["category_id"] for segment in segments}:
            rows[number]["images"] += 1  # type: ignore[operator]
        for segment in segments:
            row: dict[str, Any] = rows[segment["category_id"]]
            row["crowds" if segment.get("iscrowd", 0) else "segments"] += 1
            has_areas = has_areas and "area" in segment
            row["pixels"] += int(segment.get("area", 0))
    if not has_areas:
        for row in rows:
            row["pixels"] = None
    return rows
