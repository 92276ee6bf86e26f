"""Small exports as CVAT writes them, to be read."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

WIDTH, HEIGHT = 40, 30
SQUARE = [5.0, 6.0, 15.0, 6.0, 15.0, 16.0, 5.0, 16.0]
META = """<version>1.1</version><meta><task><mode>annotation</mode><labels>
<label><name>brick</name><color>#ff0080</color><type>any</type><attributes></attributes></label>
<label><name>pipe</name><color>#00ff00</color><type>mask</type></label>
<label><name>bone</name><type>skeleton</type></label></labels></task></meta>"""


def image_bytes(width: int = WIDTH, height: int = HEIGHT, kind: str = "JPEG", seed: int = 0) -> bytes:
    """A picture of noise."""
    file = io.BytesIO()
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(noise).save(file, kind)
    return file.getvalue()


def png(pixels: np.ndarray) -> bytes:
    """A picture of (H, W, 3) or (H, W) uint8."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def annotation(**changed: Any) -> dict[str, Any]:
    """A square, or what is said instead."""
    entry: dict[str, Any] = {"id": 1, "image_id": 1, "category_id": 1, "segmentation": [SQUARE], "iscrowd": 0}
    return {**entry, "area": 100.0, "bbox": [5, 6, 10, 10], "attributes": {"occluded": False}, **changed}


def coco(*annotations: dict[str, Any], **changed: Any) -> dict[str, Any]:
    """A JSON of one picture."""
    return {
        "licenses": [{"name": "", "id": 0, "url": ""}],
        "info": {"description": ""},
        "categories": [{"id": 1, "name": "brick", "supercategory": ""}],
        "images": [{"id": 1, "file_name": "1.jpg", "width": WIDTH, "height": HEIGHT, "coco_url": ""}],
        "annotations": list(annotations),
        **changed,
    }


def coco_files(*annotations: dict[str, Any], **changed: Any) -> dict[str, bytes]:
    """CVAT's "COCO 1.0" with one picture."""
    content = json.dumps(coco(*annotations, **changed)).encode()
    return {"annotations/instances_default.json": content, "images/default/1.jpg": image_bytes()}


def xml(shapes: str, meta: str = META) -> bytes:
    """CVAT's "CVAT for images 1.1" with one picture."""
    image = f'<image id="0" name="1.jpg" width="{WIDTH}" height="{HEIGHT}">{shapes}</image>'
    return f'<?xml version="1.0" encoding="utf-8"?>\n<annotations>{meta}{image}</annotations>'.encode()


def xml_files(shapes: str, meta: str = META) -> dict[str, bytes]:
    """The files of such an export."""
    return {"annotations.xml": xml(shapes, meta), "images/1.jpg": image_bytes()}


def mask_files(classes: np.ndarray, objects: np.ndarray | None, label_map: str) -> dict[str, bytes]:
    """CVAT's "Segmentation mask 1.1" with one picture."""
    files = {
        "labelmap.txt": label_map.encode(),
        "ImageSets/Segmentation/default.txt": b"1\n",
        "JPEGImages/1.jpg": image_bytes(),
        "SegmentationClass/1.png": png(classes),
    }
    return files if objects is None else {**files, "SegmentationObject/1.png": png(objects)}


def write_folder(folder: Path, files: dict[str, bytes]) -> Path:
    """The files in a folder."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def write_zip(path: Path, files: dict[str, bytes]) -> Path:
    """The files in a zip."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path
