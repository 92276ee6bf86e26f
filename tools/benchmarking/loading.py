"""Loading, in the straightforward way: a pass over the image for each segment, and a transform for each mask."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from detr_d2.data.segments import Segments, find_segments, number_segments, read_panoptic_png

from detectron2.data import transforms as T
from detectron2.data.detection_utils import read_image

from .panoptic_pairs import make_pairs, save_png

Record = dict[str, Any]


class Targets(NamedTuple):
    """Masks (N, H, W) bool, boxes (N, 4) float32 and areas (N,) of the segments that have a pixel."""

    masks: np.ndarray
    boxes: np.ndarray
    areas: np.ndarray


def write_records(folder: Path, count: int, height: int, width: int, segments: int) -> list[Record]:
    """Made images with panoptic PNGs, as dataset dicts."""
    rng = np.random.default_rng(0)
    records = []
    for number, pair in enumerate(make_pairs(count, height, width, segments)):
        name = folder / f"{height}x{width}_{segments}_{number}"
        save_png(pair.true_map, name.with_suffix(".png"))
        colors = (pair.true_map[:, :, None] // [1, 256, 65536] % 256 * 0.7).astype(np.int16)
        noisy = colors + rng.integers(-12, 13, colors.shape)
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(name.with_suffix(".jpg"), quality=90)
        infos = [{**segment, "isthing": segment["category_id"] < 12} for segment in pair.true_segments]
        files = {"file_name": str(name.with_suffix(".jpg")), "pan_seg_file_name": str(name.with_suffix(".png"))}
        sizes = {"image_id": number, "height": height, "width": width}
        records.append({**files, **sizes, "segments_info": infos})
    return records


def real_records(folder: Path) -> list[Record]:
    """A folder with ``images/``, ``panoptic/`` and ``panoptic.json``, as dataset dicts; category ids are the JSON's."""
    content = json.loads((folder / "panoptic.json").read_text(encoding="utf-8"))
    images = {entry["id"]: entry for entry in content["images"]}
    things = {entry["id"] for entry in content["categories"] if entry["isthing"]}
    records = []
    for entry in content["annotations"]:
        image = images[entry["image_id"]]
        infos = [{**segment, "isthing": segment["category_id"] in things} for segment in entry["segments_info"]]
        files = {
            "file_name": str(folder / "images" / image["file_name"]),
            "pan_seg_file_name": str(folder / "panoptic" / entry["file_name"]),
        }
        sizes = {"image_id": image["id"], "height": image["height"], "width": image["width"]}
        records.append({**files, **sizes, "segments_info": infos})
    return records


def straightforward(record: Record) -> Targets:
    """A comparison of the whole map with each segment's id."""
    return of_ids(read_ids(record), record)


def read_ids(record: Record) -> np.ndarray:
    """The ids (H, W), computed from the colours."""
    colors = np.asarray(Image.open(record["pan_seg_file_name"]), dtype=np.uint32)
    return colors[:, :, 0] + 256 * colors[:, :, 1] + 256 * 256 * colors[:, :, 2]


def of_ids(ids: np.ndarray, record: Record) -> Targets:
    """The targets of a map that is in memory."""
    return _targets([ids == segment["id"] for segment in record["segments_info"] if not segment["iscrowd"]])


def all_at_once(record: Record) -> Targets:
    """The same with one comparison for all segments: (N, H, W) at once, as DETR's own loader has it."""
    ids = read_ids(record)
    wanted = np.array([segment["id"] for segment in record["segments_info"] if not segment["iscrowd"]])
    masks = ids[None] == wanted[:, None, None]
    masks = masks[masks.any(axis=(1, 2))]
    across, down = np.arange(ids.shape[1])[None, None], np.arange(ids.shape[0])[None, :, None]
    beyond = max(ids.shape)
    edges = [np.where(masks, axis, beyond).min(axis=(1, 2)) for axis in (across, down)]
    edges += [(masks * axis).max(axis=(1, 2)) + 1 for axis in (across, down)]
    return Targets(masks, np.stack(edges, 1).astype(np.float32), masks.sum(axis=(1, 2)))


def ours(record: Record, stride: int = 1) -> Segments:
    """This project's."""
    return numbered(read_panoptic_png(record["pan_seg_file_name"]), record, stride)


def numbered(ids: np.ndarray, record: Record, stride: int = 1) -> Segments:
    """This project's, of a map that is in memory."""
    infos = record["segments_info"]
    wanted = np.array([not segment["iscrowd"] for segment in infos])
    return find_segments(number_segments(ids, [segment["id"] for segment in infos], "an image"), wanted, stride)


def straightforward_input(record: Record, transforms: T.TransformList) -> tuple[np.ndarray, Targets]:
    """Image and targets as the model is given them, each mask transformed by itself."""
    image = transforms.apply_image(read_image(record["file_name"], format="RGB"))
    ids = read_ids(record)
    moved = [
        transforms.apply_segmentation((ids == segment["id"]).astype(np.uint8)).astype(bool)
        for segment in record["segments_info"]
        if not segment["iscrowd"]
    ]
    return np.ascontiguousarray(image.transpose(2, 0, 1)), _targets(moved)


def _targets(masks: list[np.ndarray]) -> Targets:
    kept, boxes = [], []
    for mask in masks:
        rows, columns = np.nonzero(mask)
        if len(rows):
            kept.append(mask)
            boxes.append([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
    together = np.stack(kept)
    return Targets(together, np.array(boxes, np.float32), together.sum(axis=(1, 2)))
