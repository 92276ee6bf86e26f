"""Images with masks, boxes and names: the same promises on the fallback and on Detectron2."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from detectron2.data import MetadataCatalog
from detectron2.utils.visualizer import ColorMode, Visualizer

IMAGE = np.full((60, 90, 3), 120, dtype=np.uint8)
SEGMENTS = [
    {"id": 1, "category_id": 2, "isthing": False},
    {"id": 2, "category_id": 0, "isthing": True, "score": 0.9},
    {"id": 3, "category_id": 1, "isthing": True, "score": 0.8},
]


@pytest.fixture
def metadata(request: pytest.FixtureRequest):  # type: ignore[no-untyped-def]
    names, colors = ["cone", "drum", "sky"], [[255, 0, 0], [0, 255, 0], [0, 0, 255]]
    found = MetadataCatalog.get(f"visualizer/{request.node.name}")
    return found.set(thing_classes=names, stuff_classes=names, thing_colors=colors, stuff_colors=colors)


def panoptic_map() -> torch.Tensor:
    ids = torch.zeros((60, 90), dtype=torch.int32)
    ids[:30] = 1
    ids[35:55, 5:40] = 2
    ids[35:55, 50:85] = 3
    return ids


@pytest.mark.parametrize("mode", list(ColorMode))
@pytest.mark.parametrize(("scale", "size"), [(1.0, (60, 90)), (2.0, (120, 180)), (1.3, (78, 117))])
def test_drawings_have_the_scaled_size(metadata, mode: ColorMode, scale: float, size: tuple[int, int]) -> None:  # type: ignore[no-untyped-def]
    visualizer = Visualizer(IMAGE, metadata, scale, mode)

    image = visualizer.draw_panoptic_seg(panoptic_map(), [dict(s) for s in SEGMENTS]).get_image()

    assert image.shape == (*size, 3) and image.dtype == np.uint8
    assert len(np.unique(image.reshape(-1, 3), axis=0)) > 3


def test_nothing_to_draw_leaves_the_image_as_it_is(metadata) -> None:  # type: ignore[no-untyped-def]
    void = torch.zeros((60, 90), dtype=torch.int32)

    drawn = Visualizer(IMAGE, metadata).draw_panoptic_seg(void, [])

    np.testing.assert_array_equal(drawn.get_image(), IMAGE)


def test_stuff_is_blended_with_its_colour(metadata) -> None:  # type: ignore[no-untyped-def]
    drawn = Visualizer(IMAGE, metadata).draw_panoptic_seg(panoptic_map(), [dict(SEGMENTS[0])], alpha=0.5).get_image()

    np.testing.assert_allclose(drawn[3, 5].astype(int), [60, 60, 187], atol=2)
    np.testing.assert_array_equal(drawn[50, 20], IMAGE[50, 20])


def test_basic_strokes(metadata) -> None:  # type: ignore[no-untyped-def]
    visualizer = Visualizer(IMAGE, metadata, scale=1.0, instance_mode=ColorMode.IMAGE)
    mask = np.zeros((60, 90), dtype=np.uint8)
    mask[5:20, 5:30] = 1
    mask[10:12, 10:12] = 0
    visualizer.draw_binary_mask(mask, (1.0, 0.0, 0.0), edge_color=(1.0, 0.0, 0.0), alpha=0.5, area_threshold=0)
    visualizer.draw_box([40.0, 10.0, 80.0, 40.0], alpha=1.0, edge_color=(0.0, 1.0, 0.0))
    visualizer.draw_text("name", (45, 45), font_size=8, color=(1.0, 1.0, 1.0), horizontal_alignment="center")

    drawn = visualizer.get_output().get_image().astype(int)

    assert (visualizer.output.height, visualizer.output.width) == (60, 90)
    np.testing.assert_allclose(drawn[16, 20], [187, 60, 60], atol=2)
    assert drawn[25, 40, 1] > 200 > 150 > drawn[25, 40, 0]
    assert drawn[44:60, 30:60].min() < 60 and drawn[44:60, 30:60].max() > 150
    np.testing.assert_array_equal(drawn[30, 60], IMAGE[30, 60])


def test_drawing_is_saved_at_its_size(metadata, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    drawn = Visualizer(IMAGE, metadata, scale=2.0).draw_panoptic_seg(panoptic_map(), [dict(s) for s in SEGMENTS])

    drawn.save(str(tmp_path / "drawn.png"))

    assert Image.open(tmp_path / "drawn.png").size == (180, 120)
