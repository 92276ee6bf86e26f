"""COCO panoptic files for ``detr-d2 pq``, and what it says of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from detr_d2 import cli
from detr_d2.errors import DatasetError

Content = dict[str, Any]
CATEGORIES = [
    {"id": 9, "name": "ground", "isthing": 0},
    {"id": 7, "name": "cone", "isthing": 1},
    {"id": 3, "name": "sky", "isthing": 0},
    {"id": 5, "name": "absent", "isthing": 1},
]
CLASS_OF = {1: 3, 300: 9, 2: 7, 70000: 7, 5: 7}
HEIGHT, WIDTH = 20, 30


def image_ids(number: int, shift: int = 0) -> np.ndarray:
    """Sky (1), ground (300), two cones (2, 70000), a crowd of cones (5), and a strip of void."""
    ids = np.ones((HEIGHT, WIDTH), dtype=np.int64)
    ids[10:] = 300
    ids[5:13, 2 + number : 9 + number] = 2
    ids[6:15, 14:19] = 70000
    ids[14:19, 22:29] = 5
    ids[:, :1] = 0
    return np.roll(ids, shift, axis=1)


def save_png(ids: np.ndarray, path: Path) -> None:
    rgb = np.stack([ids % 256, ids // 256 % 256, ids // 256**2], axis=-1)
    Image.fromarray(rgb.astype(np.uint8)).save(path)


def write_files(folder: Path, name: str, images: int = 4, shift: int = 0) -> Content:
    """NAME.json and the PNGs of NAME/; its content."""
    (folder / name).mkdir(parents=True)
    annotations = []
    for number in range(images):
        ids = image_ids(number, shift)
        save_png(ids, folder / name / f"{number}.png")
        segments = [
            {"id": i, "category_id": CLASS_OF[i], "area": int((ids == i).sum()), "iscrowd": int(i == 5)}
            for i in np.unique(ids).tolist()
            if i
        ]
        annotations.append({"image_id": 10 + number, "file_name": f"{number}.png", "segments_info": segments})
    entries = [{"id": 10 + number, "height": HEIGHT, "width": WIDTH} for number in range(images)]
    content = {"images": entries, "annotations": annotations, "categories": CATEGORIES}
    save(folder, name, content)
    return content


def save(folder: Path, name: str, content: Content) -> None:
    (folder / f"{name}.json").write_text(json.dumps(content))


def pq(folder: Path, *words: str) -> int:
    return cli.main(["pq", "--gt", str(folder / "truth.json"), "--pred", str(folder / "found.json"), *words])


def numbers(folder: Path, *words: str) -> Content:
    assert pq(folder, "--json", str(folder / "pq.json"), *words) == 0
    return json.loads((folder / "pq.json").read_text())


def refusal(folder: Path, *words: str) -> str:
    with pytest.raises(DatasetError) as error:
        pq(folder, *words)
    return str(error.value)
