"""DETR as a Detectron2 meta-architecture: the one class that speaks both languages."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from detr_d2 import training_step
from detr_d2.checkpoint import guard_loading, model_categories, model_recipe
from detr_d2.config import check_model
from detr_d2.data import Category
from detr_d2.modeling import Denoising, DensePredictions, Detr, PostProcess, SetCriterion, Sizes, Target
from detr_d2.modeling.criterion import MASK_LOSSES, METRICS, Sum, added, predictions_of, weighted
from detr_d2.modeling.matcher import query_positions
from detr_d2.modeling.panoptic_head import AttentionMaps, MaskHead, predict_masks
from detr_d2.network import autocast, build_criterion, build_network, build_postprocess, check_dtypes, loss_weights
from detr_d2.structures import BatchedInputs, batch_images, result_of, target_of
from detr_d2.timm_backbone import build_timm_backbone  # noqa: F401  registered with Detectron2's other backbones

from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY

#: Arguments that are keys of ``MODEL.DETR``.
_OPTIONS = (
    *("freeze_detector", "mask_chunk_bytes", "mask_checkpoint", "training_dtype", "inference_dtype"),
    *("panoptic_on", "instance_on"),
)


@META_ARCH_REGISTRY.register()
class DetrPanoptic(nn.Module):
    """DETR with or without its mask head: Detectron2's batched inputs to losses or to results.

    Args:
        detr: backbone, transformer and heads.
        criterion: matching and losses.
        postprocess: which queries are results.
        loss_weights: what loss_ce, loss_bbox, loss_giou, loss_mask, loss_dice and loss_maskid count.
        categories: the classes in contiguous order; checkpoints keep them.
        pixel_mean, pixel_std: of the three channels, in the order and scale (0 to 255) of the input images.
        bbox_attention, mask_head: queries to attention maps to masks; both None: boxes only.
        denoising, dense: further queries, and predictions at every place of the memory, in training; None: none.
        freeze_detector: train the mask head alone; the detector keeps weights and statistics, and has no dropout.
        mask_chunk_bytes: see ``detr_d2.modeling.predict_masks``; used at inference, and with ``mask_checkpoint``.
        mask_checkpoint: train the mask head in chunks that are computed again for the backward pass.
        training_dtype, inference_dtype: of the network by autocast (see ``detr_d2.network``); losses are in float32.
        panoptic_on, instance_on: return "panoptic_seg", where there is a mask head, and "instances".
        vis_period: iterations from one image in TensorBoard to the next; 0: none.
        recipe: the config keys that build this model; checkpoints keep them.

    Raises:
        ValueError: one of ``bbox_attention`` and ``mask_head`` alone, nothing to train, another dtype.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    @configurable
    def __init__(
        self,
        *,
        detr: Detr,
        criterion: SetCriterion,
        postprocess: PostProcess,
        loss_weights: dict[str, float],
        categories: list[Category],
        pixel_mean: list[float],
        pixel_std: list[float],
        bbox_attention: AttentionMaps | None = None,
        mask_head: MaskHead | None = None,
        denoising: Denoising | None = None,
        dense: DensePredictions | None = None,
        freeze_detector: bool = False,
        mask_chunk_bytes: int | None = None,
        mask_checkpoint: bool = False,
        training_dtype: str = "float32",
        inference_dtype: str = "float32",
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
        check_dtypes(training_dtype, inference_dtype)
        self.detr, self.bbox_attention, self.mask_head = detr, bbox_attention, mask_head
        self.denoising, self.dense, self.freeze_detector = denoising, dense, freeze_detector
        self.criterion, self.postprocess, self.categories = criterion, postprocess, categories
        trained = MASK_LOSSES if freeze_detector else tuple(loss_weights)
        self.loss_weights = {kind: loss_weights[kind] for kind in trained if kind in loss_weights}
        self.training_dtype, self.inference_dtype = training_dtype, inference_dtype
        self.mask_chunk_bytes, self.mask_checkpoint, self.recipe = mask_chunk_bytes, mask_checkpoint, recipe or {}
        self.panoptic_on, self.instance_on, self.vis_period = panoptic_on, instance_on, vis_period
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(pixel_std).view(-1, 1, 1), persistent=False)
        if freeze_detector:
            self.detr.requires_grad_(False)
        guard_loading(self)

    @classmethod
    def from_config(cls, cfg: CfgNode, accelerate: bool = True) -> dict[str, Any]:
        """Build every part from a Detectron2 config; the classes are those of the registered dataset.

        Raises:
            ConfigError: keys that describe no network.
        """
        options, categories = cfg.MODEL.DETR, model_categories(cfg)
        check_model(cfg, len(categories))
        return {
            **build_network(cfg, len(categories), accelerate),
            "criterion": build_criterion(cfg, len(categories)),
            "postprocess": build_postprocess(cfg, [category.is_thing for category in categories]),
            "loss_weights": loss_weights(cfg),
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

    def forward(
        self, batched_inputs: BatchedInputs, part: training_step.StepPart | None = None
    ) -> dict[str, Tensor] | BatchedInputs:
        """
        Args:
            batched_inputs: one dict an image: "image" (3, H, W) in 0..255; in training "instances" with gt_classes,
                gt_boxes and, with a mask head, gt_masks; at inference "height" and "width" of the original image.
            part: in training, where these images stand in a step of several batches; None: they are the step.

        Returns:
            In training a dict of weighted losses, all of them finite; of a part also what is logged, which add up to
            the step's. At inference one dict an image: "instances" (boxes, scores, classes and masks of things, in the
            original image) and "panoptic_seg" (a map of segment ids, 0 is void, and a list of segments with id,
            isthing, category_id, score, area and queries).

        Raises:
            DivergenceError: losses, or the predictions they are of, aren't finite, here or in another process.
        """
        if not self.training:
            outputs, sizes = self.detect(batched_inputs)
            return [self._result(outputs, i, size)[0] for i, size in enumerate(sizes)]
        try:
            sums, problem = self.loss_sums(batched_inputs, draws=part is None or part.number == 0), ""
        except FloatingPointError:
            sums, problem = {}, training_step.NO_MATCHING
        counts = training_step.agree_on_counts(sums, self.loss_weights, problem, batched_inputs, self.device)
        losses = training_step.mean_losses(sums, counts if part is None else part.counts, self.denoising, part)
        # Names without "loss" in them, so that Detectron2's console line stays short.
        logged = {name.replace("loss_", "unweighted/", 1): value.detach() for name, value in losses.items()}
        if part is None:
            training_step.log_scalars(logged)
        return weighted(losses, self.loss_weights) | ({} if part is None else logged)

    def loss_sums(self, batched_inputs: BatchedInputs, draws: bool = False) -> dict[str, Sum]:
        """The sums that :meth:`forward` makes losses of in training, whatever they are, and of this process alone.

        Args:
            batched_inputs: as for :meth:`forward`.
            draws: whether the first image goes to TensorBoard, in the iterations in which it is its time.

        Raises:
            FloatingPointError: the predictions aren't finite, so that they can't be matched.
        """
        outputs, sizes = self.detect(batched_inputs)
        targets = [self._target(item, size) for item, size in zip(batched_inputs, sizes, strict=True)]
        if draws and training_step.is_due(self.vis_period):
            with torch.no_grad():
                prediction, _ = self._result(outputs, 0, sizes[0]._replace(output=sizes[0].image))
            training_step.put_training_image(batched_inputs[0], prediction, self.categories, self.recipe)
        indices = self.criterion.match(outputs, targets)
        masks = None if self.mask_head is None else self.query_masks(outputs, *query_positions(indices, self.device))
        sums: dict[str, Sum] = self.criterion(outputs, targets, indices, masks)
        with self._precision():
            noised = None if self.denoising is None else self.denoising(self.detr, outputs, targets)
            dense = {} if self.dense is None else self.dense(outputs["memory"], outputs["padding_mask"], targets)
        return sums | ({} if noised is None else self.criterion.known(*noised)) | dense

    @torch.no_grad()
    def validate(self, batched_inputs: BatchedInputs) -> tuple[BatchedInputs, dict[str, Sum]]:
        """Results as :meth:`forward` gives them and, from the same forward pass, sums of the losses that training has.

        Args:
            batched_inputs: as for inference; images with "instances" have a part in the sums.

        Returns:
            The results, and weighted losses and metrics of the criterion; none where no image has "instances".
        """
        outputs, sizes = self.detect(batched_inputs)
        results, sums = list[dict[str, Any]](), dict[str, Sum]()
        for i, (item, size) in enumerate(zip(batched_inputs, sizes, strict=True)):
            predictions, targets = predictions_of(outputs, i), [self._target(item, size)] if "instances" in item else []
            with training_step.explaining_divergence(batched_inputs):
                indices = self.criterion.match(predictions, targets)
                result, masks = self._result(outputs, i, size, *(queries for queries, _ in indices))
                results.append(result)
                if targets:
                    sums = added(sums, self.criterion(predictions, targets, indices, masks, size.padding))
        return results, weighted(sums, self.loss_weights | METRICS)

    def detect(self, batched_inputs: BatchedInputs) -> tuple[dict[str, Any], list[Sizes]]:
        """What ``Detr.forward`` returns for a batch of Detectron2's inputs, and the sizes of its images."""
        images, padding_mask, sizes = batch_images(batched_inputs, self.pixel_mean, self.pixel_std)
        learns = torch.is_grad_enabled() and not (self.training and self.freeze_detector)
        with torch.set_grad_enabled(learns), self._precision():
            return self.detr(images, padding_mask), sizes

    def query_masks(self, outputs: dict[str, Any], batch_index: Tensor, query_index: Tensor) -> Tensor:
        """Mask logits (K, h, w) of queries of what :meth:`detect` returned; see ``detr_d2.modeling.predict_masks``."""
        assert self.bbox_attention is not None and self.mask_head is not None
        recompute = self.training and self.mask_checkpoint
        # What a backward pass needs stays anyway, so that chunks alone would save nothing in training.
        max_bytes = self.mask_chunk_bytes if recompute or not self.training else None
        parts = (self.bbox_attention, self.mask_head)
        with self._precision():
            return predict_masks(*parts, outputs, batch_index, query_index, max_bytes, recompute)

    def _precision(self) -> AbstractContextManager[Any]:
        return autocast(self.training_dtype if self.training else self.inference_dtype, self.device.type)

    def _target(self, item: dict[str, Any], sizes: Sizes) -> Target:
        return target_of(item, sizes.image, self.device, with_masks=self.mask_head is not None)

    def _result(self, outputs: dict[str, Any], i: int, sizes: Sizes, *matched: Tensor) -> tuple[dict[str, Any], Any]:
        """See :func:`detr_d2.structures.result_of`; no query's mask is computed twice."""

        def masks_of(queries: Tensor) -> Tensor:
            return self.query_masks(outputs, torch.full_like(queries, i), queries)

        parts = (self.postprocess, None if self.mask_head is None else masks_of)
        return result_of(outputs, i, sizes, *parts, self.panoptic_on, self.instance_on, *matched)
