"""Datasets without a fault, broken in each of the ways: exactly that fault is named, with image and segment."""

from __future__ import annotations

import copy
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from detr_d2.data.checks import KINDS
from detr_d2.data.checks.images import MOST_PIXELS

Break = Callable[[Any, Any, Any], None]

#: Whether the image id is named, and whether the segment's (or annotation's) is.
FILE, IMAGE, SEGMENT = (False, False), (True, False), (True, True)
BOTH, INSTANCES, PANOPTIC = (False, True), (False,), (True,)
CASES: list[Any] = []


def case(code: str, named: tuple[bool, bool], formats: tuple[bool, ...] = BOTH) -> Callable[[Break], Break]:
    """Registers a way to break: it gets the dataset, a picture's entry and a segment of it."""

    def keep(function: Break) -> Break:
        for panoptic in formats:
            name = f"{function.__name__}-{'panoptic' if panoptic else 'instances'}"
            CASES.append(pytest.param(function, code, named, panoptic, id=name))
        return function

    return keep


def field(code: str, key: str, *values: Any, formats: tuple[bool, ...] = BOTH) -> None:
    """Registers wrong values of a field of a segment."""
    for number, value in enumerate(values):

        def wrong(built: Any, image: Any, segment: Any, value: Any = value) -> None:
            segment[key] = copy.deepcopy(value)

        wrong.__name__ = f"{key}-{code}-{number}"
        case(code, SEGMENT, formats)(wrong)


field("box-empty", "bbox", [5, 5, 0, 9], [5, 5, 9, -1])
field("box", "bbox", [5, 5, float("nan"), 9], [5, 5, 9], None, ["5", 5, 9, 9], [5, 5, 10**400, 9])
field("box-outside", "bbox", [500, 5, 9, 9], [-20, 5, 9, 9])
field("area", "area", -4, 0, float("inf"), "12")
field("area-stale", "area", 7)
field("category-id", "category_id", "1", None, 1.0, True)
field("category-unknown", "category_id", 77, -1)
field("crowd-value", "iscrowd", 2, "0", None)
field("crowd", "iscrowd", 1)
field("mask-type", "segmentation", "RLE", [5], formats=INSTANCES)
field("mask-empty", "segmentation", [], None, [[3, 3, 3, 3, 3, 3]], formats=INSTANCES)
field("polygon-points", "segmentation", [[1, 2, 3, 4]], [[1, 2, 3, 4, 5, 6, 7]], formats=INSTANCES)
field("polygon-points", "segmentation", [[1, 2, 3, float("nan"), 5, 6]], formats=INSTANCES)
field("polygon-outside", "segmentation", [[400, 2, 410, 2, 410, 9]], formats=INSTANCES)
field("rle-size", "segmentation", {"size": [7, 7], "counts": "1"}, {"counts": "1"}, formats=INSTANCES)


@case("id-range", SEGMENT, PANOPTIC)
def id_of_void_or_beyond(built: Any, image: Any, segment: Any) -> None:
    segment["id"] = built.random.choice([0, 256**3, -1])


@case("id-type", IMAGE)
def id_is_a_word(built: Any, image: Any, segment: Any) -> None:
    segment["id"] = None


@case("id-duplicate", SEGMENT)
def segment_id_twice(built: Any, image: Any, segment: Any) -> None:
    entries = built.content["annotations"]
    if built.panoptic:
        entries = next(entry for entry in entries if entry["image_id"] == image["id"])["segments_info"]
    entries.append(copy.deepcopy(segment))


@case("id-duplicate", IMAGE)
def image_id_twice(built: Any, image: Any, segment: Any) -> None:
    built.content["images"].append({**image, "file_name": "another.png"})


@case("id-duplicate", FILE)
def category_id_twice(built: Any, image: Any, segment: Any) -> None:
    built.content["categories"].append({"id": 2, "name": "grader", "isthing": 1})


@case("category-gap", FILE)
def category_ids_with_a_gap(built: Any, image: Any, segment: Any) -> None:
    built.content["categories"].append({"id": 9, "name": "grader", "isthing": 1})


@case("category-name", FILE)
def category_name_twice(built: Any, image: Any, segment: Any) -> None:
    built.content["categories"].append({"id": 3, "name": "sky", "isthing": 1})


@case("category-name-quirk", FILE)
def category_name_with_brackets(built: Any, image: Any, segment: Any) -> None:
    built.content["categories"][0]["name"] = built.random.choice([" sky", "sky_(50%)", "dump___truck", "a_-_b"])


@case("category-name-alike", FILE)
def category_names_alike(built: Any, image: Any, segment: Any) -> None:
    built.content["categories"].append({"id": 3, "name": "Wheel-Loader", "isthing": 1})


