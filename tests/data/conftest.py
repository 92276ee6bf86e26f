"""A dataset dict of one image, and a yard dataset to be registered, each under a name of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from detr_d2.yard import write_yard
from tests.data.made_samples import CONE, DRUM, SKY, write_ids
from tests.data.registering import free_numbers


@pytest.fixture
def sample(tmp_path: Path) -> dict[str, Any]:
    """A dataset dict of a 30x20 image: sky above, a drum and a cone below, the rest void."""
    ids = np.zeros((20, 30), np.int64)
    ids[:8] = SKY
    ids[10:18, 4:9] = DRUM
    ids[12:20, 20:23] = CONE
    write_ids(tmp_path / "a.png", ids)
    colors = np.random.default_rng(0).integers(0, 255, (20, 30, 3), dtype=np.uint8)
    Image.fromarray(colors).save(tmp_path / "an_image.png")
    segments = [(SKY, 6, 0), (DRUM, 2, 0), (CONE, 3, 0)]
    return {
        "file_name": str(tmp_path / "an_image.png"),
        "pan_seg_file_name": str(tmp_path / "a.png"),
        "image_id": 42,
        "width": 30,
        "height": 20,
        "segments_info": [{"id": i, "category_id": c, "isthing": c < 6, "iscrowd": crowd} for i, c, crowd in segments],
    }


@pytest.fixture
def name() -> str:
    """A dataset name that nothing has used."""
    return f"test_registration_{next(free_numbers)}"


@pytest.fixture
def yard(tmp_path: Path) -> Path:
    """A small yard dataset."""
    return write_yard(tmp_path / "yard", train=2, val=1, width=96, height=80)
