"""COCO panoptic, with its PNGs, as prepare reads it."""

from __future__ import annotations

import json

import numpy as np
import pytest

from detr_d2.errors import DatasetError
from detr_d2.labels.readers import read_exports, shape_mask
from tests.prepare.made_exports import (
    HEIGHT,
    WIDTH,
    annotation,
    coco,
    image_bytes,
    png,
    write_folder,
    write_zip,
)
from tests.prepare.reading import labels_of


def panoptic_files(**ids: int) -> dict[str, bytes]:
    """COCO panoptic with one picture of two segments."""
    pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    pixels[:10, :, 0], pixels[20:, 5:9, 1] = 7, 1
    infos = [
        {"id": ids.get("first", 7), "category_id": 1, "iscrowd": 1},
        {"id": ids.get("second", 256), "category_id": 2, "iscrowd": 0},
    ]
    categories = [{"id": 1, "name": "sky", "isthing": 0}, {"id": 2, "name": "brick", "isthing": 1, "color": [1, 2, 3]}]
    annotations = [{"image_id": 1, "file_name": "1.png", "segments_info": infos}]
    content = coco(**{"annotations": annotations, "categories": categories})
    return {"panoptic.json": json.dumps(content).encode(), "images/1.jpg": image_bytes(), "panoptic/1.png": png(pixels)}


def test_panoptic_export_gives_its_segments(tmp_path):
    (export,) = read_exports([write_zip(tmp_path / "coco.zip", panoptic_files())], "coco")

    sky, brick = labels_of(export)
    assert export.kind == "coco-panoptic" and [entry.is_thing for entry in export.classes] == [False, True]
    assert export.classes[1].color == (1, 2, 3)
    assert (sky.class_name, sky.is_crowd, sky.id) == ("sky", True, 7)
    assert (brick.class_name, brick.is_crowd, brick.id) == ("brick", False, 256)
    mask = shape_mask(brick.shape, HEIGHT, WIDTH)
    assert mask[20:, 5:9].all() and mask.sum() == 40


@pytest.mark.parametrize(("ids", "left"), [({"first": 8}, "brick"), ({"second": 257}, "sky")])
def test_panoptic_png_that_contradicts_its_json_is_fixed_when_it_is_drawn(ids, left, tmp_path):
    (export,) = read_exports([write_folder(tmp_path, panoptic_files(**ids))], "coco")
    notes = []

    labels = export.images[0].read_labels(notes)

    assert [label.class_name for label in labels] == [left]
    assert [note.code for note in notes] == ["png-absent", "png-unlisted"]


def test_panoptic_png_that_is_none_is_refused_when_it_is_drawn(tmp_path):
    files = {**panoptic_files(), "panoptic/1.png": image_bytes()}
    (export,) = read_exports([write_folder(tmp_path, files)], "coco")

    with pytest.raises(DatasetError, match=r"1\.png: is a JPEG"):
        labels_of(export)


def test_of_images_with_one_id_that_is_taken_which_a_png_is_named_like(tmp_path):
    files = panoptic_files()
    content = json.loads(files.pop("panoptic.json"))
    content["images"] += [{**content["images"][0], "file_name": "2.jpg"}]
    write_folder(tmp_path / "panoptic", {**files, "panoptic.json": json.dumps(content).encode()})
    content = coco(annotation())
    content["images"] += [{**content["images"][0], "file_name": "2.jpg"}]
    write_folder(tmp_path / "instances", {"coco.json": json.dumps(content).encode(), "images/1.jpg": image_bytes()})

    exports = read_exports([tmp_path / "panoptic", tmp_path / "instances"], "coco")

    assert [[record.name for record in export.images] for export in exports] == [["1.jpg"], []]
    assert [[(note.code, note.image) for note in export.notes] for export in exports] == [
        [("id-duplicate", "2.jpg")]
    ] * 2


def test_panoptic_pngs_may_lie_in_a_zip_beside_their_json(tmp_path):
    files = panoptic_files()
    write_zip(tmp_path / "annotations" / "panoptic_val.zip", {"panoptic_val/1.png": files.pop("panoptic/1.png")})
    write_folder(tmp_path, {"annotations/panoptic_val.json": files.pop("panoptic.json"), "val/1.jpg": image_bytes()})

    (export,) = read_exports([tmp_path], "coco")

    assert len(labels_of(export)) == 2


def test_instances_beside_panoptic_are_not_read_twice(tmp_path):
    files = panoptic_files()
    files["panoptic_train.json"] = files.pop("panoptic.json")
    write_folder(tmp_path, {**files, "instances_train.json": json.dumps(coco(annotation())).encode()})

    (export,) = read_exports([tmp_path], "coco")

    assert export.kind == "coco-panoptic"


def test_real_coco_panoptic_is_read(shared_data):
    (export,) = read_exports([shared_data / "coco128_panoptic" / "val"], "coco")

    content = json.loads(export.file.read())
    areas = {info["id"]: info["area"] for info in content["annotations"][0]["segments_info"]}
    record = export.images[0]
    drawn = {label.id: int(shape_mask(label.shape, record.height, record.width).sum()) for label in labels_of(export)}
    assert len(export.images) == 30 and drawn == areas
