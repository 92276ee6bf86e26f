"""What detr-d2 check --fix makes of single faults, and of files of any content."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from detr_d2.check import Source, Sources
from detr_d2.check.copying import fix_dataset
from detr_d2.data.coco_json import instances_dicts
from detr_d2.errors import DatasetError

CVAT = {"attributes": {"occluded": False}}


def fix(built: Any, out: Path) -> dict[str, Any]:
    """The JSON of the repaired copy."""
    built.json_file.write_text(json.dumps(built.content))
    pngs = str(built.folder / "panoptic") if built.panoptic else None
    fix_dataset(Sources((Source(str(built.json_file), str(built.folder / "images"), pngs),)), str(out))
    content: dict[str, Any] = json.loads((out / "labels.json").read_text())
    return content


def ids_of(path: Path) -> np.ndarray:
    """(H, W) ids of a panoptic PNG."""
    with Image.open(path) as image:
        assert image.mode == "RGB"
        colors = np.asarray(image).astype(np.int64)
    return colors[..., 0] + 256 * colors[..., 1] + 65536 * colors[..., 2]


@pytest.fixture
def instances(build: Any, tmp_path: Path) -> Any:
    (tmp_path / "dataset").mkdir()
    return build(tmp_path / "dataset", 3, panoptic=False)


@pytest.fixture
def panoptic(build: Any, tmp_path: Path) -> Any:
    (tmp_path / "dataset").mkdir()
    return build(tmp_path / "dataset", 3, panoptic=True)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_turned_image_is_saved_as_it_was_labelled(instances: Any, tmp_path: Path, kind: str) -> None:
    exif = Image.Exif()
    exif[274] = 6
    height, width = (instances.content["images"][0][key] for key in ("height", "width"))
    slope = np.linspace(0, 255, height * width).reshape(height, width).astype(np.uint8)
    Image.fromarray(slope).convert("RGB").save(instances.image(), kind, exif=exif)
    with Image.open(instances.image()) as image:
        stored = np.asarray(image).astype(int)

    fix(instances, tmp_path / "out")

    with Image.open(tmp_path / "out" / "images" / instances.image().name) as image:
        assert image.getexif().get(274) is None
        assert np.abs(np.asarray(image).astype(int) - stored).mean() <= (0 if kind == "PNG" else 3)


def test_size_of_run_lengths_tells_that_the_json_is_wrong(instances: Any, tmp_path: Path) -> None:
    image = instances.content["images"][0]
    right = dict(image)
    image.update(width=image["width"] + 40)

    content = fix(instances, tmp_path / "out")

    assert content["images"][0] == right
    assert len(content["annotations"]) == 6


def test_image_of_half_the_size_gets_that_of_its_labels(instances: Any, tmp_path: Path) -> None:
    image = instances.content["images"][0]
    with Image.open(instances.image()) as stored:
        stored.resize((2 * image["width"], 2 * image["height"])).save(instances.image())

    content = fix(instances, tmp_path / "out")

    with Image.open(tmp_path / "out" / "images" / image["file_name"]) as written:
        assert written.size == (image["width"], image["height"])
    assert content == instances.content


@pytest.mark.parametrize(("high", "expected"), [(65535, 255), (4095, 255), (200, 200)])
def test_deep_image_keeps_the_highest_eight_bits_that_it_uses(
    instances: Any, tmp_path: Path, high: int, expected: int
) -> None:
    image = instances.content["images"][0]
    pixels = np.zeros((image["height"], image["width"]), np.uint16)
    pixels[0, 0] = high
    Image.fromarray(pixels).save(instances.image())

    fix(instances, tmp_path / "out")

    with Image.open(tmp_path / "out" / "images" / image["file_name"]) as image:
        assert (image.mode, image.getpixel((0, 0)), image.getpixel((1, 1))) == ("RGB", (expected,) * 3, (0, 0, 0))


def test_class_keeps_what_stands_in_its_brackets(instances: Any, tmp_path: Path) -> None:
    instances.content["categories"][0]["name"] = "Dump truck - (10t)"

    content = fix(instances, tmp_path / "out")

    assert content["categories"][0]["name"] == "dump_truck_10t"


@pytest.mark.parametrize("form", ["palette", "palette of others", "grey"])
def test_png_whose_ids_can_be_guessed_becomes_rgb(panoptic: Any, tmp_path: Path, form: str) -> None:
    segments = panoptic.content["annotations"][0]["segments_info"]
    if form != "palette":
        for number, segment in enumerate(segments):
            ids = ids_of(panoptic.png())
            panoptic.write_ids(panoptic.png(), np.where(ids == segment["id"], 7 + number, ids))
            segment["id"] = 7 + number
    ids = ids_of(panoptic.png())
    if form == "palette":
        with Image.open(panoptic.png()) as image:
            image.quantize(3).save(panoptic.png())
    else:
        image = Image.fromarray(ids.astype(np.uint8))
        if form == "palette of others":
            image.putpalette([200] * 768)
        image.save(panoptic.png())

    content = fix(panoptic, tmp_path / "out")

    assert np.array_equal(ids_of(tmp_path / "out" / "panoptic" / panoptic.png().name), ids)
    assert content == panoptic.content


def test_png_of_half_the_size_is_enlarged_without_mixing_ids(panoptic: Any, tmp_path: Path) -> None:
    ids = ids_of(panoptic.png()).repeat(2, axis=0).repeat(2, axis=1)
    panoptic.write_ids(panoptic.png(), ids)

    content = fix(panoptic, tmp_path / "out")

    assert np.array_equal(ids_of(tmp_path / "out" / "panoptic" / panoptic.png().name), ids[::2, ::2])
    assert content == panoptic.content


def test_segment_without_an_id_gets_that_of_its_pixels(panoptic: Any, tmp_path: Path) -> None:
    expected = json.loads(json.dumps(panoptic.content))
    panoptic.content["annotations"][1]["segments_info"][1]["id"] = None

    content = fix(panoptic, tmp_path / "out")

    key = lambda segment: segment["id"]  # noqa: E731
    for found, right in zip(content["annotations"], expected["annotations"]):
        assert sorted(found["segments_info"], key=key) == sorted(right["segments_info"], key=key)


def test_pixels_that_nobody_lists_become_void(panoptic: Any, tmp_path: Path) -> None:
    gone = panoptic.content["annotations"][0]["segments_info"].pop()
    ids = ids_of(panoptic.png())

    fix(panoptic, tmp_path / "out")

    found = ids_of(tmp_path / "out" / "panoptic" / panoptic.png().name)
    assert np.array_equal(found, np.where(ids == gone["id"], 0, ids))


def test_name_of_the_png_tells_which_of_two_images_with_one_id_is_meant(panoptic: Any, tmp_path: Path) -> None:
    panoptic.content["images"].insert(0, {**panoptic.content["images"][0], "file_name": "another.png"})

    content = fix(panoptic, tmp_path / "out")

    assert content["images"] == panoptic.content["images"][1:]


def test_labels_of_two_images_with_one_id_are_left_out(instances: Any, tmp_path: Path) -> None:
    first, second, third = instances.content["images"]
    second["id"] = first["id"]

    content = fix(instances, tmp_path / "out")

    assert content["images"] == [third]
    assert {entry["image_id"] for entry in content["annotations"]} == {third["id"]}


def test_labels_of_one_file_under_two_ids_come_together(instances: Any, tmp_path: Path) -> None:
    first, second, _ = instances.content["images"]
    moved = [entry["id"] for entry in instances.content["annotations"] if entry["image_id"] == second["id"]]
    for entry in instances.content["annotations"]:
        entry["segmentation"] = [[1, 1, 9, 1, 9, 9, 1, 9]]
        entry.update(bbox=[1, 1, 8, 8], area=64)
    second.update({key: first[key] for key in ("file_name", "width", "height")})

    content = fix(instances, tmp_path / "out")

    assert {entry["image_id"] for entry in content["annotations"] if entry["id"] in moved} == {first["id"]}
    assert len(content["annotations"]) == 6


def test_categories_of_one_name_become_one(instances: Any, tmp_path: Path) -> None:
    instances.content["categories"][1]["name"] = "sky"

    content = fix(instances, tmp_path / "out")

    assert [entry["id"] for entry in content["categories"]] == [1]
    assert {entry["category_id"] for entry in content["annotations"]} == {1}


@pytest.mark.parametrize(("name", "expected"), [("sky", 0), ("Wheel Loader", 1), ("no such thing", 1)])
def test_isthing_is_what_the_name_is_known_for(panoptic: Any, tmp_path: Path, name: str, expected: int) -> None:
    del panoptic.content["categories"][0]["isthing"]
    panoptic.content["categories"][0]["name"] = name
    panoptic.content["categories"][1]["name"] = "grader"

    assert fix(panoptic, tmp_path / "out")["categories"][0]["isthing"] == expected


def test_numbers_written_as_text_are_numbers(instances: Any, tmp_path: Path) -> None:
    expected = json.loads(json.dumps(instances.content))
    instances.content["categories"][1]["id"] = "2"
    instances.content["annotations"][1].update(category_id="2", iscrowd="0", id=str(expected["annotations"][1]["id"]))
    instances.content["annotations"][2]["image_id"] = float(expected["annotations"][2]["image_id"])

    assert fix(instances, tmp_path / "out") == expected


def test_brush_masks_of_cvat_are_no_crowds_any_more(instances: Any, tmp_path: Path) -> None:
    for entry in instances.content["annotations"]:
        entry.update(iscrowd=int(entry["category_id"] == 2), **CVAT)

    content = fix(instances, tmp_path / "out")

    assert {entry["iscrowd"] for entry in content["annotations"]} == {0}


def test_rectangle_of_cvat_stays_a_box(instances: Any, tmp_path: Path) -> None:
    entry = instances.content["annotations"][0]
    entry["segmentation"] = []

    content = fix(instances, tmp_path / "out")

    assert content["annotations"][0] == {key: value for key, value in entry.items() if key != "segmentation"}


def test_holes_written_as_polygons_are_holes(instances: Any, tmp_path: Path) -> None:
    outer, inner = [2, 2, 14, 2, 14, 22, 2, 22], [4, 4, 12, 4, 12, 20, 4, 20]
    entry = instances.content["annotations"][0]
    entry.update(segmentation=[outer, inner], bbox=[2, 2, 12, 20], area=112)

    mask = coco_mask.decode(fix(instances, tmp_path / "out")["annotations"][0]["segmentation"])

    assert (mask.sum(), mask[2, 2], mask[10, 8]) == (112, 1, 0)


@pytest.mark.parametrize("name", ["../{}", "/home/me/photos/{}", "C:\\photos\\{}", "elsewhere/../{}"])
def test_name_that_leads_elsewhere_is_that_of_the_file_in_the_folder(instances: Any, tmp_path: Path, name: str) -> None:
    expected = json.loads(json.dumps(instances.content))
    image = instances.content["images"][0]
    image["file_name"] = name.format(image["file_name"])

    assert fix(instances, tmp_path / "out") == expected


def test_name_in_other_letters_is_that_of_the_file(instances: Any, tmp_path: Path) -> None:
    expected = json.loads(json.dumps(instances.content))
    instances.content["images"][0]["file_name"] = instances.image().name.upper()

    assert fix(instances, tmp_path / "out") == expected


def test_image_that_loses_all_labels_goes(instances: Any, tmp_path: Path) -> None:
    gone = instances.content["images"][0]["id"]
    for entry in instances.content["annotations"]:
        if entry["image_id"] == gone:
            entry["category_id"] = 99

    content = fix(instances, tmp_path / "out")

    assert content["images"] == instances.content["images"][1:]
    assert len(list((tmp_path / "out" / "images").iterdir())) == 2


def test_dataset_without_anything_right_is_refused_with_the_reasons(instances: Any, tmp_path: Path) -> None:
    instances.content["categories"] = []

    with pytest.raises(DatasetError, match=r"(?s)no copy.*labels\.json: json-key"):
        fix(instances, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["dataset"]


@pytest.mark.parametrize("value", [True, False])
def test_truth_value_for_iscrowd_is_one_thing_to_check_fix_and_loader(
    instances: Any, tmp_path: Path, value: bool
) -> None:
    instances.content["annotations"][0]["iscrowd"] = value

    assert "crowd-value" in {fault.code for fault in instances.faults(quick=True)}
    with pytest.raises(DatasetError, match="iscrowd"):
        instances_dicts(
            instances.content, "labels.json", str(instances.folder / "images"), {1: (0, True), 2: (1, True)}, 1
        )
    assert fix(instances, tmp_path / "out")["annotations"][0]["iscrowd"] is int(value)
