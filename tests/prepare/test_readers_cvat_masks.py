"""CVAT's Segmentation mask 1.1: colours as classes and objects."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detr_d2.errors import DatasetError
from detr_d2.labels.panoptic_png import numbers_of, read_ids
from detr_d2.labels.readers import read_exports, shape_mask
from detr_d2.labels.records import Export, FileRef, Label
from tests.prepare.made_exports import HEIGHT, WIDTH, image_bytes, mask_files, write_folder, write_zip

LABEL_MAP = "# label:color_rgb:parts:actions\nbackground:0,0,0::\nbrick:255,0,0::\npipe: 3/4:0,10,200::\n"


def masks() -> tuple[np.ndarray, np.ndarray]:
    """Class and object colours: two bricks, which touch, and a pipe of the first brick's object colour."""
    classes = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    objects = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    classes[:10, :20] = (255, 0, 0)
    objects[:10, :10], objects[:10, 10:20] = (128, 0, 0), (0, 128, 0)
    classes[20:] = (0, 10, 200)
    objects[20:] = (128, 0, 0)
    return classes, objects


def labels_of(export: Export) -> list[Label]:
    """The labels of the only picture."""
    labels = export.images[0].labels
    return list(labels if isinstance(labels, tuple) else labels())


def areas_of(export: Export) -> list[tuple[str, int]]:
    """Class and pixels of each label."""
    drawn = ((label.class_name, shape_mask(label.shape, HEIGHT, WIDTH)) for label in labels_of(export))
    return sorted((name, int(mask.sum())) for name, mask in drawn)


@pytest.mark.parametrize("packed", [False, True])
def test_objects_are_told_apart_by_class_and_colour(packed, tmp_path):
    files = mask_files(*masks(), LABEL_MAP)
    path = write_zip(tmp_path / "job.zip", files) if packed else write_folder(tmp_path / "job", files)

    (export,) = read_exports([path], "cvat")

    (record,) = export.images
    assert (export.name, export.kind, export.is_cvat) == ("job", "cvat-masks", True)
    assert [(entry.name, entry.color) for entry in export.classes] == [
        ("brick", (255, 0, 0)),
        ("pipe: 3/4", (0, 10, 200)),
    ]
    assert (record.name, record.width, record.height) == ("1.jpg", WIDTH, HEIGHT)
    assert record.image.read() == image_bytes()
    assert areas_of(export) == [("brick", 100), ("brick", 100), ("pipe: 3/4", 400)]


def test_classes_without_objects_are_one_object_each(tmp_path):
    (export,) = read_exports([write_folder(tmp_path, mask_files(masks()[0], None, LABEL_MAP))], "cvat")

    assert areas_of(export) == [("brick", 200), ("pipe: 3/4", 400)]
    assert [note.code for note in export.notes] == ["objects-missing"]


def test_grey_masks_hold_indices_of_the_label_map(tmp_path):
    grey = np.zeros((HEIGHT, WIDTH), np.uint8)
    grey[:5], grey[5:7] = 1, 2

    (export,) = read_exports([write_folder(tmp_path, mask_files(grey, None, LABEL_MAP))], "cvat")

    assert areas_of(export) == [("brick", 200), ("pipe: 3/4", 80)]


def test_palette_masks_are_read_by_their_colours(tmp_path):
    indices = np.zeros((HEIGHT, WIDTH), np.uint8)
    indices[:5] = 9
    image = Image.fromarray(indices, "P")
    image.putpalette([0] * 27 + [255, 0, 0])
    file = io.BytesIO()
    image.save(file, "PNG")
    write_folder(tmp_path, {**mask_files(indices, None, LABEL_MAP), "SegmentationClass/1.png": file.getvalue()})

    (export,) = read_exports([tmp_path], "cvat")

    assert areas_of(export) == [("brick", 200)]


def test_background_of_another_colour_is_nothing(tmp_path):
    classes = np.full((HEIGHT, WIDTH, 3), 9, np.uint8)
    classes[0, :3] = (255, 0, 0)
    label_map = LABEL_MAP.replace("background:0,0,0", "background:9,9,9")

    (export,) = read_exports([write_folder(tmp_path, mask_files(classes, None, label_map))], "cvat")

    assert areas_of(export) == [("brick", 3)]


def test_images_in_folders_keep_their_names(tmp_path):
    files = mask_files(*masks(), LABEL_MAP)
    for folder, suffix in (("JPEGImages", "jpg"), ("SegmentationClass", "png"), ("SegmentationObject", "png")):
        files[f"{folder}/site a/1.{suffix}"] = files.pop(f"{folder}/1.{suffix}")

    (export,) = read_exports([write_folder(tmp_path, files)], "cvat")

    assert [record.name for record in export.images] == ["site a/1.jpg"]


@pytest.mark.parametrize("change", ["colour", "size", "jpeg", "broken", "absent"])
def test_masks_that_cannot_be_read_are_refused_when_they_are_drawn(change, tmp_path):
    classes, objects = masks()
    classes[0, 0] = (7, 7, 7) if change == "colour" else classes[0, 0]
    folder = write_folder(tmp_path, mask_files(classes, objects[:-1] if change == "size" else objects, LABEL_MAP))
    (export,) = read_exports([folder], "cvat")
    path = folder / "SegmentationClass" / "1.png"
    if change == "jpeg":
        path.write_bytes(image_bytes())
    elif change == "broken":
        path.write_bytes(path.read_bytes()[:60])
    elif change == "absent":
        path.unlink()

    with pytest.raises((DatasetError, FileNotFoundError), match=r"1\.png"):
        labels_of(export)


@pytest.mark.parametrize(
    "label_map",
    [b"\xff\xfe", b"brick\n", b"brick:1,2::\n", b"brick:1,2,300::\n", b"brick:::\nbrick:::\n", b":1,2,3::\n"],
)
def test_label_map_that_cannot_be_read_is_refused(label_map, tmp_path):
    write_folder(tmp_path, {**mask_files(*masks(), LABEL_MAP), "labelmap.txt": label_map})

    with pytest.raises(DatasetError, match=r"labelmap\.txt"):
        read_exports([tmp_path], "cvat")


def test_label_map_without_colours_has_those_of_pascal_voc(tmp_path):
    classes = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    classes[0], classes[1] = (128, 0, 0), (0, 128, 0)

    (export,) = read_exports(
        [write_folder(tmp_path, mask_files(classes, None, "background:::\nbrick:::\npipe:::\n"))], "cvat"
    )

    assert areas_of(export) == [("brick", 40), ("pipe", 40)]


@pytest.mark.parametrize("shape", [(20, 30), (1, 1), (1, 7)])
def test_colours_are_numbered_in_their_order(shape):
    ids = np.random.default_rng(0).integers(0, 2**24, shape).astype(np.int32)
    ids[5:10] = 7

    values, numbers = numbers_of(ids)

    assert values == sorted(set(ids.ravel().tolist())) and numbers.dtype == np.int32
    assert np.array_equal(np.array(values)[numbers], ids)


def test_masks_that_would_start_another_program_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "1.png"
    Image.new("RGB", (WIDTH, HEIGHT)).save(path, "EPS")  # Pillow gives these to Ghostscript

    with pytest.raises(DatasetError, match="none of JPEG, PNG"):
        read_ids(FileRef(path))
