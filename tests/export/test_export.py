"""Exported models give what the model itself gives, for images of any size and number, and without torch."""

from __future__ import annotations

import ast
import functools
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from detr_d2.export import METADATA_KEY, DetrGraph, describe_model, export_model
from detr_d2.meta_arch import DetrPanoptic
from detr_d2.modeling import kept_queries, predict_masks
from detr_d2.modeling.box_ops import box_cxcywh_to_xyxy
from tests.made_models import decided

MASKS = ("MODEL.DETR.MASK_ON", True)
CLASSES = 10
SIZES = [[(128, 160)], [(97, 131), (120, 77)], [(64, 201), (90, 90), (41, 33)]]
Threshold = float | Sequence[float]
Run = Callable[[Tensor, Tensor, Threshold], list[np.ndarray]]


def onnx_run(path: Path) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def run(images: Tensor, sizes: Tensor, threshold: Threshold) -> list[np.ndarray]:
        inputs = {"images": images, "sizes": sizes, "score_threshold": for_each_class(threshold)}
        return session.run(None, {name: value.numpy() for name, value in inputs.items()})

    return run


@functools.cache
def torch_run(path: Path) -> Run:
    program = torch.export.load(path).module()
    return lambda images, sizes, threshold: [x.numpy() for x in program(images, sizes, for_each_class(threshold))]


def for_each_class(threshold: Threshold) -> Tensor:
    return torch.tensor([threshold] * CLASSES if isinstance(threshold, float) else list(threshold))


def eager(model: DetrPanoptic, unpadded: Sequence[Tensor], threshold: Threshold) -> list[np.ndarray]:
    """The same from the model's own parts, image by image in one padded batch."""
    images, sizes = padded([(image - model.pixel_mean) / model.pixel_std for image in unpadded])
    padding = torch.ones(len(images), *images.shape[-2:], dtype=torch.bool)
    for mask, (height, width) in zip(padding, sizes.tolist()):
        mask[:height, :width] = False
    found = []
    with torch.no_grad():
        outputs = model.detr(images, padding)
        for i, (height, width) in enumerate(sizes.tolist()):
            _, kept, scores, classes = kept_queries(outputs["pred_logits"][i, None], for_each_class(threshold))
            batch_index = torch.full_like(kept, i)
            size = torch.tensor([width, height, width, height])
            boxes = box_cxcywh_to_xyxy(outputs["pred_boxes"][i, kept]).clamp(0, 1) * size
            found.append([batch_index, boxes, scores, classes])
            if model.mask_head is not None and model.bbox_attention is not None:
                found[-1].append(predict_masks(model.bbox_attention, model.mask_head, outputs, batch_index, kept))
    return [torch.cat(values).numpy() for values in zip(*found)]


