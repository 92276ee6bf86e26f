"""Small datasets without a fault, to be broken."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from detr_d2.check import Fault, Source, Sources, dataset_faults

Rectangle = tuple[int, int, int, int]


class Built:
    """A dataset on disk: ``folder/images``, ``folder/panoptic`` and ``folder/labels.json``.

    Args:
        folder: an empty one.
        seed: other seeds, other sizes, ids and rectangles.
        panoptic: COCO panoptic, else COCO instances.
    """

    def __init__(self, folder: Path, seed: int, panoptic: bool) -> None:
        self.folder, self.panoptic = folder, panoptic
        self.random = random.Random(seed)
        self.json_file = folder / "labels.json"
        (folder / "images").mkdir()
        (folder / "panoptic").mkdir()
        self.content: dict[str, Any] = {
            "images": [],
            "annotations": [],
            "categories": [{"id": 1, "name": "sky", "isthing": 0}, {"id": 2, "name": "wheel_loader", "isthing": 1}],
        }
        for image_id in self.random.sample(range(1, 10**6), 3):
            self._add_image(image_id)

    def _add_image(self, image_id: int) -> None:
        width, height = self.random.randint(30, 50), self.random.randint(51, 60)
        name = f"photo_{image_id}"
        noise = np.random.default_rng(image_id).integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(noise).save(self.folder / "images" / f"{name}.png")
        self.content["images"].append({"id": image_id, "file_name": f"{name}.png", "width": width, "height": height})
        left, right = (1, 2, width // 2 - 3, 20), (width // 2, 5, 10, 30)
        ids = self.random.sample(range(1, 256**3), 2)
        if self.panoptic:
            self._add_png(image_id, name, (height, width), dict(zip(ids, (left, right))))
        else:
            self._add_instances(image_id, (height, width), dict(zip(ids, (left, right))))

    def _add_png(self, image_id: int, name: str, size: tuple[int, int], boxes: dict[int, Rectangle]) -> None:
        pixels = np.zeros(size, np.int64)
        infos = []
        for number, (segment_id, (x, y, w, h)) in enumerate(boxes.items()):
            pixels[y : y + h, x : x + w] = segment_id
            info = {"id": segment_id, "category_id": number + 1, "iscrowd": 0, "area": w * h, "bbox": [x, y, w, h]}
            infos.append(info)
        self.write_ids(self.folder / "panoptic" / f"{name}.png", pixels)
        self.content["annotations"].append({"image_id": image_id, "file_name": f"{name}.png", "segments_info": infos})

    def _add_instances(self, image_id: int, size: tuple[int, int], boxes: dict[int, Rectangle]) -> None:
        for number, (annotation_id, (x, y, w, h)) in enumerate(boxes.items()):
            mask = np.zeros(size, np.uint8, order="F")
            mask[y : y + h, x : x + w] = 1
            runs = coco_mask.encode(mask)
            segmentation: Any = {"size": list(size), "counts": runs["counts"].decode()}
            if number == 0:
                segmentation = [[x, y, x + w, y, x + w, y + h, x, y + h]]
            self.content["annotations"].append(
                {
                    **{"id": annotation_id, "image_id": image_id, "category_id": number + 1, "iscrowd": 0},
                    **{"bbox": [x, y, w, h], "area": w * h, "segmentation": segmentation},
                }
            )

    @staticmethod
    def write_ids(path: Path, ids: np.ndarray) -> None:
        Image.fromarray(np.stack([ids % 256, ids // 256 % 256, ids // 65536], -1).astype(np.uint8)).save(path)

    def image(self, number: int = 0) -> Path:
        """The file of an image."""
        return self.folder / "images" / self.content["images"][number]["file_name"]

    def png(self, number: int = 0) -> Path:
        """The panoptic PNG of an image."""
        return self.folder / "panoptic" / self.content["annotations"][number]["file_name"]

    def faults(self, quick: bool = False) -> list[Fault]:
        """Write the JSON and check."""
        self.json_file.write_text(json.dumps(self.content))
        return self.check(quick)

    def check(self, quick: bool = False) -> list[Fault]:
        """Check what is there."""
        source = Source(str(self.json_file), str(self.folder / "images"), str(self.folder / "panoptic"))
        if not self.panoptic:
            source = Source(source.json_file, source.images)
        return list(dataset_faults(Sources((source,)), quick))


@pytest.fixture(scope="session")
def build() -> Callable[..., Built]:
    """Makes a dataset without a fault: ``build(folder, seed, panoptic)``."""
    return Built
