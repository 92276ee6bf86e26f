"""DETR as a Detectron2 meta-architecture: the one class that speaks both languages."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from detr_d2.checkpoint import guard_loading, model_categories, model_recipe
from detr_d2.data import Category
from detr_d2.dilation import use_published_dilation_
from detr_d2.errors import DatasetError
from detr_d2.modeling import (
    AttentionMaps,
    Detr,
    HungarianMatcher,
    MaskHead,
    SetCriterion,
    Target,
    Transformer,
    class_limits,
    instance_masks,
    kept_queries,
    panoptic_map,
    picture_losses,
    predict_masks,
)
from detr_d2.modeling.box_ops import box_cxcywh_to_xyxy, box_xyxy_to_cxcywh
from detr_d2.modeling.criterion import PredictMasks, weighted_losses
from detr_d2.modeling.picture_losses import LossShares, remembering
from detr_d2.scalars import is_due, log_scalars

from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY, build_backbone, detector_postprocess
from detectron2.structures import Boxes, ImageList, Instances
from detectron2.utils import comm

BatchedInputs = list[dict[str, Any]]

#: Arguments that are keys of ``MODEL.DETR``.
_OPTIONS = (
    *("freeze_detector", "mask_chunk_bytes", "mask_checkpoint", "inference_dtype", "compile_backbone"),
    *("score_threshold", "class_score_thresholds", "overlap_threshold", "min_segment_area"),
    *("instance_score_threshold", "panoptic_on", "instance_on"),
)

INFERENCE_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@META_ARCH_REGISTRY.register()
class DetrPanoptic(nn.Module):
    """DETR with or without its mask head: Detectron2's batched inputs to losses or to results.

    Args:
        detr: backbone, transformer and heads.
        criterion: matching and losses.
        loss_weights: what loss_ce, loss_bbox, loss_giou, loss_mask and loss_dice count.
        categories: the classes in contiguous order, of which ``is_thing`` is used here; checkpoints keep them all.
        pixel_mean: of the three channels, in the order and scale (0 to 255) of the input pictures.
        pixel_std: likewise.
        bbox_attention: attention maps; None with ``mask_head`` None: boxes only.
        mask_head: attention maps to masks.
        freeze_detector: train the mask head alone; the detector keeps its weights and batch statistics, and has no
            dropout.
        mask_chunk_bytes: see ``detr_d2.modeling.predict_masks``; used at inference, and with ``mask_checkpoint``.
        mask_checkpoint: train the mask head in chunks that are computed again for the backward pass.
        inference_dtype: "float32", or "bfloat16" for autocast.
        accelerate: compute the same faster, see ``detr_d2.acceleration``.
        compile_backbone: run the backbone through ``torch.compile``.
        score_threshold: of the panoptic map's segments.
        class_score_thresholds: one for each class, instead; empty: none.
        overlap_threshold, min_segment_area: see ``detr_d2.modeling.panoptic_map``.
        instance_score_threshold: of the instances.
        panoptic_on: return "panoptic_seg" where there is a mask head.
        instance_on: return "instances".
        vis_period: every so many iterations of a training an image goes to TensorBoard; 0: none.
        recipe: the config keys that build this model; checkpoints keep them.

    Raises:
        ValueError: only one of ``bbox_attention`` and ``mask_head``; a frozen detector and nothing left to train; or
            another ``inference_dtype``.
    """

    pixel_mean: Tensor
    pixel_std: Tensor
    is_thing: Tensor
    class_score_thresholds: Tensor

    @configurable
    def __init__(
        self,
        *,
        detr: Detr,
        criterion: SetCriterion,
        loss_weights: dict[str, float],
        categories: list[Category],
        pixel_mean: list[float],
        pixel_std: list[float],
        bbox_attention: AttentionMaps | None = None,
        mask_head: MaskHead | None = None,
        freeze_detector: bool = False,
        mask_chunk_bytes: int | None = None,
        mask_checkpoint: bool = False,
        inference_dtype: str = "float32",
        accelerate: bool = True,
        compile_backbone: bool = False,
        score_threshold: float = 0.85,
        class_score_thresholds: Sequence[float] = (),
        overlap_threshold: float = 0.0,
        min_segment_area: int = 4,
        instance_score_threshold: float = 0.05,
        panoptic_on: bool = True,
        instance_on: bool = True,
        vis_period: int = 0,
        recipe: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if (bbox_attention is None) != (mask_head is None):
            raise ValueError("Give both bbox_attention and mask_head, or neither.")
        if freeze_detector and mask_head is None:
            raise ValueError("MODEL.DETR.FREEZE_DETECTOR without MODEL.DETR.MASK_ON leaves nothing to train.")
        if inference_dtype not in INFERENCE_DTYPES:
            allowed = " or ".join(INFERENCE_DTYPES)
            raise ValueError(f"MODEL.DETR.INFERENCE_DTYPE is {inference_dtype!r}; set it to {allowed}.")
        self.detr = detr
        self.bbox_attention = bbox_attention
        self.mask_head = mask_head
        if accelerate:
            _accelerate_(self)
        if compile_backbone:
            self.detr.backbone.compile()
        self.criterion = criterion
        self.categories = categories
        taught = ("loss_mask", "loss_dice") if freeze_detector else tuple(loss_weights)
        self.loss_weights = {kind: loss_weights[kind] for kind in taught}
        self.freeze_detector = freeze_detector
        self.mask_chunk_bytes = mask_chunk_bytes
        self.mask_checkpoint = mask_checkpoint
        self.inference_dtype = INFERENCE_DTYPES[inference_dtype]
        self.score_threshold, self.overlap_threshold = score_threshold, overlap_threshold
        limits = class_limits(class_score_thresholds, len(categories))
        self.register_buffer("class_score_thresholds", limits, persistent=False)
        self.min_segment_area = min_segment_area
        self.instance_score_threshold = instance_score_threshold
        self.panoptic_on = panoptic_on
        self.instance_on = instance_on
        self.vis_period = vis_period
        self.recipe = recipe or {}
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(pixel_std).view(-1, 1, 1), persistent=False)
        is_thing = torch.tensor([category.is_thing for category in categories], dtype=torch.bool)
        self.register_buffer("is_thing", is_thing, persistent=False)
        if freeze_detector:
            self.detr.requires_grad_(False)
        guard_loading(self)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Build every part from a Detectron2 config; the classes are those of the registered dataset."""
        options = cfg.MODEL.DETR
        categories = model_categories(cfg)
        backbone = build_backbone(cfg)
        if cfg.MODEL.RESNETS.RES5_DILATION == 2:
            use_published_dilation_(backbone)
        channels = {name: shape.channels or 0 for name, shape in backbone.output_shape().items()}
        transformer = Transformer(
            d_model=options.HIDDEN_DIM,
            nhead=options.NHEADS,
            num_encoder_layers=options.ENC_LAYERS,
            num_decoder_layers=options.DEC_LAYERS,
            dim_feedforward=options.DIM_FEEDFORWARD,
            dropout=options.DROPOUT,
            normalize_before=options.PRE_NORM,
        )
        parts: dict[str, Any] = {}
        if options.MASK_ON:
            width, heads = options.HIDDEN_DIM, options.NHEADS
            fpn_dims = [channels[name] for name in ("res4", "res3", "res2")]
            parts["bbox_attention"] = AttentionMaps(width, width, heads)
            parts["mask_head"] = MaskHead(width + heads, fpn_dims, width, options.ATTENTION_GAIN)
        return parts | {
            "detr": Detr(
                backbone,
                channels["res5"],
                transformer,
                num_classes=len(categories),
                num_queries=options.NUM_QUERIES,
                aux_loss=options.DEEP_SUPERVISION,
            ),
            "criterion": SetCriterion(
                len(categories),
                HungarianMatcher(options.COST_CLASS, options.COST_L1, options.COST_GIOU),
                no_object_weight=options.NO_OBJECT_WEIGHT,
                focal_alpha=options.FOCAL_ALPHA,
                focal_gamma=options.FOCAL_GAMMA,
            ),
            "loss_weights": {
                "loss_ce": options.CLASS_WEIGHT,
                "loss_bbox": options.L1_WEIGHT,
                "loss_giou": options.GIOU_WEIGHT,
                "loss_mask": options.MASK_WEIGHT,
                "loss_dice": options.DICE_WEIGHT,
            },
            "categories": categories,
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
            **{name: options[name.upper()] for name in _OPTIONS},
            "vis_period": cfg.VIS_PERIOD,
            "recipe": model_recipe(cfg),
        }

    @property
    def device(self) -> torch.device:
        """Where the model's tensors are."""
        return self.pixel_mean.device

    def train(self, mode: bool = True) -> DetrPanoptic:
        """As ``nn.Module.train``, but a frozen detector stays in evaluation mode."""
        super().train(mode)
        if self.freeze_detector:
            self.detr.eval()
        return self

    def forward(self, batched_inputs: BatchedInputs) -> dict[str, Tensor] | BatchedInputs:
        """
        Args:
            batched_inputs: one dict a picture: "image" (3, H, W) in 0..255; in training "instances" with gt_classes,
                gt_boxes and, with a mask head, gt_masks; at inference "height" and "width" of the original picture.

        Returns:
            In training a dict of weighted losses. At inference one dict a picture: "instances" (boxes, scores, classes
            and masks of things, in the original picture) and "panoptic_seg" (a map of segment ids, 0 is void, and a
            list of segments with id, isthing, category_id, score and area); where "instances" was given, also "losses":
            for each name its weighted value and its share in a mean, see ``detr_d2.modeling.picture_losses``.
        """
        images, padding_mask = self.preprocess(batched_inputs)
        if not self.training:
            with self.inference_precision():
                return self._results(self.detr(images.tensor, padding_mask), batched_inputs, images)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.freeze_detector):
            outputs = self.detr(images.tensor, padding_mask)
        targets = self._targets(batched_inputs, images.image_sizes)
        if is_due(self.vis_period):
            self._put_training_image(outputs, batched_inputs[0], images)
        return self._losses(outputs, targets)

    def inference_precision(self) -> AbstractContextManager[Any]:
        if self.inference_dtype == torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.inference_dtype)

    def preprocess(self, batched_inputs: BatchedInputs) -> tuple[ImageList, Tensor]:
        """Normalise, pad on the right and at the bottom, and say where padding is (B, H, W)."""
        pictures = [(item["image"].to(self.device) - self.pixel_mean) / self.pixel_std for item in batched_inputs]
        images = ImageList.from_tensors(pictures)
        # Ints also while somebody traces the model, when sizes are tensors: they are loops and shapes of later steps.
        images.image_sizes = [(int(height), int(width)) for height, width in images.image_sizes]
        images.tensor = images.tensor.contiguous(memory_format=torch.channels_last)
        padding_mask = torch.ones(len(images), *images.tensor.shape[-2:], dtype=torch.bool, device=self.device)
        for i, (height, width) in enumerate(images.image_sizes):
            padding_mask[i, :height, :width] = False
        return images, padding_mask

    def _targets(self, batched_inputs: BatchedInputs, image_sizes: list[tuple[int, int]]) -> list[Target]:
        """Detectron2's ``Instances`` to DETR's targets."""
        targets = []
        for item, (height, width) in zip(batched_inputs, image_sizes, strict=True):
            if "instances" not in item:
                raise DatasetError(
                    f"the training input of {item.get('file_name', 'an image')} has no 'instances': Detectron2's own "
                    "DatasetMapper reads no panoptic ground truth. Load with detr_d2.data.build_train_loader(cfg), or "
                    "give your loader mapper=detr_d2.data.DetrPanopticDatasetMapper(cfg)."
                )
            truth = item["instances"].to(self.device)
            size = torch.tensor([width, height, width, height], dtype=torch.float32, device=self.device)
            target = {"labels": truth.gt_classes, "boxes": box_xyxy_to_cxcywh(truth.gt_boxes.tensor / size)}
            if self.mask_head is not None:
                target["masks"] = truth.gt_masks.tensor
            targets.append(target)
        return targets

    def _losses(self, outputs: dict[str, Any], targets: list[Target]) -> dict[str, Tensor]:
        """Weighted losses; the unweighted ones and DETR's other figures go to the log."""
        outputs, predict = self._teaching(outputs)
        losses, figures = self.criterion(outputs, targets, self._mean_num_boxes(targets), predict)
        # Names without "loss" in them, so that Detectron2's console line stays short.
        unweighted = {name.replace("loss_", "unweighted/", 1): value for name, value in losses.items()}
        log_scalars(unweighted | figures)
        return weighted_losses(losses, self.loss_weights)

    @torch.no_grad()
    def _put_training_image(self, outputs: dict[str, Any], item: dict[str, Any], images: ImageList) -> None:
        """The batch's first image with its ground truth and its prediction, to the event storage."""
        from detr_d2.visualization.training_image import put_training_image  # matplotlib takes a second to import

        size, padded_size = images.image_sizes[0], (int(images.tensor.shape[-2]), int(images.tensor.shape[-1]))
        prediction = self._picture_result(outputs, 0, (padded_size, size, size))
        channel_order = self.recipe.get("INPUT.FORMAT", "RGB")
        put_training_image(item["image"], item["instances"], prediction, self.categories, channel_order)

    def _picture_losses(self, outputs: dict[str, Any], i: int, item: dict[str, Any], images: ImageList) -> LossShares:
        """Picture i's weighted losses, those that training has, and DETR's figures, each with its share in a mean."""
        outputs, predict = self._teaching(outputs)
        (target,) = self._targets([item], [images.image_sizes[i]])
        height, width = images.image_sizes[i]
        padding = (images.tensor.shape[-2] / height, images.tensor.shape[-1] / width)
        predict = predict and remembering(predict, *outputs["known_masks"])
        return picture_losses(self.criterion, outputs, i, target, predict, self.loss_weights, padding)

    def _teaching(self, outputs: dict[str, Any]) -> tuple[dict[str, Any], PredictMasks | None]:
        """Outputs without those that could teach nothing, and how to predict masks."""
        if self.freeze_detector:
            outputs = outputs | {"aux_outputs": []}
        return outputs, None if self.mask_head is None else partial(self.query_masks, outputs)

    def query_masks(self, outputs: dict[str, Any], batch_index: Tensor, query_index: Tensor) -> Tensor:
        assert self.bbox_attention is not None and self.mask_head is not None
        recompute = self.training and self.mask_checkpoint
        # What a backward pass needs stays anyway, so that chunks alone would save nothing in training.
        max_bytes = self.mask_chunk_bytes if recompute or not self.training else None
        parts = (self.bbox_attention, self.mask_head)
        return predict_masks(*parts, outputs, batch_index, query_index, max_bytes, recompute)

    def _mean_num_boxes(self, targets: list[Target]) -> float:
        """Targets a process has on average, at least 1, so that the losses' scale is that of the whole batch."""
        count = torch.tensor(float(sum(len(target["labels"]) for target in targets)), device=self.device)
        if comm.get_world_size() > 1:
            torch.distributed.all_reduce(count)
        return max(count.item() / comm.get_world_size(), 1.0)

    def _results(self, outputs: dict[str, Any], batched_inputs: BatchedInputs, images: ImageList) -> BatchedInputs:
        """One dict of Detectron2's results for each picture."""
        padded_size = (int(images.tensor.shape[-2]), int(images.tensor.shape[-1]))
        results = []
        for i, (item, image_size) in enumerate(zip(batched_inputs, images.image_sizes, strict=True)):
            output_size = (int(item.get("height", image_size[0])), int(item.get("width", image_size[1])))
            results.append(self._picture_result(outputs, i, (padded_size, image_size, output_size)))
            if "instances" in item:
                results[-1]["losses"] = self._picture_losses(outputs, i, item, images)
        return results

    def _picture_result(
        self, outputs: dict[str, Any], i: int, sizes: tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
    ) -> dict[str, Any]:
        """Picture i's result; ``sizes`` are those of the batch's tensor, of the picture in it and of the original."""
        result: dict[str, Any] = {}
        limit = self.class_score_thresholds if len(self.class_score_thresholds) else self.score_threshold
        kept, scores, classes = kept_queries(outputs["pred_logits"][i], limit)
        if self.instance_on:
            result["instances"] = self._boxes(outputs, i, *sizes[1:])
        if self.mask_head is None:
            return result
        shown = result["instances"].query_index if self.instance_on else kept[:0]
        needed = torch.cat([kept if self.panoptic_on else kept[:0], shown]).unique()
        masks = self.query_masks(outputs, torch.full_like(needed, i), needed)
        outputs["known_masks"] = (needed, masks)  # of this picture, for its losses
        if self.instance_on:
            chosen = torch.searchsorted(needed, shown)
            result["instances"].pred_masks = instance_masks(masks, chosen, *sizes)
        if self.panoptic_on:
            chosen = torch.searchsorted(needed, kept)
            result["panoptic_seg"] = panoptic_map(
                *(masks[chosen], scores, classes, self.is_thing, *sizes),
                min_area=self.min_segment_area,
                overlap_threshold=self.overlap_threshold,
            )
        return result

    def _boxes(
        self, outputs: dict[str, Any], i: int, image_size: tuple[int, int], output_size: tuple[int, int]
    ) -> Instances:
        """Picture i's things above the threshold, best first, in the original picture's pixels."""
        scores, classes = outputs["pred_logits"][i].float().softmax(-1)[:, :-1].max(-1)
        chosen = (self.is_thing[classes] & (scores > self.instance_score_threshold)).nonzero()[:, 0]
        chosen = chosen[scores[chosen].argsort(descending=True, stable=True)]
        size = scores.new_tensor([image_size[1], image_size[0], image_size[1], image_size[0]])
        instances = Instances(image_size)
        instances.pred_boxes = Boxes(box_cxcywh_to_xyxy(outputs["pred_boxes"][i, chosen].float()) * size)
        instances.scores, instances.pred_classes, instances.query_index = scores[chosen], classes[chosen], chosen
        return detector_postprocess(instances, *output_size)


def _accelerate_(model: nn.Module) -> None:
    """Swap modules for faster ones, where the folder that has them is there; nothing needs it."""
    if importlib.util.find_spec("detr_d2.acceleration") is not None:
        from detr_d2.acceleration import accelerate_

        accelerate_(model)
