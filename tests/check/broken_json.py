"""Ways to break the JSON of a dataset."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from tests.check.breaking import FILE, IMAGE, INSTANCES, PANOPTIC, SEGMENT, Ways

WAYS = Ways()

WAYS.field("box-empty", "bbox", [5, 5, 0, 9], [5, 5, 9, -1])
WAYS.field("box", "bbox", [5, 5, float("nan"), 9], [5, 5, 9], None, ["5", 5, 9, 9], [5, 5, 10**400, 9])
WAYS.field("box-outside", "bbox", [500, 5, 9, 9], [-20, 5, 9, 9])
WAYS.field("area", "area", -4, 0, float("inf"), "12")
WAYS.field("area-stale", "area", 7)
WAYS.field("category-id", "category_id", "1", None, 1.0, True)
WAYS.field("category-unknown", "category_id", 77, -1)
WAYS.field("crowd-value", "iscrowd", 2, "0", None)
WAYS.field("crowd", "iscrowd", 1)
WAYS.field("mask-type", "segmentation", "RLE", [5], formats=INSTANCES)
WAYS.field("mask-empty", "segmentation", [], None, [[3, 3, 3, 3, 3, 3]], formats=INSTANCES)
WAYS.field("polygon-points", "segmentation", [[1, 2, 3, 4]], [[1, 2, 3, 4, 5, 6, 7]], formats=INSTANCES)
WAYS.field("polygon-points", "segmentation", [[1, 2, 3, float("nan"), 5, 6]], formats=INSTANCES)
WAYS.field("polygon-outside", "segmentation", [[400, 2, 410, 2, 410, 9]], formats=INSTANCES)
WAYS.field("rle-size", "segmentation", {"size": [7, 7], "counts": "1"}, {"counts": "1"}, formats=INSTANCES)


@WAYS.case("id-range", SEGMENT, PANOPTIC)
def id_of_void_or_beyond(built: Any, image: Any, segment: Any) -> None:
    segment["id"] = built.random.choice([0, 256**3, -1])


@WAYS.case("id-type", IMAGE)
def id_is_a_word(built: Any, image: Any, segment: Any) -> None:
    segment["id"] = None


@WAYS.case("id-duplicate", SEGMENT)
def segment_id_twice(built: Any, image: Any, segment: Any) -> None:
    entries = built.content["annotations"]
    if built.panoptic:
        entries = next(entry for entry in entries if entry["image_id"] == image["id"])["segments_info"]
    entries.append(copy.deepcopy(segment))


@WAYS.case("id-duplicate", IMAGE)
def image_id_twice(built: Any, image: Any, segment: Any) -> None:
    built.content["images"].append({**image, "file_name": "another.png"})


@WAYS.case("id-duplicate", FILE)
def category_id_twice(built: Any, image: Any, segment: Any) -> None:
    built.content["categories"].append({"id": 2, "name": "grader", "isthing": 1})


@WAYS.case("category-gap", FILE)
def category_ids_with_a_gap(built: Any, image: Any, segment: Any) -> None:
    built.content["categories"].append({"id": 9, "name": "grader", "isthing": 1})


@WAYS.case("category-name", FILE)
def category_name_twice(built: Any, image: Any, segment: Any) -> None:
    built.content["categories"].append({"id": 3, "name": "sky", "isthing": 1})


@WAYS.case("category-name-quirk", FILE)
def category_name_with_brackets(built: Any, image: Any, segment: Any) -> None:
    built.content["categories"][0]["name"] = built.random.choice([" sky", "sky_(50%)", "dump___truck", "a_-_b"])


@WAYS.case("category-name-alike", FILE)
def category_names_alike(built: Any, image: Any, segment: Any) -> None:
    built.content["categories"].append({"id": 3, "name": "Wheel-Loader", "isthing": 1})


@WAYS.case("isthing", FILE, PANOPTIC)
def isthing_missing_or_wrong(built: Any, image: Any, segment: Any) -> None:
    built.content["categories"][0].update(isthing=built.random.choice([2, None, "1", True]))


@WAYS.case("path-escape", IMAGE)
def file_name_escapes(built: Any, image: Any, segment: Any) -> None:
    image["file_name"] = built.random.choice(["../1.png", "/etc/passwd", "C:/1.png", "a\\1.png", "a\0.png", "\ud800"])


@WAYS.case("path-duplicate", IMAGE)
def file_name_twice(built: Any, image: Any, segment: Any) -> None:
    other = next(entry for entry in built.content["images"] if entry is not image)
    built.content["images"] = [other, image]
    kept = [entry for entry in built.content["annotations"] if entry["image_id"] == other["id"]]
    built.content["annotations"] = kept
    image.update({key: other[key] for key in ("file_name", "width", "height")})


@WAYS.case("path-collision", IMAGE)
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


@WAYS.case("box-stale", SEGMENT)
def box_is_of_something_else(built: Any, image: Any, segment: Any) -> None:
    segment["bbox"][2] -= 4


@WAYS.case("box-off", SEGMENT, PANOPTIC)
def box_lacks_the_last_pixel(built: Any, image: Any, segment: Any) -> None:
    segment["bbox"][3] -= 1


@WAYS.case("area-sum", IMAGE, PANOPTIC)
def areas_are_more_than_the_picture(built: Any, image: Any, segment: Any) -> None:
    segment["area"] = image["width"] * image["height"] + 1


@WAYS.case("rle-counts", SEGMENT, INSTANCES)
def runs_do_not_fill_the_picture(built: Any, image: Any, segment: Any) -> None:
    counts = built.random.choice(["1o", "é", "0P", "", [5], [-1, 3], 7, "\x7f\x7f", "o" * 50])
    segment["segmentation"] = {"size": [image["height"], image["width"]], "counts": counts}


@WAYS.case("image-unknown", IMAGE, PANOPTIC)
@WAYS.case("image-unknown", SEGMENT, INSTANCES)
def annotation_of_a_picture_that_is_not_listed(built: Any, image: Any, segment: Any) -> None:
    mine = [entry for entry in built.content["annotations"] if entry["image_id"] == image["id"]]
    others = [entry for entry in mine if entry is not segment][: 0 if built.panoptic else None]
    built.content["annotations"] = [entry for entry in built.content["annotations"] if entry not in others]
    built.content["images"] = [entry | {"id": 10**7} if entry is image else entry for entry in built.content["images"]]


@WAYS.case("box-beyond", SEGMENT)
def box_passes_the_edge(built: Any, image: Any, segment: Any) -> None:
    segment["bbox"] = [-5, segment["bbox"][1], segment["bbox"][2] + 5, segment["bbox"][3]]


@WAYS.case("area-missing", SEGMENT)
def area_is_gone(built: Any, image: Any, segment: Any) -> None:
    del segment["area"]


@WAYS.case("area-fraction", SEGMENT, PANOPTIC)
def area_is_a_fraction(built: Any, image: Any, segment: Any) -> None:
    segment["area"] += 0.0


@WAYS.case("json-key", IMAGE)
def size_is_gone(built: Any, image: Any, segment: Any) -> None:
    del image[built.random.choice(["width", "height"])]


@WAYS.case("json-type", IMAGE)
def size_is_no_number(built: Any, image: Any, segment: Any) -> None:
    image["width"] = built.random.choice(["640", -3, 0, 1.5, None])


@WAYS.case("json-type", FILE)
def annotation_is_no_object(built: Any, image: Any, segment: Any) -> None:
    built.content["annotations"].append(built.random.choice([5, "annotation", None, [1]]))


@WAYS.case("json-number", FILE)
def infinity_stands_elsewhere(built: Any, image: Any, segment: Any) -> None:
    built.content["info"] = {"version": float("inf")}


@WAYS.case("json-text", FILE)
def text_has_half_of_a_character(built: Any, image: Any, segment: Any) -> None:
    built.content["info"] = {"description": "half \ud83d"}


@WAYS.case("category-id", FILE)
def category_has_no_id(built: Any, image: Any, segment: Any) -> None:
    built.content["categories"].append({"id": built.random.choice([None, "x", 1.5]), "name": "hoist", "isthing": 1})


@WAYS.case("polygon-beyond", SEGMENT, INSTANCES)
def polygon_passes_the_edge(built: Any, image: Any, segment: Any) -> None:
    segment.update(segmentation=[[-5, 2, 9, 2, 9, 22, -5, 22]], bbox=[0, 2, 9, 20], area=180)


@WAYS.case("polygon-crossing", SEGMENT, INSTANCES)
def polygon_crosses_itself(built: Any, image: Any, segment: Any) -> None:
    segment.update(segmentation=[[1, 2, 13, 22, 13, 2, 1, 22]], bbox=[1, 2, 12, 20], area=120)


@WAYS.case("polygon-holes", SEGMENT, INSTANCES)
def hole_is_written_as_a_polygon(built: Any, image: Any, segment: Any) -> None:
    outer, inner = [1, 2, 13, 2, 13, 22, 1, 22], [3, 4, 11, 4, 11, 20, 3, 20]
    segment.update(segmentation=[outer, inner], bbox=[1, 2, 12, 20], area=240 - 128)


@WAYS.case("overlap", SEGMENT, INSTANCES)
def objects_overlap(built: Any, image: Any, segment: Any) -> None:
    mine = [entry for entry in built.content["annotations"] if entry["image_id"] == image["id"]]
    other = next(entry for entry in mine if entry is not segment)
    keys = ("segmentation", "bbox", "area")
    other.update({key: copy.deepcopy(segment[key]) for key in keys})
    built.content["annotations"].remove(segment)
    built.content["annotations"].append(segment)


@WAYS.case("rle-uncompressed", SEGMENT, INSTANCES)
def runs_are_a_list(built: Any, image: Any, segment: Any) -> None:
    height, width = image["height"], image["width"]
    counts = [2 * height, 5 * height, (width - 7) * height]
    segment.update(segmentation={"size": [height, width], "counts": counts}, bbox=[2, 0, 5, height], area=5 * height)


@WAYS.case("box-off", SEGMENT, INSTANCES)
def box_of_runs_lacks_a_pixel(built: Any, image: Any, segment: Any) -> None:
    mask = np.zeros((image["height"], image["width"]), np.uint8, order="F")
    mask[3:9, 4:8] = 1
    runs = coco_mask.encode(mask)
    runs["counts"] = runs["counts"].decode()
    segment.update(segmentation=runs, bbox=[4, 3, 3, 5], area=24)


@WAYS.case("image-unlabelled", IMAGE)
def picture_has_no_label(built: Any, image: Any, segment: Any) -> None:
    others = [entry for entry in built.content["annotations"] if entry["image_id"] != image["id"]]
    built.content["annotations"] = others
