"""What a program needs to know beside the graph, so that an exported file is enough: classes, colours, thresholds."""

from __future__ import annotations

from typing import Any

import detr_d2
from detr_d2.checkpoint.categories import to_record
from detr_d2.meta_arch import DetrPanoptic

from detectron2.config import CfgNode

#: The entry of an ONNX file's ``metadata_props`` that holds this as JSON; a ``.pt2`` has it as the extra file
#: ``detr_d2.json``.
METADATA_KEY = "detr_d2"


def describe_model(model: DetrPanoptic, cfg: CfgNode) -> dict[str, Any]:
    """Plain data about a model.

    Args:
        model: its classes, thresholds and whether it has masks.
        cfg: of which the sizes of test images are taken.

    Returns:
        version of detr_d2; categories, a list whose index is what the graph calls a class, each with id (of the
        dataset), name, isthing (0 or 1) and color (RGB); has_masks; score_threshold, which the graph is given, one for
        each class; overlap_threshold, see :func:`detr_d2.modeling.panoptic_map`; min_segment_area in pixels of the
        original image; instance_score_threshold, of single boxes and masks of things; min_size and max_size, the sides
        in pixels between which images are resized.
    """
    thresholds = model.postprocess
    return {
        "version": detr_d2.__version__,
        "categories": to_record(model.categories),
        "has_masks": model.mask_head is not None,
        "score_threshold": thresholds.score_thresholds().tolist(),
        "overlap_threshold": float(thresholds.overlap_threshold),
        "min_segment_area": int(thresholds.min_segment_area),
        "instance_score_threshold": float(thresholds.instance_score_threshold),
        "min_size": int(cfg.INPUT.MIN_SIZE_TEST),
        "max_size": int(cfg.INPUT.MAX_SIZE_TEST),
    }
