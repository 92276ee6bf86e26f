"""An independently written subset of Detectron2's API; not Detectron2. The steps that mappers are made of."""

from typing import Any

import numpy as np
import pycocotools.mask as coco_mask
import torch
from PIL import ExifTags, Image

from detectron2.structures import BitMasks, Boxes, BoxMode, Instances
from detectron2.utils.file_io import PathManager

from . import transforms as T

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # fmt: skip


def read_image(file_name: str, format: str | None = None) -> np.ndarray:
    """Read an image, turned upright as its EXIF data say.

    Args:
        format: "BGR" or a mode of PIL such as "RGB" or "L"; None keeps the file's.

    Returns:
        (H, W, C) uint8, also for "L"; without a format, an array as PIL makes it.
    """
    with PathManager.open(file_name, "rb") as file:
        image = _upright(Image.open(file))
        array = np.asarray(image.convert("RGB" if format == "BGR" else format) if format else image)
    if format == "BGR":
        return array[:, :, ::-1]
    return array[:, :, None] if format == "L" else array


def _upright(image: Image.Image) -> Image.Image:
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # PIL raises all sorts of errors on damaged EXIF data, which are no reason to lose the image.
        return image
    return image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image


def transform_instance_annotations(
    annotation: dict[str, Any], transforms: Any, image_size: tuple[int, int]
) -> dict[str, Any]:
    """Transform, in place, the box and the segmentation of one annotation.

    Args:
        annotation: "bbox", "bbox_mode", and maybe "segmentation": an RLE, which becomes an (H, W) array.
        transforms: a transform or a list of them.
        image_size: (height, width) after it; boxes are clipped to it.

    Raises:
        ValueError: the segmentation isn't an RLE.
    """
    if isinstance(transforms, (tuple, list)):
        transforms = T.TransformList(transforms)
    height, width = image_size
    box = BoxMode.convert(annotation["bbox"], annotation["bbox_mode"], BoxMode.XYXY_ABS)
    box = transforms.apply_box(np.array([box]))[0].clip(min=0)
    annotation.update(bbox=np.minimum(box, [width, height, width, height]), bbox_mode=BoxMode.XYXY_ABS)
    if "segmentation" in annotation:
        if not isinstance(runs := annotation["segmentation"], dict):
            raise ValueError(f"Cannot transform segmentation of type {type(runs)}; without Detectron2, only RLE dicts.")
        annotation["segmentation"] = transforms.apply_segmentation(coco_mask.decode(runs))
    return annotation


def annotations_to_instances(
    annos: list[dict[str, Any]], image_size: tuple[int, int], mask_format: str = "polygon"
) -> Instances:
    """Transformed annotations of one image of (height, width): ``gt_boxes``, ``gt_classes``, ``gt_masks`` if known.

    Raises:
        ValueError: masks in a format other than "bitmask".
    """
    boxes = [BoxMode.convert(entry["bbox"], entry["bbox_mode"], BoxMode.XYXY_ABS) for entry in annos]
    instances = Instances(image_size)
    instances.gt_boxes = Boxes(np.stack(boxes) if boxes else np.zeros((0, 4)))
    instances.gt_classes = torch.tensor([int(entry["category_id"]) for entry in annos], dtype=torch.int64)
    if annos and "segmentation" in annos[0]:
        if mask_format != "bitmask":
            raise ValueError(f"Without Detectron2 masks have the format 'bitmask' only, not {mask_format!r}.")
        instances.gt_masks = BitMasks(np.stack([entry["segmentation"] for entry in annos]))
    return instances


def filter_empty_instances(instances: Instances, *, by_mask: bool = True, box_threshold: float = 1e-5) -> Instances:
    """Instances whose box has sides over ``box_threshold`` pixels and whose mask, if there is one, isn't empty."""
    keep = instances.gt_boxes.nonempty(threshold=box_threshold)
    if by_mask and instances.has("gt_masks"):
        keep &= instances.gt_masks.nonempty()
    return instances[keep]
