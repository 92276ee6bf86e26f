"""Predictions as COCO panoptic files: one PNG for each image and one JSON, as ``detr-d2 pq`` and others read them."""

from __future__ import annotations

import json
import os
import shutil
import weakref
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from detr_d2.data.categories import Category
from detr_d2.data.segments import find_segments, number_segments
from detr_d2.evaluation.record_writer import LineSpool
from detr_d2.evaluation.records import finite
from detr_d2.files import write_whole

from detectron2.utils import comm

#: The JSON file, and without .json the folder of its PNGs.
PREDICTIONS_FILE = "panoptic_predictions.json"


class PredictionWriter:
    """Takes predictions one by one, in each process its own; the files are there when all are written.

    Args:
        folder: where to; its folder ``panoptic_predictions`` is replaced.
        categories: of the dataset, by contiguous class.
        records: all of the dataset's dicts.
    """

    def __init__(self, folder: str, categories: Sequence[Category], records: Sequence[Mapping[str, Any]]) -> None:
        self._path = Path(folder) / PREDICTIONS_FILE
        self._partial = self._path.with_name(f".{self._path.stem}.partial")
        self._categories, self._entries = categories, LineSpool()
        self._names = _png_names(records)
        if comm.is_main_process():
            shutil.rmtree(self._partial, ignore_errors=True)
            # An evaluation that fails, or is stopped, leaves no half of its predictions.
            self._cleaning = weakref.finalize(self, shutil.rmtree, self._partial, ignore_errors=True)
        comm.synchronize()
        self._partial.mkdir(parents=True, exist_ok=True)

    def add(self, record: Mapping[str, Any], ids: np.ndarray, segments: Sequence[Mapping[str, Any]]) -> None:
        """Write the PNG of an image's predicted map (H, W), whose segments have contiguous "category_id"."""
        name = self._names[record["image_id"]]
        colors = np.ascontiguousarray(ids.astype("<u4")[:, :, None].view(np.uint8)[:, :, :3])
        image_file = Image.fromarray(colors)
        write_whole(self._partial / name, lambda file: image_file.save(file, "PNG", compress_level=3))
        numbers = number_segments(ids, [s["id"] for s in segments], name)
        found = find_segments(numbers, np.ones(len(segments), dtype=bool), mask_stride=None)
        left, top, right, bottom = found.boxes.T if len(segments) else np.zeros((4, 0))
        boxes = np.stack([left, top, right - left, bottom - top], axis=1).astype(int).tolist()
        entries = [
            {
                **{"id": int(s["id"]), "category_id": self._categories[s["category_id"]].id, "iscrowd": 0},
                **{"area": int(area), "bbox": box, "score": finite(s.get("score"))},
            }
            for s, area, box in zip(segments, found.areas, boxes, strict=True)
        ]
        image = {"id": record["image_id"], "file_name": os.path.basename(record["file_name"])}
        image |= {"height": record["height"], "width": record["width"]}
        annotation = {"image_id": record["image_id"], "file_name": name, "segments_info": entries}
        self._entries.add(json.dumps([image, annotation], allow_nan=False).encode() + b"\n")

    def write(self) -> None:
        """Join what all processes have; all have to call it."""
        comm.synchronize()
        lines = self._entries.gathered()
        if not comm.is_main_process():
            list(lines)
            return
        entries = {annotation["image_id"]: (image, annotation) for image, annotation in map(json.loads, lines)}
        content = {
            "images": [image for image, _ in entries.values()],
            "annotations": [annotation for _, annotation in entries.values()],
            "categories": [
                {"id": c.id, "name": c.name, "isthing": int(c.is_thing), "color": list(c.color)}
                for c in self._categories
            ],
        }
        self._path.unlink(missing_ok=True)
        target = self._path.with_suffix("")
        shutil.rmtree(target, ignore_errors=True)
        os.replace(self._partial, target)
        self._cleaning.detach()
        write_whole(self._path, lambda file: _dump(content, file))


def _dump(content: Mapping[str, Any], file: BinaryIO) -> None:
    file.write(json.dumps(content, allow_nan=False, separators=(",", ":")).encode())


def _png_names(records: Sequence[Mapping[str, Any]]) -> dict[Any, str]:
    """By image id the name of the ground truth's PNG, numbered where several have the same."""
    bases = {p["image_id"]: Path(p["pan_seg_file_name"]).stem for p in records}
    times = Counter(bases.values())
    return {
        image_id: f"{base}.png" if times[base] == 1 else f"{row:06d}_{base}.png"
        for row, (image_id, base) in enumerate(bases.items())
    }
