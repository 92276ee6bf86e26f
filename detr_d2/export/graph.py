"""The network as one graph of tensors, without Python's ifs and loops, so that it can be exported.

Masks are computed only for the queries that are kept, as at inference; how many these are depends on the image.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detr_d2.meta_arch import DetrPanoptic
from detr_d2.modeling import kept_queries, predict_masks_at_once
from detr_d2.modeling.box_ops import box_cxcywh_to_xyxy

from detectron2.modeling import Backbone

INPUT_NAMES = ("images", "sizes", "score_threshold")


class DetrGraph(nn.Module):
    """RGB images to the boxes, scores, classes and masks of the kept queries.

    Args:
        model: with or without a mask head; its parts are shared, not copied.
        channel_order: "RGB" or "BGR", which the network was trained with (``INPUT.FORMAT``).

    Raises:
        ValueError: another ``channel_order``.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(self, model: DetrPanoptic, channel_order: str = "RGB") -> None:
        super().__init__()
        if channel_order not in ("RGB", "BGR"):
            raise ValueError(f"INPUT.FORMAT is {channel_order!r}; networks of RGB and of BGR images can be exported.")
        self.detr = model.detr
        self.stride = cast(Backbone, model.detr.backbone).output_shape()[model.detr.feature].stride or 1
        self.bbox_attention = model.bbox_attention
        self.mask_head = model.mask_head
        self.is_bgr = channel_order == "BGR"
        self.register_buffer("pixel_mean", model.pixel_mean)
        self.register_buffer("pixel_std", model.pixel_std)

    @property
    def output_names(self) -> list[str]:
        """What :meth:`forward` returns."""
        return ["batch_index", "boxes", "scores", "classes"] + ["masks"] * (self.mask_head is not None)

    def forward(self, images: Tensor, sizes: Tensor, score_threshold: Tensor) -> tuple[Tensor, ...]:
        """
        Args:
            images: (B, 3, H, W) float32 in 0..255, RGB, padded on the right and at the bottom with anything.
            sizes: (B, 2) int64, height and width of each image without its padding.
            score_threshold: (K,) float32, one for each class; a query is kept if its best class isn't no-object and has
                a probability above that class's threshold.

        Returns:
            batch_index (N,) int64, the image of each kept query, in rising order; boxes (N, 4), corners x0, y0, x1, y1
            in pixels, clipped to the image; scores (N,); classes (N,) int64, contiguous; and, with a mask head, masks
            (N, H/4, W/4), logits over the padded image.
        """
        height, width = images.shape[-2:]
        outputs = self.detr(self._normalise(images, sizes), self._coarse_padding_mask(height, width, sizes))
        batch_index, query_index, scores, classes = kept_queries(outputs["pred_logits"], score_threshold)
        corner = sizes.flip(1).repeat(1, 2).to(torch.float32)  # width, height, width, height
        boxes = box_cxcywh_to_xyxy(outputs["pred_boxes"][batch_index, query_index]).clamp(0, 1) * corner[batch_index]
        found = (batch_index, boxes, scores, classes)
        return found if self.mask_head is None else (*found, self._masks(outputs, batch_index, query_index))

    def _normalise(self, images: Tensor, sizes: Tensor) -> Tensor:
        """As the meta-architecture: normalised images, and zeros for whatever the padding holds."""
        height, width = images.shape[-2:]
        normalised = ((images.flip(1) if self.is_bgr else images) - self.pixel_mean) / self.pixel_std
        return normalised.masked_fill(_outside(height, width, height, width, sizes)[:, None], 0.0)

    def _coarse_padding_mask(self, height: int, width: int, sizes: Tensor) -> Tensor:
        """(B, h, w) bool at the size of the memory, where it equals the full mask shrunk to the nearest pixel.

        Shrinking it in the graph wouldn't do: runtimes round differently where nearest falls between two pixels.
        """
        coarse_height, coarse_width = (height - 1) // self.stride + 1, (width - 1) // self.stride + 1
        return _outside(coarse_height, coarse_width, height, width, sizes)

    def _masks(self, outputs: dict[str, Any], batch_index: Tensor, query_index: Tensor) -> Tensor:
        """Mask logits (N, H/4, W/4) of the kept queries."""
        assert self.bbox_attention is not None and self.mask_head is not None
        # One more query goes first and its mask is dropped, as not every runtime can convolve a batch of none.
        batch_index, query_index = F.pad(batch_index, (1, 0)), F.pad(query_index, (1, 0))
        parts = (self.bbox_attention, self.mask_head)
        masks = predict_masks_at_once(*parts, outputs, batch_index, query_index)
        return masks[1:]


def _outside(rows: int, columns: int, height: int, width: int, sizes: Tensor) -> Tensor:
    """(B, rows, columns) bool, True on padding, of a grid over the padded images' (height, width)."""
    y = torch.arange(rows, device=sizes.device)[None, :, None] * height
    x = torch.arange(columns, device=sizes.device)[None, None, :] * width
    return (y >= sizes[:, 0, None, None] * rows) | (x >= sizes[:, 1, None, None] * columns)
