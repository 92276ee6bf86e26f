"""An exported model and the example that runs it give the segments of the model itself, whatever its thresholds are."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from detr_d2.export import METADATA_KEY, describe_model
from detr_d2.meta_arch import DetrPanoptic
from detr_d2.modeling import PostProcess

from detectron2.config import CfgNode

#: Three quarters of the classes have a lower threshold than the one for all, the others are all but excluded.
CLASS_THRESHOLDS = [0.3, 0.97, 0.3, 0.3, 0.35, 0.99, 0.3, 0.4, 0.3, 0.95]
CASES: dict[str, dict[str, Any]] = {
    "score": {"score_threshold": 0.4},
    "classes": {"score_threshold": 0.9, "class_score_thresholds": CLASS_THRESHOLDS},
    "overlap": {"score_threshold": 0.3, "overlap_threshold": 0.5},
    "area": {"score_threshold": 0.3, "min_segment_area": 900},
    "all": {"class_score_thresholds": CLASS_THRESHOLDS, "overlap_threshold": 0.35, "min_segment_area": 400},
}
SIZE = (205, 143)  # width and height


def set_thresholds(model: DetrPanoptic, thresholds: dict[str, Any]) -> None:
    """The model as ``MODEL.DETR`` with these keys would build it."""
    model.postprocess = PostProcess([category.is_thing for category in model.categories], **thresholds)


@pytest.fixture
def photo(yard_folder: Path, tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    Image.open(sorted((yard_folder / "images").glob("*.jpg"))[0]).resize(SIZE).save(path)
    return path


def described_as(path: Path, about: dict[str, Any], copy: Path) -> Path:
    """The file as exporting a model of this description writes it: the graph is the same whatever the thresholds."""
    import onnx

    loaded = onnx.load(path)
    [entry] = [entry for entry in loaded.metadata_props if entry.key == METADATA_KEY]
    entry.value = json.dumps(about)
    onnx.save(loaded, copy)
    return copy


def run_example(project_folder: Path, onnx_file: Path, photo: Path) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """The map of segment ids that the example writes, and the segments that it prints."""
    example = project_folder / "examples" / "onnx_panoptic.py"
    out = photo.with_name("panoptic.png")
    command = [sys.executable, str(example), str(onnx_file), str(photo), str(out)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    channels = np.asarray(Image.open(out), np.int64)
    ids = channels[..., 0] + 256 * channels[..., 1] + 65536 * channels[..., 2]
    return ids, [json.loads(line) for line in done.stdout.splitlines()]


def own_map(model: DetrPanoptic, photo: Path) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """The model's map of an image of 205x143, whose short side the network sees at 128 pixels."""
    small = Image.open(photo).convert("RGB").resize((183, 128), Image.Resampling.BILINEAR)
    image = torch.from_numpy(np.array(small)).permute(2, 0, 1)
    with torch.no_grad():
        [result] = model([{"image": image, "height": SIZE[1], "width": SIZE[0]}])
    return result["panoptic_seg"][0].numpy(), result["panoptic_seg"][1]


@pytest.mark.parametrize("case", CASES)
def test_example_gives_the_models_segments_for_any_thresholds(
    case: str,
    model: tuple[DetrPanoptic, CfgNode],
    onnx_file: Path,
    photo: Path,
    project_folder: Path,
    tmp_path: Path,
) -> None:
    set_thresholds(model[0], CASES[case])
    expected_ids, expected = own_map(model[0], photo)

    ids, segments = run_example(
        project_folder, described_as(onnx_file, describe_model(*model), tmp_path / "m.onnx"), photo
    )

    names = [model[0].categories[segment["category_id"]].name for segment in expected]
    assert len(expected) > 1
    assert sorted(s["category"] for s in segments) == sorted(names)
    same = {s["id"]: int(np.bincount(expected_ids[ids == s["id"]]).argmax()) for s in segments} | {0: 0}
    assert len(set(same.values())) == len(same), "each segment is another one of the model's"
    assert (np.vectorize(same.get)(ids) != expected_ids).mean() < 0.01, "at most where two masks are nearly equal"


@pytest.mark.parametrize("case", ["classes", "overlap", "area"])
def test_thresholds_of_these_cases_matter(case: str, model: tuple[DetrPanoptic, CfgNode], photo: Path) -> None:
    """Or the test above could not fail."""
    set_thresholds(model[0], CASES[case])
    found = [segment["category_id"] for segment in own_map(model[0], photo)[1]]
    set_thresholds(model[0], {"score_threshold": 0.3 if case != "classes" else 0.9})

    assert found != [segment["category_id"] for segment in own_map(model[0], photo)[1]]


def test_exported_file_says_every_threshold(model: tuple[DetrPanoptic, CfgNode]) -> None:
    set_thresholds(model[0], CASES["all"])

    about = describe_model(*model)

    assert about["score_threshold"] == pytest.approx(CLASS_THRESHOLDS), "what the graph is to be given"
    assert (about["overlap_threshold"], about["min_segment_area"]) == (0.35, 400)


def test_example_keeps_the_images_size_where_none_is_set(
    model: tuple[DetrPanoptic, CfgNode], onnx_file: Path, photo: Path, project_folder: Path, tmp_path: Path
) -> None:
    set_thresholds(model[0], CASES["score"])
    kept_size = describe_model(*model) | {"min_size": 0}

    ids, segments = run_example(project_folder, described_as(onnx_file, kept_size, tmp_path / "m.onnx"), photo)

    assert ids.shape == (SIZE[1], SIZE[0])
    assert len(segments) > 1
