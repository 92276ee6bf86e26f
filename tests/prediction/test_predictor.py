"""One line from a checkpoint to a result, whatever the image comes as."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from detr_d2 import Predictor
from detr_d2.errors import ConfigError
from detr_d2.prediction.images import ImageError, read_image


def test_all_kinds_of_image_give_the_same_prediction(predictor: Predictor, photo: Path) -> None:
    array = read_image(photo)
    tensor = torch.from_numpy(array.transpose(2, 0, 1).copy())
    kinds = [str(photo), photo, Image.open(photo), array, np.dstack([array, array[:, :, 0]]), tensor, tensor / 255]

    maps = [predictor(image).panoptic for image in [*kinds, photo.read_bytes()]]

    assert maps[0].max() > 0
    for other in maps[1:]:
        np.testing.assert_array_equal(other, maps[0])


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (np.zeros((4, 4, 3), np.float32), "an array of float32; give uint8"),
        (np.zeros((4, 4, 2), np.uint8), "is no image"),
        (np.zeros((0, 4, 3), np.uint8), "is no image"),
        (torch.zeros(4, 4, 3), "is no image"),
        (torch.full((3, 4, 4), 7.0), "floats from 7 to 7"),
        (b"text", "can't be read as an image"),
        ("nowhere.jpg", "nowhere.jpg: can't be read"),
    ],
)
def test_what_is_no_image_is_refused_in_words(predictor: Predictor, image: object, reason: str) -> None:
    with pytest.raises(ImageError, match=reason):
        predictor(image)


def test_segments_are_those_of_the_map_with_the_queries_they_are_made_of(predictor: Predictor, photo: Path) -> None:
    prediction = predictor(photo)

    assert {segment["id"] for segment in prediction.segments} == set(np.unique(prediction.panoptic)) - {0}
    queries = [query for segment in prediction.segments for query in segment["queries"]]
    assert len(queries) == len(set(queries)) and max(queries) < 12
    assert all(len(segment["queries"]) == 1 for segment in prediction.segments if segment["isthing"])


def test_batch_equals_one_by_one(predictor: Predictor, yard_folder: Path) -> None:
    images = [read_image(path) for path in sorted((yard_folder / "images").iterdir())[:3]]

    together = predictor.batch(images)

    for image, prediction in zip(images, together, strict=True):
        assert (prediction.panoptic == predictor(image).panoptic).mean() > 0.99, "the last digits may differ"


def test_batch_takes_images_of_different_sizes(predictor: Predictor, photo: Path) -> None:
    image = read_image(photo)

    predictions = predictor.batch([image, image[:90, :70]])

    assert [prediction.panoptic.shape for prediction in predictions] == [(128, 160), (90, 70)]


def test_thresholds_and_classes_are_arguments(checkpoint: Path, photo: Path) -> None:
    everything = Predictor(checkpoint, device="cpu")(photo)
    wanted = everything.segments[0]["category"]

    none = Predictor(checkpoint, device="cpu", score_threshold=1)(photo)
    one = Predictor(checkpoint, device="cpu", classes=[wanted])(photo)

    assert none.segments == [] and not none.panoptic.any()
    assert {segment["category"] for segment in one.segments} == {wanted}
    np.testing.assert_array_equal(one.panoptic > 0, np.isin(everything.panoptic, [s["id"] for s in one.segments]))
    with pytest.raises(ConfigError, match="knows no class 'brik'; it knows brick"):
        Predictor(checkpoint, device="cpu", classes=["brik"])


def test_instances_may_be_the_models_own(checkpoint: Path, photo: Path) -> None:
    own = Predictor(checkpoint, device="cpu", instances=True)(photo).instances
    of_map = Predictor(checkpoint, device="cpu")(photo).instances

    assert len(own) >= len(of_map) > 0
    assert own.pred_masks.shape[1:] == of_map.pred_masks.shape[1:] == (128, 160)
    assert int(of_map.pred_masks.sum(0).max()) == 1, "those of the map don't overlap"


def test_model_without_masks_predicts_boxes(boxes_checkpoint: Path, photo: Path) -> None:
    prediction = Predictor(boxes_checkpoint, device="cpu")(photo)

    assert prediction.panoptic is None and prediction.segments == []
    assert len(prediction.instances) > 0 and not prediction.instances.has("pred_masks")
    assert prediction.draw().size == (480, 384)