def padded(unpadded: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    sizes = torch.tensor([image.shape[-2:] for image in unpadded])
    images = torch.zeros(len(unpadded), 3, *sizes.amax(0).tolist())
    for place, image in zip(images, unpadded):
        place[:, : image.shape[1], : image.shape[2]] = image
    return images, sizes


def photos(files: Sequence[Path], sizes: Sequence[tuple[int, int]]) -> list[Tensor]:
    """RGB images (3, H, W), float32 in 0..255, of the given heights and widths."""
    images = [Image.open(file).convert("RGB").resize((width, height)) for file, (height, width) in zip(files, sizes)]
    return [torch.from_numpy(np.array(image, np.float32)).permute(2, 0, 1) for image in images]


def yard_files(folder: Path) -> list[Path]:
    return sorted((folder / "images").glob("*.jpg"))


def assert_parity(run: Run, model: DetrPanoptic, images: Sequence[Tensor], threshold: Threshold = 0.3) -> None:
    expected = eager(model, images, threshold)
    found = run(*padded(images), threshold)
    sides = max(max(image.shape[-2:]) for image in images)

    assert len(expected[0]) > 0
    assert [x.shape for x in found] == [x.shape for x in expected]
    assert [x.dtype for x in found] == [x.dtype for x in expected]
    assert np.array_equal(found[0], expected[0]) and np.array_equal(found[3], expected[3])
    np.testing.assert_allclose(found[1] / sides, expected[1] / sides, atol=1e-4, rtol=0)
    np.testing.assert_allclose(found[2], expected[2], atol=1e-4, rtol=0)
    # Attention is multiplied by hundreds above, so the last digits of float32 differ from processor to processor.
    np.testing.assert_allclose(found[4], expected[4], atol=5e-4, rtol=1e-4)


@pytest.mark.parametrize("sizes", SIZES)
def test_onnx_equals_eager_for_any_size_and_batch(sizes, model, onnx_file, yard_folder):
    assert_parity(onnx_run(onnx_file), model[0], photos(yard_files(yard_folder), sizes))


@pytest.mark.parametrize("sizes", SIZES)
def test_torch_program_equals_eager_for_any_size_and_batch(sizes, model, torch_file, yard_folder):
    assert_parity(torch_run(torch_file), model[0], photos(yard_files(yard_folder), sizes))


def test_thresholds_of_classes_are_applied_by_the_graph(model, onnx_file, torch_file, yard_folder):
    images = photos(yard_files(yard_folder), SIZES[2])
    classes = eager(model[0], images, 0.3)[3]
    most = int(np.bincount(classes).argmax())
    thresholds = [0.97 if label == most else 0.3 for label in range(CLASSES)]

    for run in (onnx_run(onnx_file), torch_run(torch_file)):
        assert_parity(run, model[0], images, thresholds)

    assert len(eager(model[0], images, thresholds)[3]) < len(classes)


@pytest.mark.parametrize("sizes", [[(427, 640)], [(320, 241), (211, 333), (400, 299)]])
def test_exported_equals_eager_on_real_photos(sizes, model, onnx_file, torch_file, shared_data):
    images = photos(sorted((shared_data / "construction_photos").glob("*.jpg")), sizes)

    for run in (onnx_run(onnx_file), torch_run(torch_file)):
        assert_parity(run, model[0], images)


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (33, 33), (32, 64)])
def test_onnx_takes_very_small_images(size, model, onnx_file, yard_folder):
    assert_parity(onnx_run(onnx_file), model[0], photos(yard_files(yard_folder), [size]), threshold=0.0)


def test_nothing_kept_gives_empty_outputs(model, onnx_file, torch_file, yard_folder):
    images, sizes = padded(photos(yard_files(yard_folder), SIZES[1]))

    for run in (onnx_run(onnx_file), torch_run(torch_file)):
        shapes = [x.shape for x in run(images, sizes, 1.0)]
        assert shapes == [(0,), (0, 4), (0,), (0,), (0, 30, 33)]


def test_what_the_padding_holds_does_not_matter(model, yard_folder):
    images, sizes = padded(photos(yard_files(yard_folder), SIZES[2]))
    rubbish = images.clone()
    for image, (height, width) in zip(rubbish, sizes.tolist()):
        image[:, height:], image[:, :, width:] = 255, 77
    graph = DetrGraph(model[0])

    with torch.no_grad():
        expected, found = (graph(x, sizes, for_each_class(0.3)) for x in (images, rubbish))

    assert all(torch.equal(a, b) for a, b in zip(expected, found))


