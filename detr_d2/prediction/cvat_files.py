"""Predictions as CVAT imports them: "CVAT for images 1.1" and "COCO 1.0", every segment as a mask, to the pixel.

Source: CVAT's "XML annotation format" document: masks are run lengths row by row inside their box, pixels off first.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from xml.sax.saxutils import escape, quoteattr

import numpy as np
from pycocotools import mask as coco_mask

from detr_d2.data import Category
from detr_d2.prediction.prediction import Prediction

XML_TAIL = "</annotations>\n"


def xml_head(categories: Sequence[Category]) -> str:
    """The begin of a "CVAT for images 1.1" file: its labels and their colours."""
    labels = "".join(
        f"<label><name>{_text(category.name)}</name><color>#{bytes(category.color).hex()}</color>"
        "<type>any</type><attributes></attributes></label>\n"
        for category in categories
    )
    head = '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version>\n'
    return f"{head}<meta><job><labels>\n{labels}</labels></job></meta>\n"


def xml_image(image: Mapping[str, Any], shapes: Iterable[str]) -> str:
    """An image's part of a "CVAT for images 1.1" file.

    Args:
        image: "id", "file_name", "width" and "height".
        shapes: see :func:`xml_shapes`.
    """
    name = quoteattr(_text(image["file_name"], escaped=False))
    sides = f'width="{image["width"]}" height="{image["height"]}"'
    return f'<image id="{image["id"] - 1}" name={name} {sides}>\n{"".join(shapes)}</image>\n'


def xml_shapes(prediction: Prediction) -> list[str]:
    """The segments as masks, or boxes where there is no map, one element a shape; stuff below things."""
    if prediction.panoptic is None:
        return _xml_boxes(prediction)
    shapes = []
    for segment in sorted(prediction.segments, key=lambda segment: bool(segment["isthing"])):
        left, top, width, height = segment["bbox"]
        window = prediction.panoptic[top : top + height, left : left + width] == segment["id"]
        place = f'left="{left}" top="{top}" width="{width}" height="{height}" z_order="{int(segment["isthing"])}"'
        shapes.append(
            f'<mask label={quoteattr(_text(segment["category"], escaped=False))} source="auto" occluded="0" '
            f'rle="{", ".join(map(str, row_runs(window)))}" {place}></mask>\n'
        )
    return shapes


def _xml_boxes(prediction: Prediction) -> list[str]:
    instances = prediction.instances
    names = [prediction.categories[index].name for index in instances.pred_classes.tolist()]
    corners = ("xtl", "ytl", "xbr", "ybr")
    return [
        f'<box label={quoteattr(_text(name, escaped=False))} source="auto" occluded="0" '
        + " ".join(f'{corner}="{value:.2f}"' for corner, value in zip(corners, box))
        + ' z_order="1"></box>\n'
        for name, box in zip(names, instances.pred_boxes.tensor.tolist())
    ]


def row_runs(mask: np.ndarray) -> list[int]:
    """Pixels off, on, off, ... in turn, row by row, of (H, W) bool; CVAT's run lengths."""
    flat = np.ascontiguousarray(mask).ravel()
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    runs: list[int] = np.diff(changes, prepend=0, append=flat.size).tolist()
    return [0, *runs] if flat.size and flat[0] else runs


def coco_annotations(prediction: Prediction) -> list[dict[str, Any]]:
    """The segments as "COCO 1.0" has them: each a mask in COCO's compressed run lengths, stuff as well.

    ``iscrowd`` is 0: CVAT writes 1 for masks that were painted, and loaders leave those out. Datumaro, by which CVAT
    imports, makes masks of run lengths whatever it is.
    """
    if prediction.panoptic is None:
        return [{**one, "segmentation": []} for one in prediction.to_coco("instances")["annotations"]]
    annotations = []
    for segment in prediction.segments:
        runs = coco_mask.encode(np.asfortranarray(prediction.mask(segment).view(np.uint8)))
        segmentation = {"size": list(runs["size"]), "counts": runs["counts"].decode()}
        annotation = {key: segment[key] for key in ("category_id", "area", "bbox")}
        annotations.append({**annotation, "iscrowd": 0, "segmentation": segmentation})
    return annotations


def _text(name: str, escaped: bool = True) -> str:
    """A name as XML may hold it: without characters that XML forbids."""
    plain = re.sub("[\x00-\x08\x0b-\x1f\ud800-\udfff]", "", name)
    return escape(plain) if escaped else plain
