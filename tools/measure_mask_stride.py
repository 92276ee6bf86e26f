#!/usr/bin/env python
"""What INPUT.MASK_STRIDE does to the mask losses and their gradients: the same images and weights, several strides.

Stride 1 is what the others are compared with. The cosine is that of the gradients of mask and dice loss with respect to
the mask head: 1 means that a step goes the same way.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarking.measure import machine
from benchmarking.report import deliver, get_parser, table, use_threads
from tqdm import tqdm

from detr_d2.checkpoint import DetrCheckpointer
from detr_d2.config import load_config
from detr_d2.data import DetrPanopticDatasetMapper, build_augmentations, register_from_config
from detr_d2.errors import ConfigError, run_command
from detr_d2.meta_arch import DetrPanoptic

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from detectron2.modeling import build_model

EXAMPLES = """\
example, after the quickstart:
  python tools/measure_mask_stride.py --config-file runs/quickstart/stage2/config.yaml \\
      MODEL.WEIGHTS runs/quickstart/stage2/model_final.pth --write docs/loading.md
"""


def main() -> int:
    parser = get_parser(__doc__, EXAMPLES)
    parser.add_argument("--config-file", required=True, metavar="FILE", help="of a model with masks")
    parser.add_argument("--strides", type=int, nargs="+", default=(2, 4, 8), metavar="N", help="(default: 2 4 8)")
    parser.add_argument("--images", type=int, default=40, metavar="N", help="of DATASETS.TEST (default: 40)")
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help="changes to the config")
    args = parser.parse_args()
    use_threads(args.threads)
    cfg = load_config(args.config_file, args.opts)
    if not cfg.MODEL.DETR.MASK_ON:
        raise ConfigError(f"{args.config_file} has MODEL.DETR.MASK_ON False; masks are what is measured here.")
    register_from_config(cfg)
    model = build_model(cfg)
    DetrCheckpointer(model).load(cfg.MODEL.WEIGHTS)
    records = DatasetCatalog.get(cfg.DATASETS.TEST[0])[: args.images]

    rows = measure(model.train(), cfg, records, (1, *args.strides))
    weights = Path(cfg.MODEL.WEIGHTS).name or "random weights"
    title = f"{len(records)} images of {cfg.DATASETS.TEST[0]}, one at a time, {weights}. {machine(args.threads)}."
    deliver("mask_stride", f"{title}\n\n{table(rows)}", {"machine": machine(args.threads), "rows": rows}, args)
    return 0


def measure(
    model: DetrPanoptic, cfg: CfgNode, records: Iterable[dict[str, Any]], strides: tuple[int, ...]
) -> list[dict[str, Any]]:
    """For each stride means over the images: losses, their differences to the first stride's, gradients, costs."""
    steps = build_augmentations(cfg, is_train=False)
    mappers = [DetrPanopticDatasetMapper(cfg, is_train=True, augmentations=steps, mask_stride=s) for s in strides]
    found: list[list[dict[str, float]]] = [[] for _ in strides]
    for record in tqdm(list(records), unit="image", disable=None):
        first: tuple[dict[str, float], torch.Tensor] | None = None
        for index, mapper in enumerate(mappers):
            start = time.process_time()
            item = mapper(record)
            loaded = time.process_time()
            losses, gradient = _losses(model, item)
            stepped = time.process_time()
            first = first or (losses, gradient)
            found[index].append(
                {
                    **{f"{name}, mean": value for name, value in losses.items()},
                    **{f"{name}, difference in %": 100 * (losses[name] / first[0][name] - 1) for name in losses},
                    "cosine of gradients": float(torch.cosine_similarity(gradient, first[1], dim=0)),
                    "gradient's length, ratio": float(gradient.norm() / first[1].norm()),
                    "ground-truth masks, KiB": item["instances"].gt_masks.tensor.numel() / 1024,
                    "loading, ms": 1000 * (loaded - start),
                    "step, ms": 1000 * (stepped - loaded),
                }
            )
    return [
        {"stride": stride, **{name: float(np.mean([entry[name] for entry in entries])) for name in entries[0]}}
        for stride, entries in zip(strides, found)
    ]


def _losses(model: DetrPanoptic, item: dict[str, Any]) -> tuple[dict[str, float], torch.Tensor]:
    """Mask and dice loss, and the gradient of both together with respect to the mask head."""
    losses = {name: value for name, value in model([item]).items() if name in ("loss_mask", "loss_dice")}
    parts = (model.bbox_attention, model.mask_head)
    parameters = [parameter for part in parts if part is not None for parameter in part.parameters()]
    gradients = torch.autograd.grad(sum(losses.values(), torch.zeros(())), parameters, allow_unused=True)
    flat = torch.cat([gradient.flatten() for gradient in gradients if gradient is not None])
    return {name: float(value) for name, value in losses.items()}, flat


if __name__ == "__main__":
    sys.exit(run_command(main))
