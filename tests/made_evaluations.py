"""A small panoptic dataset, predictions that are some pixels off, and evaluations of them."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from detr_d2.config import add_detr_config
from detr_d2.data import register

from detectron2.config import CfgNode, get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import Boxes, Instances

HEIGHT, WIDTH = 40, 60
#: Ids neither start at 0 nor stand in order, and stuff stands between things.
CATEGORIES = [
    {"id": 7, "name": "cone", "isthing": 1},
    {"id": 3, "name": "sky", "isthing": 0},
    {"id": 5, "name": "drum", "isthing": 1},
    {"id": 9, "name": "ground", "isthing": 0},
]
_names = (f"evaluation_{number}" for number in itertools.count())


def image_ids(shift: int) -> np.ndarray:
    """Sky (1), ground (300), a cone (2), two drums (70000, 4), a crowd of cones (5), and a strip of void."""
    ids = np.ones((HEIGHT, WIDTH), dtype=np.int64)
    ids[20:] = 300
    ids[10:26, 5 + shift : 17 + shift] = 2
    ids[12:30, 25:33] = 70000
    ids[12:30, 36 - shift : 44] = 4
    ids[28:38, 46:58] = 5
    ids[:, :2] = 0
    return ids


CLASS_OF = {1: 3, 300: 9, 2: 7, 70000: 5, 4: 5, 5: 7}


def write_dataset(folder: Path, images: int = 4, instances: bool = False) -> str:
    """Images, PNGs and JSON in a folder, and the name they are registered under."""
    name = next(_names)
    for part in ("images", "panoptic"):
        (folder / part).mkdir(parents=True)
    entries, annotations = [], []
    for number in range(images):
        ids = image_ids(number)
        Image.new("RGB", (WIDTH, HEIGHT)).save(folder / "images" / f"{number}.jpg")
        rgb = np.stack([ids % 256, ids // 256 % 256, ids // 256**2], axis=-1).astype(np.uint8)
        Image.fromarray(rgb).save(folder / "panoptic" / f"{number}.png")
        entries.append({"id": 10 + number, "file_name": f"{number}.jpg", "height": HEIGHT, "width": WIDTH})
        segments = [segment(ids, i) for i in np.unique(ids).tolist() if i]
        annotations.append({"image_id": 10 + number, "file_name": f"{number}.png", "segments_info": segments})
    content = {"images": entries, "annotations": annotations, "categories": CATEGORIES}
    (folder / "panoptic.json").write_text(json.dumps(content))
    if instances:
        things = {category["id"] for category in CATEGORIES if category["isthing"]}
        boxes = [
            {**s, "image_id": a["image_id"]}
            for a in annotations
            for s in a["segments_info"]
            if s["category_id"] in things
        ]
        boxes = [{**box, "id": number} for number, box in enumerate(boxes, start=1)]
        kinds = [{"id": c["id"], "name": c["name"]} for c in CATEGORIES if c["isthing"]]
        (folder / "instances.json").write_text(
            json.dumps({"images": entries, "annotations": boxes, "categories": kinds})
        )
    register(
        name,
        images=folder / "images",
        panoptic_json=folder / "panoptic.json",
        panoptic_root=folder / "panoptic",
        instances_json=folder / "instances.json" if instances else None,
    )
    return name


def register_records(records: list[dict[str, Any]], like: str) -> str:
    """A dataset that consists of these records, and of the categories of another."""
    name = next(_names)
    DatasetCatalog.register(name, lambda: records)
    known = {k: v for k, v in MetadataCatalog.get(like).as_dict().items() if k != "name"}
    MetadataCatalog.get(name).set(**known)
    return name


def segment(ids: np.ndarray, number: int) -> dict[str, Any]:
    rows, columns = np.nonzero(ids == number)
    x, y = int(columns.min()), int(rows.min())
    box = [x, y, int(columns.max()) + 1 - x, int(rows.max()) + 1 - y]
    crowd = int(number == 5)
    return {"id": number, "category_id": CLASS_OF[number], "area": len(rows), "bbox": box, "iscrowd": crowd}


def predict(record: dict[str, Any], shift: int = 0) -> dict[str, Any]:
    """What a model that is ``shift`` pixels off would return: the ground truth moved, ids counted from 1."""
    number = record["image_id"] - 10
    gt = np.roll(image_ids(number), shift, axis=1)
    contiguous = {s["id"]: (s["category_id"], s["isthing"]) for s in record["segments_info"]}
    panoptic = torch.zeros(gt.shape, dtype=torch.int32)
    segments = []
    for new, old in enumerate(sorted(contiguous), start=1):
        mask = torch.from_numpy(gt == old)
        panoptic[mask] = new
        label, is_thing = contiguous[old]
        segments.append({"id": new, "isthing": is_thing, "category_id": label, "score": 0.9, "area": int(mask.sum())})
    instances = Instances(gt.shape)
    things = [s for s in record["segments_info"] if s["isthing"]]
    boxes = torch.tensor([s["bbox"] for s in things], dtype=torch.float32)
    boxes[:, 2:] += boxes[:, :2]
    instances.pred_boxes = Boxes(boxes + shift)
    instances.scores = torch.linspace(0.9, 0.8, len(things))
    instances.pred_classes = torch.tensor([s["category_id"] for s in things])
    instances.pred_masks = torch.from_numpy(np.stack([gt == s["id"] for s in things]))
    return {"panoptic_seg": (panoptic, segments), "instances": instances}


def run(evaluator: Any, name: str, shift: int = 0, rows: slice = slice(None)) -> Any:
    evaluator.reset()
    for record in DatasetCatalog.get(name)[rows]:
        image = {key: record[key] for key in ("file_name", "image_id", "height", "width")}
        evaluator.process([image], [predict(record, shift)])
    return evaluator.evaluate()


def config(**keys: Any) -> CfgNode:
    cfg = get_cfg()
    add_detr_config(cfg)
    cfg.MODEL.DETR.MASK_ON = keys.get("mask_on", True)
    cfg.MODEL.DETR.INSTANCE_ON = keys.get("instance_on", True)
    cfg.TEST.PANOPTIC_EVALUATOR = keys.get("evaluator", "detr_d2")
    return cfg
