#!/usr/bin/env python
"""Draws what the augmentations of docs/loading.md make of yard scenes, targets included."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from detr_d2.browse.command import draw_given
from detr_d2.config import load_config
from detr_d2.data import categories_of, dataset_metadata, register
from detr_d2.data.train_loader import build_train_mapper
from detr_d2.errors import run_command
from detr_d2.visualization import save_image
from detr_d2.yard import write_yard

from detectron2.data import DatasetCatalog

#: For each image the seed and the keys that make it.
AUGMENTATIONS: dict[str, tuple[int, list[object]]] = {
    "ricap": (1, ["INPUT.RICAP.ENABLED", True, "INPUT.RICAP.PROB", 1.0, "INPUT.RICAP.BETA", 1.0]),
    "copy_paste": (2, ["INPUT.COPY_PASTE.ENABLED", True, "INPUT.COPY_PASTE.PROB", 1.0]),
    "lsj": (15, ["INPUT.LSJ.ENABLED", True, "INPUT.LSJ.SIZE", 320]),
    "color_jitter": (0, ["INPUT.COLOR_JITTER.ENABLED", True, "INPUT.COLOR_JITTER.PROB", 1.0]),
}
WITHOUT_TARGETS = ("color_jitter",)  # they don't change, and would hide the colours
PANEL = 300  # pixels, both sides
GAP = 6


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/images"), metavar="DIR", help="(default: docs/images)")
    parser.add_argument("--columns", type=int, default=4, metavar="N", help="images in a row (default: 4)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        yard = write_yard(Path(folder) / "yard", train=24, val=1, width=320, height=256, seed=4)
        register("drawn_yard", yard / "images", yard / "panoptic_train.json", yard / "panoptic")
        for name, (seed, overrides) in AUGMENTATIONS.items():
            np.random.seed(seed)
            image = row("drawn_yard", overrides, args.columns, name not in WITHOUT_TARGETS)
            print(save_image(image, args.out / f"{name}.png"))
    return 0


def row(dataset: str, overrides: list[object], columns: int, with_targets: bool) -> np.ndarray:
    """The first image as it is, then augmented ones, (H, W, 3) uint8."""
    records, metadata, categories = DatasetCatalog.get(dataset), dataset_metadata(dataset), categories_of(dataset)
    plain = ["INPUT.FORMAT", "RGB", "INPUT.RANDOM_FLIP", "none", "INPUT.DETR_CROP.ENABLED", False]
    plain += ["INPUT.MIN_SIZE_TRAIN", (256,), "MODEL.DETR.MASK_ON", True]
    panels = []
    for column in range(columns):
        cfg = load_config("")
        cfg.merge_from_list([*plain, *(overrides if column else [])])
        mapper, entries = build_train_mapper(cfg, records)
        given = mapper(entries[0])
        bare = given["image"].numpy().transpose(1, 2, 0)
        panels.append(_panel(draw_given(given, metadata, categories) if with_targets else bare))
    together = np.concatenate(panels, axis=1)[:, :-GAP]
    return together[(together < 255).any(axis=(1, 2))]


def _panel(image: np.ndarray) -> np.ndarray:
    """On white, no larger than PANEL, with a gap on its right."""
    image = Image.fromarray(image)
    image.thumbnail((PANEL, PANEL), Image.Resampling.LANCZOS)
    panel = Image.new("RGB", (PANEL + GAP, PANEL), (255, 255, 255))
    panel.paste(image, ((PANEL - image.width) // 2, (PANEL - image.height) // 2))
    return np.asarray(panel)


if __name__ == "__main__":
    sys.exit(run_command(main))
