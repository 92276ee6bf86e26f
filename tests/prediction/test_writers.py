"""What is written is read back by this project's own commands and readers, to the pixel."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from detr_d2 import Predictor, cli
from detr_d2.labels.readers import read_exports, shape_mask
from detr_d2.prediction.prediction import Prediction
from detr_d2.prediction.writers import row_runs


@pytest.fixture(scope="module")
def results(checkpoint: Path, yard_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of all kinds, of two images that are beside them."""
    folder = tmp_path_factory.mktemp("results")
    (folder / "images").mkdir()
    for path in sorted((yard_folder / "images").iterdir())[:2]:
        shutil.copy(path, folder / "images")
    words = ["predict", str(checkpoint), str(folder / "images"), "--out", str(folder), "--write", "all"]
    assert cli.main([*words, "--device", "cpu"]) == 0
    return folder


def expected_masks(prediction: Prediction) -> list[tuple[str, bytes]]:
    return sorted((s["category"], np.packbits(prediction.mask(s)).tobytes()) for s in prediction.segments)


@pytest.mark.parametrize("kind", ["cvat-xml", "cvat-coco"])
def test_cvat_files_are_read_back_to_the_pixel(results: Path, predictor: Predictor, kind: str) -> None:
    shutil.copytree(results / "images", results / kind / "images", dirs_exist_ok=True)

    (export,) = read_exports([results / kind], "cvat")

    assert len(export.images) == 2
    for image in export.images:
        prediction = predictor(results / "images" / image.name)
        height, width = prediction.size
        found = [(label.class_name, shape_mask(label.shape, height, width)) for label in image.read_labels()]
        assert sorted((name, np.packbits(mask).tobytes()) for name, mask in found) == expected_masks(prediction)
        assert not any(label.is_crowd for label in image.read_labels())


def test_panoptic_files_are_what_check_and_pq_take(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    panoptic = str(results / "panoptic.json")

    assert cli.main(["check", panoptic, "--images", str(results / "images")]) in (0, 1)
    assert cli.main(["pq", "--gt", panoptic, "--pred", panoptic]) == 0

    assert "100.0" in capsys.readouterr().out


def test_files_are_plain_json_with_ids_of_their_own(results: Path) -> None:
    for name in ("panoptic.json", "instances.json", "cvat-coco/annotations/instances_default.json"):
        content = json.loads((results / name).read_text())
        ids = [image["id"] for image in content["images"]]
        assert ids == [1, 2] and {one["image_id"] for one in content["annotations"]} == {1, 2}


@given(arrays(bool, st.tuples(st.integers(1, 5), st.integers(1, 5))))
def test_row_runs_spell_the_mask(mask: np.ndarray) -> None:
    runs = row_runs(mask)

    spelt = np.repeat([number % 2 == 1 for number in range(len(runs))], runs)
    np.testing.assert_array_equal(spelt.reshape(mask.shape), mask)