@pytest.mark.parametrize("side", [33, 52, 56, 160, 417, 800, 1066, 1333])
def test_coarse_padding_mask_is_the_full_one_at_the_nearest_pixels(side, model):
    graph = DetrGraph(model[0])
    sizes = torch.tensor([[height, 1 + height // 2] for height in range(1, side + 1)])
    full = torch.arange(side)[None] >= sizes[:, :1]
    coarse = (side - 1) // graph.stride + 1

    found = graph._coarse_padding_mask(side, side, sizes)[:, :, 0]

    assert torch.equal(found, F.interpolate(full[:, None].float(), size=coarse, mode="nearest")[:, 0] > 0)


def test_boxes_only_model_exports_without_masks(tiny_config, yard_folder, tmp_path):
    cfg = tiny_config()
    model = decided(cfg)
    images = photos(yard_files(yard_folder), SIZES[1])

    found = torch_run(export_model(model, cfg, tmp_path / "boxes.pt2", "torch"))(*padded(images), 0.3)

    expected = eager(model, images, 0.3)
    assert len(found) == len(expected) == 4 and len(found[0]) > 0
    assert all(np.allclose(a, b, atol=1e-3) for a, b in zip(found, expected))
    assert not describe_model(model, cfg)["has_masks"]


def test_networks_of_bgr_images_take_rgb_ones(model, yard_folder):
    images, sizes = padded(photos(yard_files(yard_folder), SIZES[1]))
    threshold = for_each_class(0.0)

    with torch.no_grad():
        expected = DetrGraph(model[0])(images.flip(1), sizes, threshold)
        found = DetrGraph(model[0], "BGR")(images, sizes, threshold)

    assert all(torch.equal(a, b) for a, b in zip(expected, found))


def test_files_hold_all_that_a_program_needs(model, onnx_file, torch_file):
    import onnxruntime

    session = onnxruntime.InferenceSession(str(onnx_file), providers=["CPUExecutionProvider"])
    extra = {f"{METADATA_KEY}.json": ""}
    torch.export.load(torch_file, extra_files=extra)

    about = json.loads(session.get_modelmeta().custom_metadata_map[METADATA_KEY])
    assert about == describe_model(*model) == json.loads(extra[f"{METADATA_KEY}.json"])
    assert about["categories"][0]["name"] == model[0].categories[0].name
    assert (about["min_size"], about["max_size"]) == (128, 256)
    assert about["score_threshold"] == pytest.approx([0.85] * CLASSES)
    assert [x.name for x in session.get_inputs()] == ["images", "sizes", "score_threshold"]
    assert [x.name for x in session.get_outputs()] == DetrGraph(model[0]).output_names


def test_example_needs_no_torch_and_equals_the_model(model, onnx_file, yard_folder, project_folder, tmp_path):
    example = project_folder / "examples" / "onnx_panoptic.py"
    image = Image.open(yard_files(yard_folder)[0]).resize((205, 143))
    image.save(tmp_path / "photo.png")
    code = f"import sys, runpy; sys.modules['torch'] = None; runpy.run_path({str(example)!r}, run_name='__main__')"
    _with_threshold(onnx_file, 0.4, tmp_path / "model.onnx")

    words = [str(tmp_path / "model.onnx"), str(tmp_path / "photo.png"), str(tmp_path / "panoptic.png")]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)

    assert (done.returncode, done.stderr) == (0, "")
    channels = np.asarray(Image.open(tmp_path / "panoptic.png"), np.int64)
    ids = channels[..., 0] + 256 * channels[..., 1] + 65536 * channels[..., 2]
    segments = [json.loads(line) for line in done.stdout.splitlines()]
    assert {s["id"]: s["area"] for s in segments} == dict(
        zip(*map(np.ndarray.tolist, np.unique(ids, return_counts=True)))
    )
    assert len(segments) > 1
    expected, expected_segments = _panoptic(model[0], image, threshold=0.4)
    names = {s["id"]: s["category"] for s in segments}
    expected_names = {s["id"]: model[0].categories[s["category_id"]].name for s in expected_segments}
    assert sorted(names.values()) == sorted(expected_names.values())
    of = {found: int(np.bincount(expected[ids == found]).argmax()) for found in names}
    assert {names[a]: expected_names[b] for a, b in of.items()} == {name: name for name in names.values()}
    assert (np.vectorize(of.get)(ids) != expected).mean() < 0.01  # at most where two masks are nearly equal


def _panoptic(model: DetrPanoptic, image: Image.Image, threshold: float) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """The model's own map of an image of 205x143, whose short side the network sees at 128 pixels."""
    model.postprocess.score_threshold = threshold
    small = image.convert("RGB").resize((183, 128), Image.Resampling.BILINEAR)
    image = torch.from_numpy(np.array(small)).permute(2, 0, 1)
    with torch.no_grad():
        [result] = model([{"image": image, "height": 143, "width": 205}])
    return result["panoptic_seg"][0].numpy(), result["panoptic_seg"][1]


def _with_threshold(path: Path, threshold: float, copy: Path) -> None:
    import onnx

    loaded = onnx.load(path)
    [entry] = [entry for entry in loaded.metadata_props if entry.key == METADATA_KEY]
    entry.value = json.dumps(json.loads(entry.value) | {"score_threshold": [threshold] * CLASSES})
    onnx.save(loaded, copy)


def test_example_is_short_and_imports_nothing_else(project_folder):
    text = (project_folder / "examples" / "onnx_panoptic.py").read_text(encoding="utf-8")
    tree = ast.parse(text)
    nodes = [node for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom))]
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in nodes if isinstance(node, ast.ImportFrom)}

    assert names - sys.stdlib_module_names == {"numpy", "onnxruntime", "PIL"}
    code = text.splitlines()[tree.body[0].end_lineno :]
    assert len([line for line in code if line.strip() and not line.strip().startswith("#")]) <= 70