@case("isthing", FILE, PANOPTIC)
def isthing_missing_or_wrong(built: Any, image: Any, segment: Any) -> None:
    built.content["categories"][0].update(isthing=built.random.choice([2, None, "1", True]))


@case("path-escape", IMAGE)
def file_name_escapes(built: Any, image: Any, segment: Any) -> None:
    image["file_name"] = built.random.choice(["../1.png", "/etc/passwd", "C:/1.png", "a\\1.png", "a\0.png", "\ud800"])


@case("path-duplicate", IMAGE)
def file_name_twice(built: Any, image: Any, segment: Any) -> None:
    other = next(entry for entry in built.content["images"] if entry is not image)
    built.content["images"] = [other, image]
    built.content["annotations"] = []
    image.update({key: other[key] for key in ("file_name", "width", "height")})


@case("path-collision", IMAGE)
def basenames_collide(built: Any, image: Any, segment: Any) -> None:
    first, last = built.content["images"][0], image
    if first is last:
        first = built.content["images"][1]
    built.content["images"] = [first, last]
    for entry, folder in ((first, "brick"), (last, "pipe")):
        (built.folder / "images" / folder).mkdir()
        (built.folder / "images" / entry["file_name"]).rename(built.folder / "images" / folder / "1.png")
        entry["file_name"] = f"{folder}/1.png"
    known = {first["id"], last["id"]}
    built.content["annotations"] = [entry for entry in built.content["annotations"] if entry["image_id"] in known]


@case("picture-size", IMAGE, INSTANCES)
def json_size_is_another(built: Any, image: Any, segment: Any) -> None:
    with Image.open(built.folder / "images" / image["file_name"]) as picture:
        picture.resize((70, 70)).save(built.folder / "images" / image["file_name"])


@case("picture-turned", IMAGE)
def picture_is_turned_by_exif(built: Any, image: Any, segment: Any) -> None:
    _save_again(built, image, orientation=built.random.choice([5, 6, 7, 8]))


@case("picture-orientation", IMAGE)
def picture_is_upside_down_by_exif(built: Any, image: Any, segment: Any) -> None:
    _save_again(built, image, orientation=built.random.choice([2, 3, 4]))


@case("picture-depth", IMAGE)
def picture_has_sixteen_bits(built: Any, image: Any, segment: Any) -> None:
    pixels = np.full((image["height"], image["width"]), 40000, np.uint16)
    Image.fromarray(pixels).save(built.folder / "images" / image["file_name"])


@case("picture-mode", IMAGE)
def picture_is_not_rgb(built: Any, image: Any, segment: Any) -> None:
    mode, kind = built.random.choice([("RGBA", "PNG"), ("P", "PNG"), ("CMYK", "JPEG"), ("LA", "PNG")])
    path = built.folder / "images" / image["file_name"]
    with Image.open(path) as picture:
        changed = picture.convert(mode)
    changed.save(path, format=kind)


