"""Image, ground truth and prediction beside one another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from detr_d2.data import dataset_metadata, read_panoptic_png, register
from detr_d2.errors import DatasetError
from detr_d2.visualization import (
    draw_side_by_side,
    enlargement,
    save_image,
    save_side_by_side,
)

from detectron2.data import DatasetCatalog


@pytest.mark.parametrize(("size", "factor"), [((128, 160), 3), ((480, 300), 1), ((3000, 4000), 1), ((1, 1), 480)])
def test_enlargement_is_the_least_whole_factor(size: tuple[int, int], factor: int) -> None:
    assert enlargement(*size) == factor


def test_side_by_side_holds_three_panels_of_a_readable_size(dataset_dict: dict, scene: tuple, metadata: Any) -> None:
    row = draw_side_by_side(dataset_dict, {"panoptic_seg": (torch.from_numpy(scene[1]), scene[2])}, metadata)

    assert row.shape[1] > 3 * 480
    assert row.shape[0] > 384
    assert row[:36].min() < 100 and row[2].min() == 255, "titles are dark on white"


def test_side_by_side_names_a_ground_truth_of_another_size(dataset_dict: dict, scene: tuple, metadata: Any) -> None:
    Image.new("RGB", (7, 5)).save(dataset_dict["pan_seg_file_name"])

    with pytest.raises(DatasetError, match=r"scene\.png has 7x5 pixels.*scene\.jpg 120x96"):
        draw_side_by_side(dataset_dict, {"panoptic_seg": (scene[1], scene[2])}, metadata)


def test_side_by_side_files_are_named_as_their_images(
    dataset_dict: dict, scene: tuple, metadata: Any, tmp_path: Path
) -> None:
    def predict(image_bgr: np.ndarray) -> dict[str, Any]:
        assert image_bgr.shape == (96, 120, 3)
        return {"panoptic_seg": (torch.from_numpy(scene[1]), scene[2])}

    written = save_side_by_side(predict, [dataset_dict], metadata, tmp_path / "new" / "folder")

    assert written == [tmp_path / "new" / "folder" / "scene.png"]
    assert Image.open(written[0]).width > 3 * 480


def test_side_by_side_draws_real_ground_truth(shared_data: Path) -> None:
    folder = shared_data / "coco128_panoptic" / "val"
    panoptic = {"panoptic_json": str(folder / "panoptic.json"), "panoptic_root": str(folder / "panoptic")}
    register("visualization_test_coco", images=str(folder / "images"), **panoptic)
    record = DatasetCatalog.get("visualization_test_coco")[0]
    gt = read_panoptic_png(record["pan_seg_file_name"])
    prediction = {"panoptic_seg": (torch.from_numpy(gt), record["segments_info"])}

    row = draw_side_by_side(record, prediction, dataset_metadata("visualization_test_coco"))

    third = (row.shape[1] - 8) // 3
    panels = [row[36:-8, 8 + i * third : (i + 1) * third].astype(int) for i in range(3)]
    np.testing.assert_array_equal(panels[1], panels[2])
    assert np.abs(panels[0] - panels[1]).mean() > 5


def test_saved_image_is_whole_or_absent(tmp_path: Path) -> None:
    image = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    save_image(image, tmp_path / "a.png")

    with pytest.raises(TypeError):
        save_image(np.zeros((2, 2, 7)), tmp_path / "b.png")
    with pytest.raises(ValueError, match=r"'\.txt'; images are written as \.png"):
        save_image(image, tmp_path / "c.txt")

    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "a.png")), image)
