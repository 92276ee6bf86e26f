"""What an evaluation keeps of each image: segments and how they overlap, and a small map of the prediction.

All numbers come from these records, so that they can be looked at again, split up and compared without the model:
``detr-d2 report`` and ``detr-d2 compare`` do.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
from PIL import Image

from detr_d2.evaluation.matching import ComparedImage
from detr_d2.evaluation.overlaps import VOID, Overlaps

#: The files of an evaluation's folder.
RECORDS_FILE, PREVIEWS_FILE, RUN_FILE = "records.jsonl", "previews.zip", "run.json"
#: The long side of a preview, at most.
PREVIEW_SIDE = 320


@dataclass(frozen=True)
class EvaluationRecord:
    """One image's true and predicted segments; classes are contiguous, areas and overlaps in pixels.

    Args:
        image_id: of the dataset.
        file_name, pan_seg_file_name: paths of the image and of its true map.
        height, width: of the image.
        true: the true segments: "id", "class", "area" (of the map), "iscrowd".
        predicted: the predicted ones: "id", "class", "area", "score" (None: it has none).
        overlaps: true id, predicted id and pixels of each pair that meets; 0 is void on either side.
        boundary_overlaps: the same of the boundaries, see :mod:`detr_d2.evaluation.boundaries`; None: not counted.
    """

    image_id: Any
    file_name: str
    height: int
    width: int
    pan_seg_file_name: str
    true: list[dict[str, Any]]
    predicted: list[dict[str, Any]]
    overlaps: list[list[int]]
    boundary_overlaps: list[list[int]] | None = None

    def as_line(self) -> bytes:
        """A line of ``records.jsonl``."""
        content = {field.name: getattr(self, field.name) for field in fields(self)}
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode() + b"\n"

    @cached_property
    def compared(self) -> ComparedImage:
        """The segments and their overlaps, to be asked."""
        true = [{"id": s["id"], "category_id": s["class"], "iscrowd": s["iscrowd"]} for s in self.true]
        predicted = [{"id": s["id"], "category_id": s["class"]} for s in self.predicted]
        return ComparedImage(Overlaps.of_pairs(self.overlaps), true, predicted)

    @cached_property
    def boundary_pixels(self) -> Overlaps | None:
        """The boundaries' overlaps, to be asked."""
        return None if self.boundary_overlaps is None else Overlaps.of_pairs(self.boundary_overlaps)

    @property
    def scores(self) -> dict[int, float | None]:
        """The score of each predicted segment, where it has one."""
        return {s["id"]: s.get("score") for s in self.predicted}


def make_record(
    dataset_dict: Mapping[str, Any],
    overlaps: Overlaps,
    predicted_segments: Sequence[Mapping[str, Any]],
    boundaries: Overlaps | None = None,
) -> EvaluationRecord:
    """The record of an image that has been compared.

    Args:
        dataset_dict: the dataset's dict, with the true ``segments_info``.
        overlaps: of the true and the predicted map.
        predicted_segments: each with "id", "category_id" (contiguous) and perhaps "score".
        boundaries: overlaps of the boundaries.
    """
    true = [
        {
            **{"id": s["id"], "class": s["category_id"], "area": overlaps.true_areas[s["id"]]},
            "iscrowd": int(s.get("iscrowd", 0)),
        }
        for s in dataset_dict["segments_info"]
    ]
    predicted = [
        {
            **{"id": int(s["id"]), "class": int(s["category_id"]), "area": overlaps.predicted_areas[s["id"]]},
            "score": finite(s.get("score")),
        }
        for s in predicted_segments
    ]
    return EvaluationRecord(
        dataset_dict["image_id"],
        str(dataset_dict["file_name"]),
        dataset_dict["height"],
        dataset_dict["width"],
        str(dataset_dict["pan_seg_file_name"]),
        true,
        predicted,
        overlaps.as_entries(),
        None if boundaries is None else boundaries.as_entries(),
    )


def finite(score: Any) -> float | None:
    """A score for JSON, which has no NaN."""
    return float(score) if score is not None and math.isfinite(score) else None


def encode_preview(predicted_map: np.ndarray, predicted_segments: Sequence[Mapping[str, Any]]) -> bytes:
    """A small label map of a prediction as a grey PNG, of 8 or 16 bits: 1 + the place of the segment, 0 is void.

    Args:
        predicted_map: (H, W) ids.
        predicted_segments: in the order of the record's ``predicted``.
    """
    ids = np.array([VOID, *(s["id"] for s in predicted_segments)], dtype=np.int64)
    step = max(1, -(-max(predicted_map.shape) // PREVIEW_SIDE))
    order = np.argsort(ids)
    labels = order[np.searchsorted(ids, predicted_map[::step, ::step], sorter=order)]
    kind = np.uint8 if len(ids) <= 2**8 else np.uint16
    buffer = io.BytesIO()
    Image.fromarray(labels.astype(kind)).save(buffer, "PNG")
    return buffer.getvalue()
