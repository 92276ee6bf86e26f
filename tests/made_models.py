"""Models that were never trained, and yet see something."""

from __future__ import annotations

import torch

from detr_d2.meta_arch import DetrPanoptic

from detectron2.config import CfgNode
from detectron2.modeling import build_model


def decided(cfg: CfgNode) -> DetrPanoptic:
    """An untrained model whose queries look at different places, so that scores, classes and masks differ."""
    torch.manual_seed(0)
    model = build_model(cfg).eval()
    with torch.no_grad():
        torch.nn.init.normal_(model.detr.query_embed.weight, std=2.0)
        torch.nn.init.normal_(model.detr.class_embed.weight, std=1.0)
        model.detr.class_embed.bias[-1] = 1.0
        for layer in model.detr.transformer.decoder.layers:
            layer.multihead_attn.in_proj_weight *= 4
        if model.bbox_attention is not None and model.mask_head is not None:
            model.bbox_attention.q_linear.weight *= 10
            model.mask_head.lay1.weight[:, model.detr.transformer.d_model :] *= 100
            for number in (1, 2, 3):
                getattr(model.mask_head, f"adapter{number}").weight *= 0.003
    return model
