"""Whether an evaluation's files hold what an evaluation writes; they may be cut off, or another program's."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from detr_d2.evaluation.boundaries import INSIDE
from detr_d2.evaluation.overlaps import VOID
from detr_d2.labels.json_reading import json_type
from detr_d2.labels.panoptic_ids import MAX_SEGMENT_ID

#: Sides of images and sums of pixels fit into 32 bits and 63.
_MOST = 2**31 - 1
#: Ids of pixels that are of no segment, and of no segment's boundary.
_NO_SEGMENT = {VOID, INSIDE}


def check_record(content: Any, num_classes: int | None = None) -> None:
    """Raises a ValueError that says what is wrong with a line of ``records.jsonl``.

    Args:
        content: the line's JSON.
        num_classes: classes are below it; None where it isn't known.
    """
    _expect(isinstance(content, dict), f"the object, as it is {json_type(content)},")
    _expect(
        _is_whole(content.get("image_id"), -math.inf, math.inf) or isinstance(content.get("image_id"), str), "image_id"
    )
    for key in ("file_name", "pan_seg_file_name"):
        _expect(isinstance(content.get(key), str), key)
    for key in ("height", "width"):
        _expect(_is_whole(content.get(key), 1, _MOST), key)
    most = _MOST if num_classes is None else num_classes - 1
    true = _segments(content, "true", most, lambda s: _is_whole(s.get("iscrowd"), 0, 1))
    predicted = _segments(content, "predicted", most, lambda s: s.get("score") is None or is_number(s["score"], 0, 1))
    areas = _overlaps(content, "overlaps", set(true), set(predicted))
    _expect(areas == (true, predicted), "overlaps, which don't add up to the segments' areas,")
    if content.get("boundary_overlaps") is not None:
        areas = _overlaps(content, "boundary_overlaps", set(true), set(predicted))
        _expect(
            [set(part) for part in areas] == [set(true), set(predicted)],
            "boundary_overlaps, which are of other segments,",
        )


def check_run(content: Any) -> None:
    """Raises a ValueError that says what is wrong with a ``run.json``: it lacks a dataset, or sound categories."""
    _expect(isinstance(content, dict), f"the object, as it is {json_type(content)},")
    _expect(isinstance(content.get("dataset"), str), "dataset")
    for key in ("weights", "config", "finished", "commit"):
        _expect(content.get(key) is None or isinstance(content[key], str), key)
    categories = content.get("categories")
    _expect(isinstance(categories, list) and bool(categories), "the list of categories")
    for number, entry in enumerate(categories):
        is_sound = (
            isinstance(entry, dict)
            and _is_whole(entry.get("id"), -math.inf, math.inf)
            and isinstance(entry.get("name"), str)
            and isinstance(entry.get("is_thing"), bool)
            and _is_color(entry.get("color"))
        )
        _expect(is_sound, f"categories[{number}]: its id, name, is_thing or color")


def is_number(value: Any, least: float, most: float) -> bool:
    """A number within bounds, and no truth value."""
    return isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most


def _segments(
    content: dict[str, Any], key: str, most_class: int, is_sound: Callable[[dict[str, Any]], bool]
) -> dict[int, int]:
    """Area by id of the segments under ``key``."""
    segments = content.get(key)
    _expect(isinstance(segments, list), key)
    areas: dict[int, int] = {}
    for number, segment in enumerate(segments if isinstance(segments, list) else ()):
        place = f"{key}[{number}]"
        _expect(isinstance(segment, dict), place)
        _expect(_is_whole(segment.get("id"), 1, MAX_SEGMENT_ID) and segment["id"] not in areas, f"{place}.id")
        _expect(_is_whole(segment.get("class"), 0, most_class), f"{place}.class")
        _expect(_is_whole(segment.get("area"), 1, math.inf), f"{place}.area")
        _expect(is_sound(segment), f"{place}: iscrowd or score")
        areas[segment["id"]] = segment["area"]
    return areas


def _overlaps(
    content: dict[str, Any], key: str, true: set[int], predicted: set[int]
) -> tuple[dict[int, int], dict[int, int]]:
    """What the pairs under ``key`` add up to for each true and each predicted segment."""
    entries = content.get(key)
    _expect(isinstance(entries, list), key)
    sums: tuple[dict[int, int], dict[int, int]] = {}, {}
    known, seen = (true | _NO_SEGMENT, predicted | _NO_SEGMENT), set()
    for number, entry in enumerate(entries if isinstance(entries, list) else ()):
        is_sound = isinstance(entry, list) and len(entry) == 3 and all(_is_whole(part, 0, _MOST) for part in entry)
        _expect(is_sound and entry[2] > 0 and (entry[0], entry[1]) not in seen, f"{key}[{number}]")
        _expect(
            entry[0] in known[0] and entry[1] in known[1],
            f"{key}[{number}], which names unknown segments,",
        )
        seen.add((entry[0], entry[1]))
        for part, segment_id in zip(sums, entry):
            if segment_id not in _NO_SEGMENT:
                part[segment_id] = part.get(segment_id, 0) + entry[2]
    return sums


def _is_whole(value: Any, least: float, most: float) -> bool:
    return isinstance(value, int) and is_number(value, least, most)


def _is_color(value: Any) -> bool:
    return isinstance(value, Sequence) and len(value) == 3 and all(_is_whole(part, 0, 255) for part in value)


def _expect(holds: bool, what: str) -> None:
    if not holds:
        raise ValueError(f"{what} is missing or wrong")
