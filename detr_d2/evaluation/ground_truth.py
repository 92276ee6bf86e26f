"""What is wrong with the true panoptic maps of a registered dataset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from detr_d2.evaluation.faults import map_faults
from detr_d2.evaluation.overlaps import segment_areas


def find_faults(record: Mapping[str, Any], ids: np.ndarray) -> list[str]:
    """How a picture's PNG and its entry in the panoptic JSON contradict each other.

    Args:
        record: the dataset's dict of the picture.
        ids: (H, W), the PNG's segment ids.

    Returns:
        One sentence a fault, each with file, image id and segment id; empty if all is well.
    """
    place = f"{record['pan_seg_file_name']} (image id {record['image_id']})"
    listed = [segment["id"] for segment in record["segments_info"]]
    faults = map_faults(place, listed, segment_areas(ids), ids.shape, (record["height"], record["width"]))
    return [f"{fault.picture}: {fault.fault}" for fault in faults]


def count_stale_areas(segments: Sequence[Mapping[str, Any]], areas: Mapping[int, int]) -> int:
    """How many segments have another area in the JSON than in the PNG, whose ids and pixels are ``areas``."""
    return sum(1 for s in segments if "area" in s and s["area"] != areas.get(s["id"], 0))
