"""What is wrong with the true panoptic maps of a registered dataset."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from detr_d2.evaluation.panoptic_quality import VOID


def find_faults(record: Mapping[str, Any], ids: np.ndarray) -> list[str]:
    """How a picture's PNG and its entry in the panoptic JSON contradict each other.

    Args:
        record: the dataset's dict of the picture.
        ids: (H, W), the PNG's segment ids.

    Returns:
        One sentence a fault, each with file, image id and segment id; empty if all is well.
    """
    place = f"{record['pan_seg_file_name']} (image id {record['image_id']})"
    faults = []
    if ids.shape != (record["height"], record["width"]):
        said = f"{record['height']} x {record['width']}"
        faults.append(f"{place}: is {ids.shape[0]} x {ids.shape[1]} (height x width), but the JSON says {said}")
    listed = Counter(segment["id"] for segment in record["segments_info"])
    painted = set(np.unique(ids).tolist()) - {VOID}
    if VOID in listed:
        faults.append(f"{place}: the JSON has a segment with id 0, which means void")
    faults += [f"{place}: segment {i} is {n} times in the JSON" for i, n in sorted(listed.items()) if n > 1]
    faults += [f"{place}: segment {i} is in the PNG but not in the JSON" for i in sorted(painted - listed.keys())]
    faults += [
        f"{place}: segment {i} is in the JSON but not in the PNG" for i in sorted(listed.keys() - painted - {VOID})
    ]
    return faults


def count_stale_areas(record: Mapping[str, Any], ids: np.ndarray) -> int:
    """How many segments have another area in the JSON than in the PNG."""
    found, pixels = np.unique(ids, return_counts=True)
    areas = dict(zip(found.tolist(), pixels.tolist()))
    return sum(1 for s in record["segments_info"] if "area" in s and s["area"] != areas.get(s["id"], 0))
