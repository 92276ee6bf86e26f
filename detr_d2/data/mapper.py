"""From a dataset dict to what the model is given: the image, and in training its segments."""

import copy
import logging
from typing import Any

import numpy as np
import pycocotools.mask as coco_mask
import torch

from detr_d2.labels.image_reading import fetched, read_dataset_image
from detr_d2.labels.panoptic_png import size_message
from detr_d2.labels.rules.rule import Place, raise_errors

from detectron2.config import CfgNode, configurable
from detectron2.data import detection_utils
from detectron2.data import transforms as T
from detectron2.structures import BitMasks, Boxes, Instances

from ..errors import ConfigError
from .augmentation import build_augmentations
from .segments import LabelledImage, find_segments, number_segments, read_panoptic_png, shrink_masks, transform_numbers

logger = logging.getLogger(__name__)


class DetrPanopticDatasetMapper:
    """Reads and augments one image, and turns its panoptic PNG (or its boxes) into targets: things and stuff alike.

    Crowds are left out. Segments without a pixel are left out too and counted, each data-loader worker for itself:
    ``num_absent`` of them were listed in the JSON but not in the PNG, ``num_cropped`` were lost to the augmentation.

    Args:
        is_train: whether to give targets.
        augmentations: what happens to image and targets, in this order.
        image_format: ``"RGB"`` or ``"BGR"``.
        with_masks: whether targets have masks, or boxes only.
        mask_stride: masks have every ``mask_stride``-th pixel in both directions, see ``segments.segment_masks``.
    """

    @configurable
    def __init__(
        self,
        is_train: bool,
        *,
        augmentations: list[T.Augmentation],
        image_format: str = "RGB",
        with_masks: bool = True,
        mask_stride: int = 1,
    ) -> None:
        if mask_stride < 1:
            raise ConfigError(
                f"INPUT.MASK_STRIDE={mask_stride}; allowed are 1 (whole masks) and more, 4 fits the model."
            )
        self.is_train = is_train
        self.augmentations = T.AugmentationList(augmentations)
        self.image_format = image_format
        self.with_masks = with_masks
        self.mask_stride = mask_stride
        self.num_absent = 0
        self.num_cropped = 0

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool = True) -> dict[str, Any]:
        """The arguments that a config stands for; masks come with ``MODEL.DETR.MASK_ON``."""
        return {
            "is_train": is_train,
            "augmentations": build_augmentations(cfg, is_train),
            "image_format": cfg.INPUT.FORMAT,
            "with_masks": cfg.MODEL.DETR.MASK_ON,
            "mask_stride": cfg.INPUT.MASK_STRIDE,
        }

    def __call__(self, dataset_dict: dict[str, Any]) -> dict[str, Any]:
        """
        Args:
            dataset_dict: of one image; its ground truth is ``segments_info`` with ``pan_seg_file_name``, or
                ``annotations``.

        Returns:
            ``image`` (3, H, W) uint8, augmented; ``height``, ``width`` of the upright original; ``file_name``,
            ``image_id``; in training ``instances`` with ``gt_classes`` (N,), ``gt_boxes`` in pixels of ``image`` and,
            if wanted and known, ``gt_masks``: (N, H, W), or smaller by ``mask_stride``.

        Raises:
            MissingFileError: an image isn't there.
            DatasetError: an image can't be read, or image, PNG and JSON contradict one another.
        """
        if self.is_train and "segments_info" in dataset_dict:
            return self.to_example(self.read_labelled(dataset_dict), dataset_dict)
        image = self._read(dataset_dict)
        result, transforms = self._augmented(image, dataset_dict)
        if self.is_train and "annotations" in dataset_dict:
            sizes = image.shape[:2], tuple(result["image"].shape[1:])
            result["instances"] = self._box_targets(dataset_dict["annotations"], *sizes, transforms)
        return result

    def read_labelled(self, dataset_dict: dict[str, Any]) -> LabelledImage:
        """An image with its panoptic ground truth, as both are in the files; raises as a call does."""
        image, infos = self._read(dataset_dict), dataset_dict["segments_info"]
        png, image_id = dataset_dict["pan_seg_file_name"], dataset_dict.get("image_id")
        ids = read_panoptic_png(png, image_id)
        if ids.shape != image.shape[:2]:
            message = size_message((ids.shape[1], ids.shape[0]), (image.shape[1], image.shape[0]))
            raise_errors([Place(png, image_id).found("png-size", message)])
        numbers = number_segments(ids, [info["id"] for info in infos], png, image_id)
        return LabelledImage(image, numbers, infos, f"image id {image_id!r} ({dataset_dict['file_name']})")

    def to_example(self, scene: LabelledImage, dataset_dict: dict[str, Any]) -> dict[str, Any]:
        """A scene, augmented, as the model is given it; file name and image id are those of ``dataset_dict``."""
        result, transforms = self._augmented(scene.image, dataset_dict)
        moved = transform_numbers(scene.numbers, transforms)
        wanted = scene.wanted
        segments = find_segments(moved, wanted, self.mask_stride if self.with_masks else None)
        if len(segments.numbers) < wanted.sum():
            self._count_dropped(scene.numbers, wanted, len(segments.numbers), scene.name)
        targets = Instances(moved.shape)
        classes = [scene.segments[number]["category_id"] for number in segments.numbers]
        targets.gt_classes = torch.tensor(classes, dtype=torch.int64)
        targets.gt_boxes = Boxes(torch.from_numpy(segments.boxes))
        if self.with_masks:
            targets.gt_masks = BitMasks(torch.from_numpy(segments.masks))
        return {**result, "instances": targets}

    def _augmented(self, image: np.ndarray, dataset_dict: dict[str, Any]) -> tuple[dict[str, Any], T.TransformList]:
        """The image and what is known of it, without ground truth; and what was done to it."""
        augmented = T.AugInput(image)
        transforms = self.augmentations(augmented)
        pixels = np.ascontiguousarray(augmented.image.transpose(2, 0, 1))
        result: dict[str, Any] = {key: dataset_dict[key] for key in ("file_name", "image_id") if key in dataset_dict}
        result.update(image=torch.from_numpy(pixels), height=image.shape[0], width=image.shape[1])
        return result, transforms

    def _read(self, dataset_dict: dict[str, Any]) -> np.ndarray:
        """The upright image (H, W, 3), of the size that the JSON says."""
        path, image_id = dataset_dict["file_name"], dataset_dict.get("image_id")
        image = read_dataset_image(path, self.image_format, image_id)
        height, width = image.shape[:2]
        said = {"width": dataset_dict.get("width", width), "height": dataset_dict.get("height", height)}
        if said != {"width": width, "height": height}:
            from detr_d2.labels.rules.image import image_file_rules, read_image_file  # with what draws polygons

            raise_errors(image_file_rules(read_image_file(fetched(path)), image_id, said))
        return image

    def _count_dropped(self, numbers: np.ndarray, wanted: np.ndarray, kept: int, name: str) -> None:
        """Add up the segments without a pixel; the first one of each kind is worth a line in the log."""
        in_png = np.bincount(numbers.ravel(), minlength=len(wanted) + 1)[1:] > 0
        absent = int((wanted & ~in_png).sum())
        cropped = int(wanted.sum()) - kept - absent
        if absent and not self.num_absent:
            logger.warning("%s: %d segments of its JSON have no pixel in its PNG and are left out.", name, absent)
        if cropped and not self.num_cropped:
            logger.info("%s: %d segments fell to crop or resize and are left out, as in later images.", name, cropped)
        self.num_absent += absent
        self.num_cropped += cropped

    def _box_targets(
        self,
        annotations: list[dict[str, Any]],
        size: tuple[int, ...],
        moved_size: tuple[int, ...],
        transforms: T.TransformList,
    ) -> Instances:
        """Targets from Detectron2's annotations, before and after augmentation of these sizes; masks only if all have.

        Polygons are drawn first: a crop of polygons needs shapely, and may leave something else of them.
        """
        objects = [copy.deepcopy(entry) for entry in annotations if not entry.get("iscrowd", 0)]
        has_masks = self.with_masks and bool(objects) and all(entry.get("segmentation") for entry in objects)
        for entry in objects:
            segmentation = entry.pop("segmentation", None)
            if has_masks:
                entry["segmentation"] = _drawn(segmentation, size) if isinstance(segmentation, list) else segmentation
        shape = (moved_size[0], moved_size[1])
        moved = [detection_utils.transform_instance_annotations(entry, transforms, shape) for entry in objects]
        instances = detection_utils.annotations_to_instances(moved, shape, mask_format="bitmask")
        kept = detection_utils.filter_empty_instances(instances, by_mask=has_masks)
        if len(kept) < len(instances):
            self.num_cropped += len(instances) - len(kept)
        if has_masks and self.mask_stride > 1 and len(kept):
            kept.gt_masks = BitMasks(torch.from_numpy(shrink_masks(kept.gt_masks.tensor.numpy(), self.mask_stride)))
        return kept


def _drawn(polygons: list[list[float]], size: tuple[int, ...]) -> dict[str, Any]:
    """The union of polygons, each x0, y0, x1, y1, ... in pixels, as an RLE of an image of (height, width)."""
    runs: dict[str, Any] = coco_mask.merge(coco_mask.frPyObjects(polygons, *size))
    return runs
