"""The auto-annotation function, called by CVAT's own client against a stand-in for the server."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as coco_mask

from detr_d2.checkpoint import DetrCheckpointer
from detr_d2.cvat_function import CvatFunction, create
from detr_d2.data import register_from_config
from detr_d2.errors import ConfigError, WeightsError

from detectron2.modeling import build_model

cvataa = pytest.importorskip("cvat_sdk.auto_annotation", reason="cvat-sdk isn't installed: pip install 'detr_d2[cvat]'")
masks = pytest.importorskip("cvat_sdk.masks", reason="cvat-sdk has no masks: pip install 'detr_d2[cvat]'")


def _standing_in() -> Any:
    spec = importlib.util.spec_from_file_location("cvat_server", Path(__file__).with_name("cvat_server.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["cvat_server"] = module
    spec.loader.exec_module(module)
    return module


stand_in = _standing_in()
CONFIDENCE = 0.02
"""A model that never learnt is sure of nothing."""


@pytest.fixture
def weights(tiny_config: Any) -> str:
    cfg = tiny_config("MODEL.DETR.MASK_ON", True, "MODEL.DETR.SCORE_THRESHOLD", 0.99, "MODEL.DEVICE", "cpu")
    register_from_config(cfg)
    torch.manual_seed(1)
    DetrCheckpointer(build_model(cfg), cfg.OUTPUT_DIR).save("model")
    return f"{cfg.OUTPUT_DIR}/model.pth"


@pytest.fixture
def images(yard_folder: Path) -> list[Path]:
    return sorted((yard_folder / "images").glob("*val*"))


@pytest.fixture
def function(weights: str, tmp_path: Path) -> CvatFunction:
    return create(weights, cache=str(tmp_path / "cache"), device="cpu")


def label_names(function: CvatFunction) -> list[str]:
    return [label.name for label in function.spec.labels]


@pytest.fixture
def client_of(tmp_path: Path) -> Iterator[Any]:
    from cvat_sdk.core.client import Client, Config

    clients = []

    def make(server: Any) -> Any:
        clients.append(Client(server.address, config=Config(cache_dir=tmp_path / "sdk")))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


def annotate(function: CvatFunction, server: Any, client_of: Any, **options: Any) -> list[dict[str, Any]]:
    with stand_in.serving(server):
        cvataa.annotate_task(client_of(server), stand_in.TASK_ID, function, conf_threshold=CONFIDENCE, **options)
    return list(server.shapes)


def test_masks_of_a_task_are_the_map_of_the_model(
    function: CvatFunction, weights: str, images: list[Path], client_of: Any
) -> None:
    from detr_d2.prediction import Predictor

    server = stand_in.CvatServer(images, label_names(function), "mask")

    shapes = annotate(function, server, client_of)

    predictor = Predictor(weights, device="cpu", score_threshold=CONFIDENCE)
    for frame, path in enumerate(images):
        prediction = predictor(path)
        expected = {(s["category"], prediction.mask(s).tobytes()) for s in prediction.segments}
        height, width = prediction.size
        found = {
            (server.name_of(s), masks.decode_mask(s["points"], image_width=width, image_height=height).tobytes())
            for s in shapes
            if s["frame"] == frame
        }
        assert found == expected and found
    assert {shape["type"] for shape in shapes} == {"mask"}
    assert all(CONFIDENCE <= shape["score"] <= 1 and shape["source"] == "auto" for shape in shapes)


def test_polygons_of_a_task_show_nearly_the_map(
    function: CvatFunction, weights: str, images: list[Path], client_of: Any
) -> None:
    from detr_d2.prediction import Predictor

    server = stand_in.CvatServer(images, label_names(function), "polygon")

    shapes = annotate(function, server, client_of, conv_mask_to_poly=True)

    assert {shape["type"] for shape in shapes} == {"polygon"}
    predictor = Predictor(weights, device="cpu", score_threshold=CONFIDENCE)
    for frame, path in enumerate(images):
        prediction = predictor(path)
        assert prediction.panoptic is not None
        painted = np.full(prediction.size, "", dtype=object)
        for shape in sorted((s for s in shapes if s["frame"] == frame), key=lambda s: s["z_order"]):
            ring = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects([shape["points"]], *prediction.size)))
            painted[ring.astype(bool)] = server.name_of(shape)
        names = {segment["id"]: segment["category"] for segment in prediction.segments}
        expected = np.vectorize(lambda one, names=names: names.get(one, ""), otypes=[object])(prediction.panoptic)
        assert (painted == expected)[prediction.panoptic > 0].mean() > 0.9


def test_interrupted_run_goes_on_where_it_was(
    function: CvatFunction, images: list[Path], client_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    detect, model = function.detect, function._model(CONFIDENCE)._labeller
    opened = model.open()

    def counted(pixels: np.ndarray) -> Any:
        asked.append(1)
        return opened(pixels)

    def broken(context: Any, image: Image.Image) -> list[Any]:
        if len(asked) == 2:
            raise ConnectionError("the machine went to sleep")
        return detect(context, image)

    monkeypatch.setattr(model, "open", lambda: counted)
    monkeypatch.setattr(function, "detect", broken)
    server = stand_in.CvatServer(images, label_names(function))
    with pytest.raises(ConnectionError):
        annotate(function, server, client_of)
    assert not server.shapes

    monkeypatch.setattr(function, "detect", detect)
    shapes = annotate(function, server, client_of)

    assert len(asked) == len(images)
    assert {shape["frame"] for shape in shapes} == set(range(len(images)))


def test_damaged_result_is_made_again(function: CvatFunction, images: list[Path], tmp_path: Path) -> None:
    context = FakeContext(CONFIDENCE)
    first = function.detect(context, Image.open(images[0]))
    (kept,) = (tmp_path / "cache").rglob("*.png")
    kept.write_bytes(kept.read_bytes()[:60])

    again = function.detect(context, Image.open(images[0]))

    assert [shape.points for shape in again] == [shape.points for shape in first]


class FakeContext:
    """What CVAT's driver says of a frame."""

    frame_name = "a.jpg"

    def __init__(self, conf_threshold: float | None, conv_mask_to_poly: bool = False) -> None:
        self.conf_threshold, self.conv_mask_to_poly = conf_threshold, conv_mask_to_poly


