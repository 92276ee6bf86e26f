"""Exports of every kind, from folders and zips: their pictures, classes and labels, and what is noted."""

from __future__ import annotations

import json

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from detr_d2.errors import DatasetError
from detr_d2.labels.readers import read_exports, shape_mask
from detr_d2.labels.records import Box, Label, Polygons, Runs
from tests.prepare.made_exports import (
    HEIGHT,
    SQUARE,
    WIDTH,
    annotation,
    coco,
    coco_files,
    image_bytes,
    write_folder,
    write_zip,
)
from tests.prepare.reading import codes_of, labels_of, read_one


@pytest.mark.parametrize("packed", [False, True])
def test_coco_export_gives_image_and_label(packed, tmp_path):
    files = coco_files(annotation())
    path = write_zip(tmp_path / "brick.zip", files) if packed else write_folder(tmp_path / "brick", files)

    (export,) = read_exports([path], "cvat")

    (record,) = export.images
    assert (export.name, export.kind, export.is_cvat) == ("brick", "coco-instances", True)
    assert (record.name, record.width, record.height, record.image_id) == ("1.jpg", WIDTH, HEIGHT, 1)
    assert record.image.read() == image_bytes()
    assert labels_of(export) == [Label("brick", Polygons((tuple(SQUARE),)), id=1)]
    assert export.notes == ()


def test_folder_of_exports_gives_each_its_name(tmp_path):
    write_folder(tmp_path / "brick", coco_files(annotation()))
    write_folder(tmp_path / "pipe", {"coco.json": json.dumps(coco()).encode(), "images/1.jpg": image_bytes()})
    write_zip(tmp_path / "zips" / "job_7.zip", coco_files())
    write_folder(tmp_path / "other" / "brick", coco_files())

    exports = read_exports([tmp_path], "cvat")

    assert [export.name for export in exports] == ["brick", "brick_2", "pipe", "job_7"]
    assert [export.images[0].name for export in exports] == ["1.jpg"] * 4


def test_jsons_beside_each_other_are_named_by_their_subset(tmp_path):
    for subset in ("train", "val"):
        content = json.dumps(coco()).encode()
        write_folder(tmp_path / "site", {f"annotations/instances_{subset}.json": content})
        write_folder(tmp_path / "site", {f"images/{subset}/1.jpg": image_bytes(seed=len(subset))})

    exports = read_exports([tmp_path / "site"], "cvat")

    assert [export.name for export in exports] == ["site_train", "site_val"]
    assert [export.images[0].image.read() for export in exports] == [image_bytes(seed=5), image_bytes(seed=3)]


def test_single_json_is_read_with_the_images_beside_it(tmp_path):
    write_folder(tmp_path, coco_files(annotation()))

    (export,) = read_exports([tmp_path / "annotations" / "instances_default.json"], "coco")

    assert len(export.images) == 1 and not export.is_cvat and export.classes[0].is_thing


def test_zip_that_was_unpacked_beside_itself_is_read_once(tmp_path):
    write_zip(tmp_path / "brick.zip", coco_files(annotation()))
    write_folder(tmp_path / "brick", coco_files(annotation()))

    (export,) = read_exports([tmp_path], "cvat")

    assert codes_of(export) == ["export-twice"] and not export.file.member


@pytest.mark.parametrize("place", ["images/1.jpg", "job/images/1.jpg", "job/1.jpg", "1.jpg"])
def test_zip_without_images_takes_those_beside_it(place, tmp_path):
    write_zip(tmp_path / "job.zip", {"annotations/instances_default.json": json.dumps(coco(annotation())).encode()})
    write_folder(tmp_path, {place: image_bytes()})

    (export,) = read_exports([tmp_path / "job.zip"], "cvat")

    assert export.images[0].image.path == tmp_path / place


def test_image_elsewhere_is_found_by_its_name_if_there_is_one(tmp_path):
    files = coco_files()
    files["photos/day 1/1.JPG"] = files.pop("images/default/1.jpg")
    write_folder(tmp_path, files)

    assert len(read_exports([tmp_path], "cvat")[0].images) == 1

    write_folder(tmp_path, {"photos/day 2/1.jpg": image_bytes(seed=1)})
    with pytest.raises(DatasetError, match="none of them"):
        read_exports([tmp_path], "cvat")