@case("picture-broken", IMAGE)
def picture_is_cut_off_or_empty_or_noise(built: Any, image: Any, segment: Any) -> None:
    path = built.folder / "images" / image["file_name"]
    content = path.read_bytes()
    path.write_bytes(built.random.choice([b"", content[: len(content) // 2], built.random.randbytes(500)]))


@case("picture-missing", IMAGE)
def picture_is_gone(built: Any, image: Any, segment: Any) -> None:
    (built.folder / "images" / image["file_name"]).unlink()


@case("picture-large", IMAGE)
def picture_is_a_bomb(built: Any, image: Any, segment: Any) -> None:
    path = built.folder / "images" / image["file_name"]
    side = built.random.choice([14_000, 60_000])
    assert side**2 > MOST_PIXELS
    content = bytearray(path.read_bytes())
    content[16:24] = side.to_bytes(4, "big") * 2
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    path.write_bytes(content)


@case("png-missing", IMAGE, PANOPTIC)
def png_is_gone(built: Any, image: Any, segment: Any) -> None:
    _png(built, image).unlink()


@case("png-broken", IMAGE, PANOPTIC)
def png_is_noise(built: Any, image: Any, segment: Any) -> None:
    _png(built, image).write_bytes(built.random.choice([b"", built.random.randbytes(300)]))


@case("png-mode", IMAGE, PANOPTIC)
def png_is_palette_grey_or_jpeg(built: Any, image: Any, segment: Any) -> None:
    mode, kind = built.random.choice([("P", "PNG"), ("L", "PNG"), ("RGB", "JPEG")])
    with Image.open(_png(built, image)) as picture:
        changed = picture.convert(mode)
    changed.save(_png(built, image), format=kind)


@case("png-alpha", IMAGE, PANOPTIC)
def png_has_transparency(built: Any, image: Any, segment: Any) -> None:
    with Image.open(_png(built, image)) as picture:
        changed = picture.convert("RGBA")
    changed.save(_png(built, image))


@case("png-unlisted", SEGMENT, PANOPTIC)
def json_lacks_an_id_of_the_png(built: Any, image: Any, segment: Any) -> None:
    for entry in built.content["annotations"]:
        entry["segments_info"] = [info for info in entry["segments_info"] if info is not segment]


@case("png-absent", SEGMENT, PANOPTIC)
def png_lacks_an_id_of_the_json(built: Any, image: Any, segment: Any) -> None:
    with Image.open(_png(built, image)) as picture:
        colors = np.asarray(picture).astype(np.int64)
    ids = colors[..., 0] + 256 * colors[..., 1] + 65536 * colors[..., 2]
    built.write_ids(_png(built, image), np.where(ids == segment["id"], 0, ids))


@case("box-stale", SEGMENT)
def box_is_of_something_else(built: Any, image: Any, segment: Any) -> None:
    segment["bbox"][2] -= 4


@case("box-off", SEGMENT, PANOPTIC)
def box_lacks_the_last_pixel(built: Any, image: Any, segment: Any) -> None:
    segment["bbox"][3] -= 1


@case("area-sum", IMAGE, PANOPTIC)
def areas_are_more_than_the_picture(built: Any, image: Any, segment: Any) -> None:
    segment["area"] = image["width"] * image["height"] + 1


@case("rle-counts", SEGMENT, INSTANCES)
def runs_do_not_fill_the_picture(built: Any, image: Any, segment: Any) -> None:
    counts = built.random.choice(["1o", "é", "0P", "", [5], [-1, 3], 7, "\x7f\x7f", "o" * 50])
    segment["segmentation"] = {"size": [image["height"], image["width"]], "counts": counts}


@case("image-unknown", IMAGE, PANOPTIC)
@case("image-unknown", SEGMENT, INSTANCES)
def annotation_of_a_picture_that_is_not_listed(built: Any, image: Any, segment: Any) -> None:
    mine = [entry for entry in built.content["annotations"] if entry["image_id"] == image["id"]]
    others = [entry for entry in mine if entry is not segment][: 0 if built.panoptic else None]
    built.content["annotations"] = [entry for entry in built.content["annotations"] if entry not in others]
    built.content["images"] = [entry | {"id": 10**7} if entry is image else entry for entry in built.content["images"]]


def _save_again(built: Any, image: Any, orientation: int) -> None:
    path = built.folder / "images" / image["file_name"]
    exif = Image.Exif()
    exif[274] = orientation
    with Image.open(path) as picture:
        picture.load()
        picture.save(path, exif=exif)


def _png(built: Any, image: Any) -> Path:
    entry = next(entry for entry in built.content["annotations"] if entry["image_id"] == image["id"])
    return Path(built.folder / "panoptic" / entry["file_name"])


def _segments(built: Any, image: Any) -> list[Any]:
    entries = [entry for entry in built.content["annotations"] if entry["image_id"] == image["id"]]
    return entries[0]["segments_info"] if built.panoptic else entries


#: Faults that come along, as the break has these consequences too.
CONSEQUENCES = {
    "box-outside": {"box-stale"},
    "id-duplicate": {"overlap"},
    "id-range": {"png-unlisted"},
    "id-type": {"png-unlisted"},
    "image-unknown": {"picture-unlabelled"},
    "path-duplicate": {"picture-unlabelled"},
    "area-sum": {"area-stale"},
    "rle-counts": {"rle-uncompressed"},
}


@pytest.mark.parametrize(("broken", "code", "named", "panoptic"), CASES)
@settings(max_examples=3, deadline=None, database=None)
@given(seed=st.integers(0, 2**32), number=st.integers(0, 2), which=st.integers(0, 1))
def test_break_is_named_with_its_image_and_segment(
    build: Any, broken: Break, code: str, named: tuple[bool, bool], panoptic: bool, seed: int, number: int, which: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        built = build(Path(folder), seed, panoptic)
        image = built.content["images"][number]
        segment = _segments(built, image)[which]

        broken(built, image, segment)
        found = built.faults()

    about = [fault for fault in found if fault.code == code]
    assert {fault.code for fault in found} - CONSEQUENCES.get(code, set()) == {code}, found
    assert len(about) == 1
    assert about[0].severity == KINDS[code].severity
    assert about[0].image_id == (image["id"] if named[0] else None)
    assert about[0].segment_id == (segment["id"] if named[1] else None)
    assert about[0].message and about[0].fix


@settings(max_examples=10, deadline=None, database=None)
@given(seed=st.integers(0, 2**32), panoptic=st.booleans())
def test_dataset_without_a_fault_has_none(build: Any, seed: int, panoptic: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        found = build(Path(folder), seed, panoptic).faults()

    assert found == []
