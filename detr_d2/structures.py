"""From Detectron2's structures to DETR's tensors, and back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from detr_d2.errors import DatasetError
from detr_d2.modeling import PostProcess, Sizes, Target
from detr_d2.modeling.box_ops import box_cxcywh_to_xyxy, box_xyxy_to_cxcywh
from detr_d2.modeling.postprocess import instance_masks

from detectron2.modeling import detector_postprocess
from detectron2.structures import Boxes, ImageList, Instances

BatchedInputs = list[dict[str, Any]]
"""What a Detectron2 model is given: one dict an image."""


def batch_images(
    batched_inputs: BatchedInputs, pixel_mean: Tensor, pixel_std: Tensor
) -> tuple[Tensor, Tensor, list[Sizes]]:
    """Normalise images, and pad them on the right and at the bottom to one size.

    Args:
        batched_inputs: with "image" (3, H, W) and perhaps "height" and "width" of the original image.
        pixel_mean: (3, 1, 1), on the device that the images go to.
        pixel_std: likewise.

    Returns:
        Images (B, 3, H, W); (B, H, W) bool, True on padding; and the sizes of each.
    """
    images = [(item["image"].to(pixel_mean.device) - pixel_mean) / pixel_std for item in batched_inputs]
    batch = ImageList.from_tensors(images).tensor
    # Ints also while somebody traces the model, when sizes are tensors: they are loops and shapes of later steps.
    padded_size = (int(batch.shape[-2]), int(batch.shape[-1]))
    padding_mask = torch.ones(len(images), *padded_size, dtype=torch.bool, device=batch.device)
    sizes = []
    for i, (image, item) in enumerate(zip(images, batched_inputs, strict=True)):
        height, width = int(image.shape[-2]), int(image.shape[-1])
        padding_mask[i, :height, :width] = False
        output_size = (int(item.get("height", height)), int(item.get("width", width)))
        sizes.append(Sizes(padded_size, (height, width), output_size))
    return batch, padding_mask, sizes


def target_of(item: dict[str, Any], size: tuple[int, int], device: torch.device, with_masks: bool) -> Target:
    """The ground truth of an image.

    Args:
        item: a dict of the model's inputs, whose "instances" have gt_classes, gt_boxes in pixels, and gt_masks.
        size: height and width of the image.
        device: of the result.
        with_masks: or boxes only.

    Raises:
        DatasetError: there are no "instances".
    """
    if "instances" not in item:
        raise DatasetError(
            f"the training input of {item.get('file_name', 'an image')} has no 'instances': Detectron2's own "
            "DatasetMapper reads no panoptic ground truth. Load with detr_d2.data.build_train_loader(cfg), or "
            "give your loader mapper=detr_d2.data.DetrPanopticDatasetMapper(cfg)."
        )
    gt = item["instances"].to(device)
    scale = torch.tensor([size[1], size[0]] * 2, dtype=torch.float32, device=device)
    target = {"labels": gt.gt_classes, "boxes": box_xyxy_to_cxcywh(gt.gt_boxes.tensor / scale)}
    return target | {"masks": gt.gt_masks.tensor} if with_masks else target


def instances_of(pred_boxes: Tensor, queries: Sequence[Tensor], sizes: Sizes) -> Instances:
    """Instances in the original image's pixels, without masks; those whose box is empty there are left out.

    Args:
        pred_boxes: (Q, 4) of the image.
        queries: query_index, scores and classes (N,) of the instances.
        sizes: of the image.
    """
    query_index, scores, classes = queries
    height, width = sizes.image
    boxes = box_cxcywh_to_xyxy(pred_boxes[query_index].float()) * scores.new_tensor([width, height, width, height])
    instances = Instances(sizes.image, pred_boxes=Boxes(boxes), scores=scores, pred_classes=classes)
    instances.query_index = query_index
    return detector_postprocess(instances, *sizes.output)


def result_of(
    outputs: dict[str, Any],
    i: int,
    sizes: Sizes,
    postprocess: PostProcess,
    masks_of: Callable[[Tensor], Tensor] | None,
    panoptic_on: bool = True,
    instance_on: bool = True,
    matched: Tensor | None = None,
) -> tuple[dict[str, Any], Any]:
    """What a Detectron2 model returns of an image.

    Args:
        outputs: what ``Detr.forward`` returned.
        i: the image's place in the batch.
        sizes: of the image.
        postprocess: which queries are results.
        masks_of: the image's query_index (N,), each once and in rising order, to mask logits (N, h, w); called once.
            None: boxes only.
        panoptic_on, instance_on: whether "panoptic_seg" and "instances" are wanted.
        matched: (M,) further queries whose masks are wanted.

    Returns:
        "instances" and "panoptic_seg"; and mask logits (M, h, w) of ``matched``, None where there are no masks.
    """
    result: dict[str, Any] = {}
    logits = outputs["pred_logits"][i]
    none = torch.zeros(0, dtype=torch.int64, device=logits.device)
    if instance_on:
        things = postprocess.instances(logits)
        result["instances"] = instances_of(outputs["pred_boxes"][i], things, sizes)
    if masks_of is None:
        return result, None
    kept, scores, classes = postprocess.segments(logits) if panoptic_on else (none, none, none)
    shown = result["instances"].query_index if instance_on else none
    matched = none if matched is None else matched.to(logits.device)
    needed = torch.cat([kept, shown, matched]).unique()
    masks = masks_of(needed)

    def chosen(queries: Tensor) -> Tensor:
        return masks[torch.searchsorted(needed, queries)]

    if instance_on:
        result["instances"].pred_masks = instance_masks(chosen(shown), sizes)
    if panoptic_on:
        ids, segments = postprocess.panoptic(chosen(kept), scores, classes, sizes)
        segments = [{**segment, "queries": kept[segment["queries"]].tolist()} for segment in segments]
        result["panoptic_seg"] = ids, segments
    return result, chosen(matched)
