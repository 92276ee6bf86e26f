"""What is wrong with the panoptic maps of a registered dataset's ground truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from detr_d2.evaluation.faults import map_faults


def find_faults(record: Mapping[str, Any], areas: Mapping[int, int], shape: tuple[int, int]) -> list[str]:
    """How an image's PNG and its entry in the panoptic JSON contradict each other.

    Args:
        record: the dataset's dict of the image.
        areas: the PNG's segment ids, and the pixels of each.
        shape: height and width of the PNG.

    Returns:
        One sentence a fault, each with file, image id and segment id; empty if all is well.
    """
    place = f"{record['pan_seg_file_name']} (image id {record['image_id']})"
    listed = [segment["id"] for segment in record["segments_info"]]
    faults = map_faults(place, listed, areas, shape, (record["height"], record["width"]))
    return [f"{fault.where}: {fault.fault}" for fault in faults]


def count_stale_areas(segments: Sequence[Mapping[str, Any]], areas: Mapping[int, int]) -> int:
    """How many segments have another area in the JSON than in the PNG, whose ids and pixels are ``areas``."""
    return sum(1 for s in segments if "area" in s and s["area"] != areas.get(s["id"], 0))
