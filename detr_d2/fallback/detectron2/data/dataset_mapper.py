"""An independently written subset of Detectron2's API; not Detectron2."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch

from detectron2.config import CfgNode

from . import detection_utils
from . import transforms as T


class DatasetMapper:
    """What loaders use without a mapper of their own: pictures, classes and boxes; masks, if MODEL.MASK_ON."""

    def __init__(self, cfg: CfgNode, is_train: bool = True) -> None:
        self.cfg = cfg
        self.is_train = is_train
        sizes, longest = (cfg.INPUT[f"{side}_SIZE_{'TRAIN' if is_train else 'TEST'}"] for side in ("MIN", "MAX"))
        resize = T.ResizeShortestEdge(sizes, longest, cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING if is_train else "choice")
        augmentations: list[T.Augmentation] = [resize]
        if is_train and cfg.INPUT.CROP.ENABLED:
            augmentations.insert(0, T.RandomCrop(cfg.INPUT.CROP.TYPE, cfg.INPUT.CROP.SIZE))
        flip = cfg.INPUT.RANDOM_FLIP
        if is_train and flip != "none":
            augmentations.append(T.RandomFlip(horizontal=flip == "horizontal", vertical=flip == "vertical"))
        self.augmentations = T.AugmentationList(augmentations)

    def __call__(self, dataset_dict: dict[str, Any]) -> dict[str, Any]:
        """A copy of a dataset's dict with "image" (C, H, W) and, in training, "instances"."""
        record = copy.deepcopy(dataset_dict)
        aug_input = T.AugInput(detection_utils.read_image(record["file_name"], format=self.cfg.INPUT.FORMAT))
        detection_utils.check_image_size(record, aug_input.image)
        transforms = self.augmentations(aug_input)
        record["image"] = torch.as_tensor(np.ascontiguousarray(aug_input.image.transpose(2, 0, 1)))
        annotations = record.pop("annotations", None)
        if self.is_train and annotations is not None:
            record["instances"] = self._instances(annotations, transforms, aug_input.image.shape[:2])
        return record

    def _instances(self, annotations: list[dict[str, Any]], transforms: Any, image_size: tuple[int, int]) -> Any:
        entries = [entry for entry in annotations if not entry.get("iscrowd", 0)]
        for entry in entries:
            if not self.cfg.MODEL.MASK_ON:
                entry.pop("segmentation", None)
            detection_utils.transform_instance_annotations(entry, transforms, image_size)
        instances = detection_utils.annotations_to_instances(entries, image_size, self.cfg.INPUT.MASK_FORMAT)
        if self.cfg.INPUT.CROP.ENABLED and instances.has("gt_masks"):
            instances.gt_boxes = instances.gt_masks.get_bounding_boxes()
        return detection_utils.filter_empty_instances(instances)
