"""Panoptic inference in three implementations: an image in, a panoptic map out."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from detr_d2.modeling import Sizes, upsample_masks

from .models import MEAN, NUM_THINGS, STD, Setting, build_huggingface, build_ours, build_reference, fix_classes


@dataclass(frozen=True)
class Implementation:
    """A model, and what the benchmark does with it.

    Args:
        panoptic: images in, panoptic maps out.
        masks: the logits (kept, h, w) of the first image's kept queries.
    """

    model: nn.Module
    panoptic: Callable[[], object]
    masks: Callable[[], Tensor]


def ours(setting: Setting, *overrides: str, accelerations: Iterable[str] | None = None) -> Implementation:
    """This project's, as its config has it, but for what :func:`build_ours` is given."""
    model = build_ours(setting, *overrides, accelerations=accelerations)
    inputs = [{"image": image, "height": setting.height, "width": setting.width} for image in setting.images()]
    masks: list[Tensor] = []
    assert model.mask_head is not None
    model.mask_head.register_forward_hook(lambda _module, _inputs, output: masks.append(output.float()))

    @torch.inference_mode()
    def panoptic() -> object:
        masks.clear()
        return model(inputs)

    def kept_masks() -> Tensor:
        panoptic()
        return torch.cat(masks)[: setting.kept]

    fix_classes(model, setting.class_logits())
    return Implementation(model, panoptic, kept_masks)


def huggingface(setting: Setting) -> Implementation:
    """Hugging Face's image processor, model and post-processing; stuff is fused, as in ours."""
    model = build_huggingface(setting)
    processor = importlib.import_module("transformers").DetrImageProcessor(do_resize=False)
    sizes, stuff = [(setting.height, setting.width)] * setting.batch, set(range(NUM_THINGS, setting.classes))
    images = setting.images()

    @torch.inference_mode()
    def panoptic() -> object:
        outputs = model(**processor(images=images, return_tensors="pt").to(setting.device))
        return processor.post_process_panoptic_segmentation(
            outputs, threshold=0.85, label_ids_to_fuse=stuff, target_sizes=sizes
        )

    @torch.inference_mode()
    def masks() -> Tensor:
        return model(**processor(images=images[:1], return_tensors="pt").to(setting.device)).pred_masks[
            0, setting.kept_queries()
        ]

    fix_classes(model, setting.class_logits())
    return Implementation(model, panoptic, masks)


def reference(folder: Path, setting: Setting) -> Implementation:
    """facebookresearch/detr's normalisation, model and panoptic post-processing."""
    model, _, postprocess = build_reference(folder, setting)
    sizes = [(setting.height, setting.width)] * setting.batch
    images = setting.images()

    def normalized(chosen: list[Tensor]) -> list[Tensor]:
        return [(image.to(setting.device) / 255 - MEAN.to(setting.device)) / STD.to(setting.device) for image in chosen]

    @torch.inference_mode()
    def panoptic() -> object:
        return postprocess(model(normalized(images)), sizes, sizes)

    @torch.inference_mode()
    def masks() -> Tensor:
        return model(normalized(images[:1]))["pred_masks"][0, setting.kept_queries()]

    fix_classes(model, setting.class_logits())
    return Implementation(model, panoptic, masks)


def mask_difference(masks: Tensor, others: Tensor) -> float:
    """The largest difference of logits, as a part of their spread (standard deviation)."""
    return ((masks - others).abs().max() / others.std()).item()


def changed_pixels(masks: Tensor, others: Tensor, setting: Setting) -> int:
    """Pixels whose highest of (N, h, w) logits is another one's, unless the two are as good as equal."""
    size = (setting.height, setting.width)
    large, other_large = (upsample_masks(logits, Sizes(size, size, size)) for logits in (masks, others))
    best = other_large.topk(min(2, len(others)), dim=0).values
    tie = best[0] - best[-1] <= 1e-4 * others.std()
    return int(((large.argmax(0) != other_large.argmax(0)) & ~tie).sum())
