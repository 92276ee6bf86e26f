"""Panoptic models of transformers, trained from random weights on our data by their own losses, and evaluated by ours.

They have the size of the quickstart's model: a ResNet-18 and layers 128 wide. What they say goes through the same
post-processing, so that a difference in PQ is one of learning.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarking.models import import_transformers
from detr_d2.data import DetrPanopticDatasetMapper, build_train_loader, categories_of, register_from_config
from detr_d2.evaluation import build_evaluator
from detr_d2.network import build_postprocess
from detr_d2.structures import BatchedInputs, batch_images, result_of, target_of

from detectron2.config import CfgNode
from detectron2.data import build_detection_test_loader
from detectron2.evaluation import inference_on_dataset

WIDTH, LAYERS, FEEDFORWARD = 128, 2, 512
TRIED = 8
"""Steps that say how long one takes, of which the first are slower."""


class Peer(nn.Module):
    """A model of transformers that takes Detectron2's inputs: to its own loss, or to panoptic maps.

    Args:
        cfg: thresholds of the post-processing, mean and standard deviation of the pixels.
        is_thing: of each class, in contiguous order.
        model: takes ``pixel_values`` and ``pixel_mask``.
        labels_of: our targets as the model's arguments; its output has a ``loss`` then.
        names: of class logits (B, Q, K+1) and mask logits (B, Q, h, w) in its output.
    """

    def __init__(
        self,
        cfg: CfgNode,
        is_thing: list[bool],
        model: nn.Module,
        labels_of: Callable[[list[dict[str, Tensor]]], dict[str, Any]],
        names: tuple[str, str],
    ) -> None:
        super().__init__()
        self.model, self.labels_of, self.names = model, labels_of, names
        self.postprocess = build_postprocess(cfg, is_thing)
        self.register_buffer("mean", torch.tensor(cfg.MODEL.PIXEL_MEAN).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(cfg.MODEL.PIXEL_STD).view(-1, 1, 1))

    def forward(self, batched_inputs: BatchedInputs) -> Tensor | BatchedInputs:
        images, padding, sizes = batch_images(batched_inputs, self.mean, self.std)
        inputs = {"pixel_values": images, "pixel_mask": (~padding).long()}
        if self.training:
            pairs = zip(batched_inputs, sizes, strict=True)
            targets = [target_of(item, size.image, images.device, with_masks=True) for item, size in pairs]
            loss: Tensor = self.model(**inputs, **self.labels_of(targets)).loss
            return loss
        found = self.model(**inputs)
        logits, masks = (found[name] for name in self.names)
        return [
            result_of({"pred_logits": logits}, i, size, self.postprocess, masks[i].__getitem__, instance_on=False)[0]
            for i, size in enumerate(sizes)
        ]


def build_detr(cfg: CfgNode, is_thing: list[bool]) -> Peer:
    """``DetrForSegmentation``: boxes and masks together from the start, as it has no stages."""
    transformers = import_transformers()
    config = transformers.DetrConfig(
        **{"backbone_config": _resnet18(transformers), "use_timm_backbone": False, "use_pretrained_backbone": False},
        **{"d_model": WIDTH, "encoder_layers": 1, "decoder_layers": LAYERS, "dropout": 0.0, "auxiliary_loss": True},
        **{"encoder_ffn_dim": FEEDFORWARD, "decoder_ffn_dim": FEEDFORWARD},
        **{"num_labels": len(is_thing), "num_queries": cfg.MODEL.DETR.NUM_QUERIES},
    )

    def labels_of(targets: list[dict[str, Tensor]]) -> dict[str, Any]:
        named = ({"class_labels": one["labels"], "boxes": one["boxes"], "masks": one["masks"]} for one in targets)
        return {"labels": list(named)}

    return Peer(cfg, is_thing, transformers.DetrForSegmentation(config), labels_of, ("logits", "pred_masks"))


def build_mask2former(cfg: CfgNode, is_thing: list[bool]) -> Peer:
    """``Mask2FormerForUniversalSegmentation``, its losses at an eighth of the points, as the images are small."""
    transformers = import_transformers()
    config = transformers.Mask2FormerConfig(
        backbone_config=_resnet18(transformers),
        **{"feature_size": WIDTH, "mask_feature_size": WIDTH, "hidden_dim": WIDTH, "dim_feedforward": FEEDFORWARD},
        **{"encoder_feedforward_dim": FEEDFORWARD, "encoder_layers": 1, "decoder_layers": LAYERS + 1},
        **{"num_queries": cfg.MODEL.DETR.NUM_QUERIES, "num_labels": len(is_thing), "train_num_points": 12544 // 8},
    )

    def labels_of(targets: list[dict[str, Tensor]]) -> dict[str, Any]:
        classes = [one["labels"] for one in targets]
        return {"class_labels": classes, "mask_labels": [one["masks"].float() for one in targets]}

    model = transformers.Mask2FormerForUniversalSegmentation(config)
    return Peer(cfg, is_thing, model, labels_of, ("class_queries_logits", "masks_queries_logits"))


PEERS: dict[str, Callable[[CfgNode, list[bool]], Peer]] = {
    "transformers' DETR": build_detr,
    "transformers' Mask2Former": build_mask2former,
}


def train_peer(
    name: str, cfg: CfgNode, seconds: float, evaluations: int, rate: float
) -> Iterator[tuple[float, int, dict[str, float]]]:
    """Train a peer, and evaluate it from time to time.

    Args:
        name: one of ``PEERS``.
        cfg: data, batch, augmentation, seed (of the weights, and of the data's order) and thresholds; the folder for
            results.
        seconds: of processor time to train for, evaluations left out.
        evaluations: how many.
        rate: at which it learns: in the steps that are timed, and after a twentieth of warm-up; a tenth of it in the
            last fifth.

    Yields:
        Processor seconds and steps so far, and PQ and its parts.
    """
    torch.manual_seed(max(cfg.SEED, 0))
    register_from_config(cfg)
    dataset = cfg.DATASETS.TEST[0]
    loader = iter(build_train_loader(cfg))
    is_thing = [category.is_thing for category in categories_of(cfg.DATASETS.TRAIN[0])]
    model = PEERS[name](cfg, is_thing).to(cfg.MODEL.DEVICE)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=1e-4)
    tried = [_step(model, optimizer, next(loader)) for _ in range(TRIED)]
    steps = TRIED + max(evaluations, round((seconds - sum(tried)) / float(np.median(tried[TRIED // 2 :]))))
    due = {max(TRIED + part, round(steps * part / evaluations)) for part in range(1, evaluations + 1)}
    spent = sum(tried)
    for step in range(TRIED + 1, steps + 1):
        part = step / steps
        optimizer.param_groups[0]["lr"] = rate * min(1.0, part / 0.05) * (0.1 if part > 0.8 else 1.0)
        spent += _step(model, optimizer, next(loader))
        if step in due:
            yield spent, step, _evaluated(model, cfg, dataset)


def _step(model: Peer, optimizer: torch.optim.Optimizer, batch: BatchedInputs) -> float:
    start = time.process_time()
    loss = model.train()(batch)
    assert isinstance(loss, Tensor)
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(model.parameters(), 0.1)
    optimizer.step()
    return time.process_time() - start


def _evaluated(model: Peer, cfg: CfgNode, dataset: str) -> dict[str, float]:
    evaluator = build_evaluator(cfg, dataset, str(Path(cfg.OUTPUT_DIR, "inference", dataset)))
    loader = build_detection_test_loader(cfg, dataset, mapper=DetrPanopticDatasetMapper(cfg, is_train=False))
    results = inference_on_dataset(model.eval(), loader, evaluator)
    return {f"panoptic_seg/{key}": value for key, value in results["panoptic_seg"].items()}


def _resnet18(transformers: Any) -> Any:
    return transformers.ResNetConfig(
        **{"embedding_size": 64, "hidden_sizes": [64, 128, 256, 512], "depths": [2, 2, 2, 2], "layer_type": "basic"},
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )
