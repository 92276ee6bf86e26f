"""Drawings can be read and have the promised sizes, whoever draws them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from detr_d2.data import dataset_metadata, read_panoptic_png, register
from detr_d2.errors import DatasetError, MissingFileError
from detr_d2.visualization import (
    PanopticVisualizer,
    draw_instances,
    draw_panoptic,
    draw_per_class,
    draw_prediction,
    draw_side_by_side,
    enlargement,
    save_image,
    save_side_by_side,
)
from detr_d2.visualization.class_style import ClassStyle, class_style
from detr_d2.visualization.label_layout import place_labels, text_size
from detr_d2.visualization.visualizer import PaintedImage

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import Boxes, BoxMode, Instances
from detectron2.utils.visualizer import Visualizer

NAMES = ["brick", "pipe", "sky", "ground"]
COLORS = [(200, 40, 30), (60, 180, 200), (90, 160, 240), (130, 100, 60)]


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


@pytest.mark.parametrize(("scale", "size"), [(1, (96, 120)), (4, (384, 480)), (0.5, (48, 60))])
def test_panoptic_image_has_the_scaled_size(scene: tuple, metadata: Any, scale: float, size: tuple[int, int]) -> None:
    drawn = draw_panoptic(*scene, metadata, scale)

    assert drawn.shape == (*size, 3)
    assert drawn.dtype == np.uint8


def test_panoptic_image_shows_the_colours_of_the_metadata_and_leaves_void_bare(scene: tuple, metadata: Any) -> None:
    drawn = draw_panoptic(*scene, metadata, 4).astype(int)

    # Away from borders and names: a mix of the grey image and the class's colour.
    assert drawn[30, 20, 2] - drawn[30, 20, 0] > 50  # sky: blue over red
    brick = drawn[4 * 82, 4 * 33]
    assert brick[0] - brick[1] > 50 and brick[0] - brick[2] > 50
    np.testing.assert_allclose(drawn[370, 475], 128, atol=2)


def test_panoptic_drawing_is_the_same_each_time_and_leaves_its_arguments_alone(scene: tuple, metadata: Any) -> None:
    image, ids, segments = scene
    before = image.copy(), ids.copy(), json.dumps(segments)

    first = draw_panoptic(image, torch.from_numpy(ids), segments, metadata, 2)
    second = draw_panoptic(image, ids, segments, metadata, 2)

    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(image, before[0])
    np.testing.assert_array_equal(ids, before[1])
    assert json.dumps(segments) == before[2]


def test_panoptic_drawing_separates_neighbours_of_one_class(metadata: Any) -> None:
    ids = np.ones((60, 80), dtype=np.int32)
    ids[:, 40:] = 2
    segments = [{"id": i, "category_id": 0, "isthing": True} for i in (1, 2)]

    drawn = draw_panoptic(np.zeros((60, 80, 3), dtype=np.uint8), ids, segments, metadata, 4)

    assert drawn[10, 158:163].min(axis=-1).max() > 180, "a light line between them"
    assert drawn[10, 100].max() < 150


def test_panoptic_drawing_takes_a_image_without_segments(metadata: Any) -> None:
    image = np.full((40, 50, 3), 77, dtype=np.uint8)

    drawn = draw_panoptic(image, np.zeros((40, 50), dtype=np.int32), [], metadata)

    np.testing.assert_allclose(drawn.astype(int), 77, atol=1)


def test_panoptic_drawing_refuses_a_map_of_another_size(metadata: Any) -> None:
    with pytest.raises(ValueError, match="sizes must be equal"):
        draw_panoptic(np.zeros((4, 5, 3), dtype=np.uint8), np.zeros((5, 4), dtype=int), [], metadata)


def test_instances_below_the_score_are_not_drawn(metadata: Any) -> None:
    image = np.full((200, 300, 3), 100, dtype=np.uint8)
    instances = Instances((200, 300))
    instances.pred_boxes = Boxes(torch.tensor([[20.0, 60.0, 120.0, 150.0], [180.0, 60.0, 280.0, 150.0]]))
    instances.scores = torch.tensor([0.9, 0.4])
    instances.pred_classes = torch.tensor([0, 1])

    drawn = draw_instances(image, instances, metadata, scale=2, min_score=0.5)

    assert drawn.shape == (400, 600, 3)
    assert (drawn[:, :280] != 100).any()
    assert (drawn[:, 320:] == 100).all()


def test_prediction_without_a_mask_head_is_drawn_as_boxes(metadata: Any) -> None:
    empty = Instances((30, 40))
    empty.pred_boxes, empty.scores = Boxes(torch.zeros(0, 4)), torch.zeros(0)
    empty.pred_classes = torch.zeros(0, dtype=torch.int64)
    image = np.full((30, 40, 3), 9, dtype=np.uint8)

    np.testing.assert_allclose(draw_prediction(image, {"instances": empty}, metadata).astype(int), 9, atol=1)


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


def test_class_without_name_and_colour_is_its_number() -> None:
    style = class_style(SimpleNamespace(get=lambda key, default: default), 7, is_thing=True)

    assert style.name == "7"
    assert all(0 <= value <= 1 for value in style.color)


@pytest.mark.parametrize("color", [(0, 0, 0), (0, 0, 1), (1, 0, 0), (1, 1, 0), (1, 1, 1)])
def test_text_colour_can_be_read_on_a_dark_ground(color: tuple[float, float, float]) -> None:
    red, green, blue = ClassStyle("x", color).text_color

    assert 0.7 < 0.299 * red + 0.587 * green + 0.114 * blue <= 1.001


def test_labels_stay_inside_and_do_not_cover_each_other() -> None:
    masks = [np.zeros((30, 40), dtype=bool) for _ in range(4)]
    masks[0][:2, :2] = masks[1][28:, 38:] = masks[2][10:30] = masks[3][10:30] = True

    places = place_labels(["corner"] * 2 + ["ground"] * 2, masks, 10, (300, 400), 14)

    rectangles = [place for place in places if place is not None]
    assert len(rectangles) == 4
    for i, one in enumerate(rectangles):
        assert one.left >= 0 and one.top >= 0 and one.right <= 400 and one.bottom <= 300
        assert all(one.overlap(other) == 0 for other in rectangles[:i])


def test_label_without_a_free_place_is_left_out() -> None:
    mask = np.ones((2, 8), dtype=bool)
    width, height = text_size("ground 99%", 14)

    places = place_labels(["ground 99%"] * 2, [mask, mask], 10, (int(height), int(width)), 14)

    assert places[0] is not None
    assert places[1] is None


def quality_file(folder: Path) -> Path:
    def entry(name: str, is_thing: bool, quality: float | None) -> dict[str, Any]:
        counts = {"true_positives": 3, "false_positives": 1, "false_negatives": 2} if quality is not None else {}
        none = dict.fromkeys(("true_positives", "false_positives", "false_negatives"), 0)
        return (
            {"id": 1, "name": name, "is_thing": is_thing, "PQ": quality, "SQ": quality, "RQ": quality} | none | counts
        )

    classes = [entry("brick", True, 40.0), entry("pipe", True, None), entry("sky", False, 0.0)]
    content = {"dataset": "yard_val", "images": 8, "All": {"PQ": 20.0}, "Stuff": {"PQ": 0.0}, "classes": classes}
    (folder / "panoptic_quality.json").write_text(json.dumps(content))
    return folder / "panoptic_quality.json"


def test_per_class_bars_are_drawn_from_the_evaluators_file_or_its_folder(tmp_path: Path) -> None:
    quality_file(tmp_path)

    output = draw_per_class(tmp_path, tmp_path / "images" / "classes.png")

    assert Image.open(output).width > 800


def test_per_class_bars_name_absent_classes_below_and_give_them_no_bar(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts: list[str] = []
    monkeypatch.setattr(Figure, "supxlabel", lambda figure, text, **options: texts.append(text))
    monkeypatch.setattr(Axes, "set_yticks", lambda axis, places, labels, **options: texts.extend(labels))

    draw_per_class(quality_file(tmp_path), tmp_path / "classes.png")

    assert texts == ["brick (5)", "sky (5)", "Neither in these images nor predicted: pipe"]


def test_per_class_bars_refuse_other_files(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"panoptic_quality\.json isn't there"):
        draw_per_class(tmp_path, tmp_path / "classes.png")
    (tmp_path / "other.json").write_text('{"classes": [{}]}')
    with pytest.raises(DatasetError, match=r"other\.json isn't a panoptic_quality\.json"):
        draw_per_class(tmp_path / "other.json", tmp_path / "classes.png")
    assert not (tmp_path / "classes.png").exists()


def test_visualizer_is_detectron2s_and_paints_what_is_drawn_without_it(scene: tuple, metadata: Any) -> None:
    image, ids, segments = scene
    visualizer = PanopticVisualizer(image, metadata, scale=2.0)

    drawn = visualizer.draw_panoptic_seg_predictions(torch.from_numpy(ids), segments)

    assert isinstance(visualizer, Visualizer)
    assert drawn is visualizer.get_output()
    np.testing.assert_array_equal(drawn.get_image(), draw_panoptic(image, ids, segments, metadata, 2.0))
    assert (drawn.height, drawn.width, drawn.scale) == (96, 120, 2.0)


def test_visualizer_draws_over_what_it_has_drawn(scene: tuple, metadata: Any) -> None:
    image, ids, segments = scene
    plain = draw_panoptic(image, ids, segments, metadata).astype(int)
    visualizer = PanopticVisualizer(image, metadata)
    visualizer.draw_panoptic_seg(ids, segments)
    instances = Instances((96, 120), pred_boxes=Boxes(torch.tensor([[80.0, 60.0, 110.0, 90.0]])))
    instances.pred_classes = torch.tensor([1])

    over = visualizer.draw_instance_predictions(instances).get_image().astype(int)
    visualizer.draw_text("X", (10, 70), color="r")
    with_text = visualizer.get_output().get_image().astype(int)

    assert (over[90, 80:110] == COLORS[1]).all() and (over[88, 5:60] == plain[88, 5:60]).all()
    assert with_text.shape == over.shape and (with_text != over).any()
    assert (with_text[:, 20:] == over[:, 20:]).all(), "Detectron2's own strokes go over the painted ones"


@pytest.mark.parametrize(("height", "width", "scale"), [(69, 233, 1.0), (264, 305, 2.0), (65, 470, 1.7), (1, 1, 1.0)])
def test_painted_image_keeps_each_pixel_on_the_figure(height: int, width: int, scale: float) -> None:
    painted = PaintedImage(np.zeros((height, width, 3), np.uint8), scale)
    shape = painted.get_image().shape
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    painted.paint(pixels)

    has_axes = painted.ax.axison

    assert not has_axes
    np.testing.assert_array_equal(painted.get_image(), pixels)


def test_visualizer_draws_masks_the_small_ones_above(metadata: Any) -> None:
    masks = torch.zeros(2, 60, 80, dtype=torch.bool)
    masks[0, 40:50, 10:70] = True
    masks[1] = True
    instances = Instances(
        (60, 80), pred_masks=masks, pred_classes=torch.tensor([0, 1]), scores=torch.tensor([0.9, 0.8])
    )

    drawn = PanopticVisualizer(np.zeros((60, 80, 3), np.uint8), metadata, 4).draw_instance_predictions(instances)

    mixed = drawn.get_image()[4 * 48, 4 * 12]
    np.testing.assert_allclose(mixed, 0.55 * np.array(COLORS[0]), atol=2)


def test_visualizer_draws_dataset_dicts(dataset_dict: dict, scene: tuple, metadata: Any) -> None:
    image, ids, segments = scene
    known = [{key: value for key, value in segment.items() if key != "score"} for segment in segments]
    boxes = {"annotations": [{"bbox": [80, 60, 30, 30], "bbox_mode": BoxMode.XYWH_ABS, "category_id": 1}]}

    of_map = PanopticVisualizer(image, metadata).draw_dataset_dict(dataset_dict).get_image()
    of_boxes = PanopticVisualizer(image, metadata).draw_dataset_dict(boxes).get_image()

    np.testing.assert_array_equal(of_map, draw_panoptic(image, ids, known, metadata))
    assert (of_boxes[90, 85:110] == COLORS[1]).all()


def test_visualizer_leaves_out_small_stuff_and_knows_categories_by_their_ids(metadata: Any) -> None:
    ids = np.full((60, 80), 2003)
    ids[:, 70:] = 3000
    metadata.set(label_divisor=1000, thing_dataset_id_to_contiguous_id={7: 0, 9: 1})
    image = np.full((60, 80, 3), 100, np.uint8)

    drawn = PanopticVisualizer(image, metadata).draw_panoptic_seg(ids, None, area_threshold=1000, alpha=1.0).get_image()

    assert (drawn[50:, 30:60] == COLORS[2]).all()
    assert (drawn[50:, 75:] == 100).all()


def test_visualizer_saves_whole_files(scene: tuple, metadata: Any, tmp_path: Path) -> None:
    drawn = PanopticVisualizer(scene[0], metadata).draw_panoptic_seg(*scene[1:])

    drawn.save(str(tmp_path / "drawn.png"))

    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "drawn.png")), drawn.get_image())


def test_visualizer_paints_without_opencv_and_says_what_needs_it(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['detectron2.utils.visualizer'] = None\n"
        "import numpy as np\n"
        "from types import SimpleNamespace\n"
        "from detr_d2.visualization import PanopticVisualizer\n"
        "nothing = SimpleNamespace(get=lambda key, default: default)\n"
        "visualizer = PanopticVisualizer(np.zeros((60, 80, 3), np.uint8), nothing)\n"
        "segments = [{'id': 1, 'category_id': 0, 'isthing': True}]\n"
        "assert visualizer.draw_panoptic_seg(np.ones((60, 80), int), segments).get_image().any()\n"
        "from detr_d2.errors import ConfigError\n"
        "for call in (lambda: visualizer.draw_text('X', (1, 1)), lambda: visualizer.output.ax):\n"
        "    try:\n        call()\n"
        "    except ConfigError as error:\n        print(error)\n"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("pip install opencv-python-headless") == 2