def test_brush_mask_is_a_crowd_of_runs(tmp_path):
    runs = {"size": [HEIGHT, WIDTH], "counts": [0, HEIGHT, HEIGHT * (WIDTH - 1)]}

    export = read_one(tmp_path, annotation(segmentation=runs, iscrowd=1))

    assert labels_of(export) == [Label("brick", Runs((HEIGHT, WIDTH), (0, 30, 30 * 39)), True, id=1)]


@pytest.mark.parametrize("area", [75, 100, 125])
def test_hole_written_as_a_polygon_is_cut_out_whatever_the_area_says(tmp_path, area):
    outer, hole = [5, 6, 15, 6, 15, 16, 5, 16], [7, 8, 12, 8, 12, 13, 7, 13]

    export = read_one(tmp_path, annotation(segmentation=[outer, hole], area=area))

    assert shape_mask(labels_of(export)[0].shape, HEIGHT, WIDTH).sum() == 75
    assert shape_mask(labels_of(export)[0].shape, HEIGHT, WIDTH, fills_holes=True).sum() == 100


def test_rectangle_of_cvat_is_its_box(tmp_path):
    turned = {"occluded": False, "rotation": 30.0}

    export = read_one(tmp_path, annotation(segmentation=[], attributes=turned))

    assert labels_of(export)[0].shape == Box(5, 6, 15, 16, 30) and codes_of(export) == ["mask-empty"]
    assert export.notes[0].message.endswith("its box stays.") and not export.notes[0].is_lost


def test_label_without_a_key_for_its_outline_is_its_box(tmp_path):
    label = annotation()
    del label["segmentation"]

    export = read_one(tmp_path, label)

    assert labels_of(export)[0].shape == Box(5, 6, 15, 16) and codes_of(export) == ["mask-box"]


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"segmentation": [], "area": 0, "bbox": [0, 0, 0, 0]}, "mask-empty"),
        ({"segmentation": [], "area": 7.0}, "mask-empty"),
        ({"segmentation": None, "bbox": [float("nan")] * 4}, "mask-empty"),
        ({"segmentation": [[1, 2, 3, 4, float("nan"), 6]]}, "polygon-points"),
        ({"segmentation": [[1, 2, 3, 4, 10**400, 6]]}, "polygon-points"),
        ({"segmentation": [[1, 2, 3, 4]]}, "polygon-points"),
        ({"segmentation": [[80, 80, 90, 80, 90, 90]]}, "polygon-outside"),
        ({"segmentation": "polygon"}, "mask-type"),
        ({"segmentation": {"size": [HEIGHT, WIDTH], "counts": [5]}}, "rle-counts"),
        ({"segmentation": {"size": [HEIGHT, WIDTH], "counts": [-1, HEIGHT * WIDTH + 1]}}, "rle-counts"),
        ({"segmentation": {"size": [HEIGHT, WIDTH], "counts": "PPPP"}}, "rle-counts"),
        ({"segmentation": {"size": [HEIGHT, WIDTH], "counts": [HEIGHT * WIDTH]}}, "mask-empty"),
        ({"segmentation": {"size": [WIDTH, HEIGHT], "counts": [HEIGHT * WIDTH]}}, "rle-size"),
        ({"category_id": 5}, "category-unknown"),
        ({"category_id": None}, "category-id"),
        ({"image_id": 9}, "image-unknown"),
    ],
)
def test_label_that_cannot_be_drawn_is_noted(changed, code, tmp_path):
    export = read_one(tmp_path, annotation(**{"area": 7.0, **changed}), annotation(id=2))

    assert codes_of(export) == [code] and (export.notes[0].is_lost or "id" in str(changed))
    assert [label.id for label in labels_of(export)] == [2]


@pytest.mark.parametrize(
    ("changed", "code", "expected"),
    [
        ({"segmentation": SQUARE}, "mask-type", Label("brick", Polygons((tuple(SQUARE),)), id=1)),
        ({"segmentation": "polygon"}, "mask-type", Label("brick", Box(5, 6, 15, 16), id=1)),
        ({"segmentation": [[1, 2]]}, "polygon-points", Label("brick", Box(5, 6, 15, 16), id=1)),
        ({"category_id": "1"}, "category-id", Label("brick", Polygons((tuple(SQUARE),)), id=1)),
        ({"image_id": 1.0}, "image-unknown", Label("brick", Polygons((tuple(SQUARE),)), id=1)),
        ({"iscrowd": 2}, "crowd-value", Label("brick", Polygons((tuple(SQUARE),)), True, id=1)),
        ({"iscrowd": None}, "crowd-value", Label("brick", Polygons((tuple(SQUARE),)), id=1)),
    ],
)
def test_label_that_is_wrong_is_fixed_as_check_fixes_it(changed, code, expected, tmp_path):
    export = read_one(tmp_path, annotation(**changed))

    assert labels_of(export) == [expected] and codes_of(export) == [code]
    assert not export.notes[0].is_lost and export.notes[0].label_id == 1


