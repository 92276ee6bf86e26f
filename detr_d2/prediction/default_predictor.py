"""From a config and a checkpoint to results for single images, as Detectron2's users know it."""

from __future__ import annotations

import detr_d2.meta_arch  # noqa: F401  registers the model that the config names
from detr_d2.checkpoint import DetrCheckpointer
from detr_d2.config import check_device
from detr_d2.data.augmentation import ResizeShortestEdge
from detr_d2.errors import WeightsError

from detectron2.config import CfgNode
from detectron2.engine import DefaultPredictor


class DetrPredictor(DefaultPredictor):
    """Detectron2's predictor, for any checkpoint that the project reads, whole ones only.

    Call it with an image, (H, W, 3) uint8 BGR; it returns the model's result for it, at the image's own size.

    Args:
        cfg: with the checkpoint in ``MODEL.WEIGHTS`` and the datasets registered. ``MODEL.DETR.FREEZE_DETECTOR`` is
            about training and doesn't matter here.

    Raises:
        ConfigError: ``MODEL.DEVICE`` isn't there.
        MissingFileError: there is no such checkpoint.
        WeightsError: no checkpoint is named, it can't be read, or it is another model's, so that a part of this one
            would stay random.
    """

    def __init__(self, cfg: CfgNode) -> None:
        check_device(cfg)
        if not cfg.MODEL.WEIGHTS:
            raise WeightsError(
                "MODEL.WEIGHTS is empty, and a model that never learnt sees nothing. Name a checkpoint, "
                "for example MODEL.WEIGHTS output/detr_panoptic_R50/model_final.pth."
            )
        unloaded = cfg.clone()
        unloaded.defrost()
        unloaded.MODEL.WEIGHTS = ""  # Detectron2's checkpointer would not know of published weights and categories
        unloaded.MODEL.DETR.FREEZE_DETECTOR = False
        super().__init__(unloaded)
        self.aug = ResizeShortestEdge([cfg.INPUT.MIN_SIZE_TEST] * 2, cfg.INPUT.MAX_SIZE_TEST)
        DetrCheckpointer(self.model).load(cfg.MODEL.WEIGHTS)