@pytest.mark.parametrize("polygons", [False, True])
def test_only_segments_of_the_confidence_asked_for_come_back(
    function: CvatFunction, images: list[Path], polygons: bool
) -> None:
    image = Image.open(images[0])
    every = function.detect(FakeContext(CONFIDENCE, polygons), image)
    scores = sorted({shape.score for shape in every})
    middle = scores[len(scores) // 2]

    fewer = function.detect(FakeContext(middle, polygons), image)

    assert all(shape.score >= middle for shape in fewer)
    assert function.detect(FakeContext(None), image) == [], "the checkpoint's own threshold is 0.99"


def test_labels_are_called_as_the_task_calls_them(weights: str, images: list[Path], tmp_path: Path) -> None:
    function = create(weights, str(tmp_path / "cache"), "cpu", names="brick_stack= Brick stack (50%) , sky=heaven")

    assert {"Brick stack (50%)", "heaven"} < set(label_names(function))
    assert "brick_stack" not in label_names(function)


@pytest.mark.parametrize("names", ["brick=bricks", "sky", "sky=", "sky=ground"])
def test_names_that_fit_no_class_are_refused(weights: str, tmp_path: Path, names: str) -> None:
    with pytest.raises(ConfigError, match="names"):
        create(weights, str(tmp_path / "cache"), "cpu", names)


def test_task_with_labels_of_another_type_is_refused_before_the_first_image(
    function: CvatFunction, images: list[Path], client_of: Any, tmp_path: Path
) -> None:
    server = stand_in.CvatServer(images, label_names(function), "polygon")

    with pytest.raises(cvataa.BadFunctionError, match="has type 'mask' in the function, but 'polygon'"):
        annotate(function, server, client_of)

    assert not list((tmp_path / "cache").rglob("*.png"))


def test_task_without_some_of_the_labels_gets_the_others(
    function: CvatFunction, images: list[Path], client_of: Any
) -> None:
    first = function.detect(FakeContext(CONFIDENCE), Image.open(images[0]))
    name = next(label.name for label in function.spec.labels if label.id == first[0].label_id)
    server = stand_in.CvatServer(images, [name])

    shapes = annotate(function, server, client_of, allow_unmatched_labels=True)

    assert shapes and {server.name_of(shape) for shape in shapes} == {name}


def test_rotated_photo_is_labelled_upright(function: CvatFunction, images: list[Path], tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    upright = Image.open(images[0]).convert("RGB")
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)

    turned = function.detect(FakeContext(CONFIDENCE), Image.open(tmp_path / "turned.png"))

    expected = function.detect(FakeContext(CONFIDENCE), upright)
    assert [shape.points for shape in turned] == [shape.points for shape in expected]


def test_weights_without_masks_are_refused(tiny_config: Any, tmp_path: Path) -> None:
    cfg = tiny_config("MODEL.DETR.MASK_ON", False, "MODEL.DEVICE", "cpu")
    register_from_config(cfg)
    DetrCheckpointer(build_model(cfg), cfg.OUTPUT_DIR).save("boxes")

    with pytest.raises(WeightsError, match="boxes only"):
        create(f"{cfg.OUTPUT_DIR}/boxes.pth", str(tmp_path / "cache"), "cpu")


def test_missing_package_is_named(weights: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cvat_sdk.auto_annotation", None)

    with pytest.raises(ConfigError, match=r"pip install 'detr_d2\[cvat\]'"):
        create(weights, str(tmp_path / "cache"), "cpu")