def test_good_polygons_of_a_label_stay_when_a_bad_one_goes(tmp_path):
    export = read_one(tmp_path, annotation(segmentation=[SQUARE, [1, 2]]))

    assert labels_of(export)[0].shape == Polygons((tuple(SQUARE),)) and codes_of(export) == ["polygon-points"]


def test_images_that_are_absent_or_lead_out_are_noted(tmp_path):
    images = [
        {"id": number, "file_name": name, "width": WIDTH, "height": HEIGHT}
        for number, name in enumerate(["1.jpg", "2.jpg", "../../etc/passwd", "/etc/passwd", 5])
    ]

    export = read_one(tmp_path, images=images)

    assert [record.name for record in export.images] == ["1.jpg"]
    assert codes_of(export) == ["image-missing", "path-escape", "path-escape", "json-key"]


def test_export_without_images_is_refused_with_the_cure(tmp_path):
    path = write_zip(tmp_path / "bare.zip", {"annotations/instances_default.json": json.dumps(coco()).encode()})

    with pytest.raises(DatasetError, match="Save images"):
        read_exports([path], "cvat")


def test_entries_of_one_image_are_put_together(tmp_path):
    images = [{"id": number, "file_name": "1.jpg", "width": WIDTH, "height": HEIGHT} for number in (1, 2)]
    other = [[20.0, 20.0, 30.0, 20.0, 30.0, 28.0]]

    export = read_one(
        tmp_path,
        annotation(),
        annotation(id=2, image_id=2),
        annotation(id=3, image_id=2, segmentation=other),
        images=images,
    )

    assert [label.id for label in labels_of(export)] == [1, 3]
    assert codes_of(export) == ["path-duplicate", "label-duplicate"]


def test_images_of_one_id_are_left_out(tmp_path):
    files = {**coco_files(), "images/2.jpg": image_bytes(seed=2), "images/3.jpg": image_bytes(seed=3)}
    images = [{"id": min(number, 2), "file_name": f"{number}.jpg", "width": 40, "height": 30} for number in (1, 2, 3)]
    files["annotations/instances_default.json"] = json.dumps(coco(images=images)).encode()

    (export,) = read_exports([write_folder(tmp_path, files)], "cvat")

    assert [record.name for record in export.images] == ["1.jpg"]
    assert codes_of(export) == ["id-duplicate"] and "all are left out" in export.notes[0].message


def test_real_cvat_exports_are_read(shared_data):
    exports = read_exports([shared_data / "construction_sample" / "cvat"], "cvat")

    assert len(exports) == 6 and all(export.is_cvat and not export.notes for export in exports)
    for export in exports:
        content = json.loads(export.file.read())
        record = export.images[0]
        areas = [int(shape_mask(label.shape, record.height, record.width).sum()) for label in labels_of(export)]
        assert areas == [entry["area"] for entry in content["annotations"]]


def test_real_coco_instances_are_read(shared_data):
    (export,) = read_exports([shared_data / "tiny_coco_things"], "coco")

    labels = [label for number in range(len(export.images)) for label in labels_of(export, number)]
    assert len(export.images) == 32 and sum(label.is_crowd for label in labels) == 5 and not export.is_cvat
    assert not export.notes


def test_compressed_runs_are_kept_as_they_are(tmp_path):
    mask = np.zeros((HEIGHT, WIDTH), np.uint8, order="F")
    mask[3:9, 4:20] = 1
    text = coco_mask.encode(mask)["counts"].decode()

    export = read_one(tmp_path, annotation(segmentation={"size": [HEIGHT, WIDTH], "counts": text}))

    assert labels_of(export)[0].shape == Runs((HEIGHT, WIDTH), text.encode())
