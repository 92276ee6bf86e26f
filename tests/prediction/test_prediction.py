"""A prediction made of a map says of it what is so, and hands it on unchanged."""

from __future__ import annotations

import io
import re

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from detr_d2 import Prediction
from detr_d2.data import Category
from detr_d2.labels.panoptic_png import ids_of_image

CATEGORIES = [Category(7, "brick", True, (200, 30, 30)), Category(3, "ground", False, (90, 90, 20))]


@pytest.fixture
def made() -> Prediction:
    ids = np.zeros((6, 8), np.int64)
    ids[3:] = 1000
    ids[1:3, 1:4] = 7
    ids[1:5, 5:7] = 9
    segments = [
        {"id": 7, "category_id": 7, "score": 0.8, "track": 4},
        {"id": 9, "category_id": 7, "score": 0.9},
        {"id": 1000, "category_id": 3},
        {"id": 5, "category_id": 3},
    ]
    return Prediction(np.full((6, 8, 3), 100, np.uint8), ids, segments, CATEGORIES, name="a.jpg")


def test_segments_are_described_by_the_map(made: Prediction) -> None:
    assert [segment["id"] for segment in made.segments] == [7, 9, 1000], "what has no pixel is left out"
    assert made.segments[0] == {
        **{"id": 7, "category_id": 7, "category": "brick", "isthing": True, "score": 0.8},
        **{"area": 6, "bbox": [1, 1, 3, 2], "track": 4},
    }
    assert made.segments[2]["score"] is None
    assert made.panoptic.dtype == np.int32


def test_quantities_count_things_and_pixels(made: Prediction) -> None:
    assert made.quantities() == [
        {"category": "brick", "count": 2, "pixels": 14, "share": 14 / 48},
        {"category": "ground", "count": None, "pixels": 20, "share": 20 / 48},
    ]
    assert repr(made) == "Prediction('a.jpg', 8x6: 2 brick, ground 42%)"


def test_instances_are_the_maps_things(made: Prediction) -> None:
    instances = made.instances

    assert instances.scores.tolist() == pytest.approx([0.9, 0.8])
    assert instances.pred_classes.tolist() == [0, 0]
    assert instances.pred_boxes.tensor.tolist() == [[5, 1, 7, 5], [1, 1, 4, 3]]
    np.testing.assert_array_equal(instances.pred_masks[1].numpy(), made.panoptic == 7)


def test_png_and_coco_files_hold_the_map(made: Prediction) -> None:
    panoptic, instances = made.to_coco(image_id=4), made.to_coco("instances", image_id=4)

    with Image.open(io.BytesIO(made.panoptic_png())) as png:
        np.testing.assert_array_equal(ids_of_image(png), made.panoptic)
    assert panoptic["images"] == [{"id": 4, "file_name": "a.jpg", "height": 6, "width": 8}]
    assert [s["area"] for s in panoptic["annotations"][0]["segments_info"]] == [6, 8, 20]
    assert [c["isthing"] for c in panoptic["categories"]] == [1, 0]
    best = instances["annotations"][0]
    assert best["bbox"] == [5, 1, 2, 4] and best["category_id"] == 7
    np.testing.assert_array_equal(coco_mask.decode(best["segmentation"]), made.panoptic == 9)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 1.0])
def test_run_lengths_are_pycocotools_own(share: float) -> None:
    random = np.random.default_rng(0)
    for size in [(1, 1), (1, 9), (7, 1), (6, 8), (30, 20)]:
        ids = (random.random(size) < share).astype(np.int32)
        made = Prediction(np.zeros((*size, 3), np.uint8), ids, [{"id": 1, "category_id": 7}], CATEGORIES)

        for segment in made.segments:
            own = coco_mask.encode(np.asfortranarray(made.mask(segment)))

            assert made.runs(segment) == {"size": list(size), "counts": own["counts"].decode()}


def test_notebook_shows_an_image_with_a_text(made: Prediction) -> None:
    page = made._repr_html_()

    assert made._repr_png_().startswith(b"\x89PNG")
    assert re.search('alt="Prediction.*2 brick', page) and "data:image/png;base64," in page


def test_contradictions_are_refused(made: Prediction) -> None:
    with pytest.raises(ValueError, match="make them equal"):
        Prediction(made.image[:3], made.panoptic, made.segments, CATEGORIES)
    with pytest.raises(ValueError, match="category_id=5 is unknown"):
        Prediction(made.image, made.panoptic, [{"id": 7, "category_id": 5}], CATEGORIES)
    with pytest.raises(ValueError, match="which the JSON doesn't list"):
        Prediction(made.image, made.panoptic, made.segments[:1], CATEGORIES)
