"""A scene, its metadata, and its dataset dict."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.visualization.made_scene import COLORS, NAMES

from detectron2.data import MetadataCatalog


@pytest.fixture
def metadata() -> Any:
    name = "visualization_test"
    if name in MetadataCatalog.list():
        MetadataCatalog.remove(name)
    return MetadataCatalog.get(name).set(
        thing_classes=NAMES, stuff_classes=NAMES, thing_colors=COLORS, stuff_colors=COLORS
    )


@pytest.fixture
def scene() -> tuple[np.ndarray, np.ndarray, list[dict[str, Any]]]:
    """A grey image of 96x120: sky above, ground below, one brick; a column of void."""
    ids = np.full((96, 120), 2, dtype=np.int32)
    ids[:48] = 1
    ids[55:85, 30:70] = 3
    ids[:, 115:] = 0
    segments = [
        {"id": 1, "category_id": 2, "isthing": False, "score": 0.99},
        {"id": 2, "category_id": 3, "isthing": False, "score": 0.98},
        {"id": 3, "category_id": 0, "isthing": True, "score": 0.91},
    ]
    return np.full((96, 120, 3), 128, dtype=np.uint8), ids, segments


@pytest.fixture
def dataset_dict(tmp_path: Path, scene: tuple) -> dict[str, Any]:
    image, ids, segments = scene
    Image.fromarray(image).save(tmp_path / "scene.jpg")
    Image.fromarray(np.stack([ids, ids * 0, ids * 0], -1).astype(np.uint8)).save(tmp_path / "scene.png")
    return {
        "file_name": str(tmp_path / "scene.jpg"),
        "pan_seg_file_name": str(tmp_path / "scene.png"),
        "segments_info": [{key: value for key, value in segment.items() if key != "score"} for segment in segments],
    }
