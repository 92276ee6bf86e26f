"""A mapper and its config, and PNGs of ids."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from detr_d2.config import add_detr_config
from detr_d2.data import DetrPanopticDatasetMapper

from detectron2.config import CfgNode, get_cfg

SKY, DRUM, CONE = 70_000, 300, 7
"""Segment ids of the image that ``sample`` writes."""


def make_config(**changes: Any) -> CfgNode:
    """A config without any augmentation but those of ``changes``, with masks."""
    cfg = get_cfg()
    add_detr_config(cfg)
    cfg.INPUT.FORMAT = "RGB"
    cfg.INPUT.RANDOM_FLIP = "none"
    cfg.INPUT.MIN_SIZE_TRAIN = (0,)
    cfg.INPUT.MIN_SIZE_TEST = 0
    cfg.INPUT.DETR_CROP.ENABLED = False
    cfg.MODEL.DETR.MASK_ON = True
    cfg.merge_from_list([item for key, value in changes.items() for item in (key.replace("__", "."), value)])
    return cfg


def make_mapper(is_train: bool = True, **changes: Any) -> DetrPanopticDatasetMapper:
    return DetrPanopticDatasetMapper(make_config(**changes), is_train)


def write_ids(path: Path, ids: np.ndarray) -> None:
    Image.fromarray(np.stack([ids % 256, ids // 256 % 256, ids // 65536], -1).astype(np.uint8)).save(path)
