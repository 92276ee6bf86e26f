"""Policies that don't ask a model, COCO's super-categories, and the ring around people's labels."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from detr_d2.data import coco_categories, construction_categories
from detr_d2.data.categories import coco_super_categories
from detr_d2.errors import ConfigError, DatasetError, MissingFileError
from detr_d2.labels.records import FileRef, ImageRecord
from detr_d2.prepare.stuff import StuffSettings, build_policy
from detr_d2.prepare.stuff.policies import ClassMapping, beyond_margin, coco_stuff, super_categories


def _free(height=8, width=10):
    free = np.ones((height, width), bool)
    free[2:4, 3:6] = False
    return free


def _image(path, name="site/1.jpg"):
    return ImageRecord(FileRef(path), name, 0, 0, ())


def test_super_categories_cover_all_of_cocos_stuff():
    stuff = {category.name for category in coco_categories() if not category.is_thing}

    assert set(coco_super_categories()) == stuff and len(stuff) == 53
    assert {"misc", *coco_super_categories().values()} == {category.name for category in super_categories()}
    assert super_categories() == construction_categories()[:16] and len(coco_stuff()) == 54


def test_super_categories_are_those_of_cocos_own_file(shared_data):
    content = json.loads((shared_data / "coco128_panoptic" / "val" / "panoptic.json").read_text())
    shortened = {"food-stuff": "food", "furniture-stuff": "furniture", "raw-material": "rawmaterial"}

    theirs = {c["name"]: c["supercategory"] for c in content["categories"] if not c["isthing"]}

    assert {name: shortened.get(found, found) for name, found in theirs.items()} == coco_super_categories()


@pytest.mark.parametrize(
    ("classes", "things", "name", "is_thing", "expected"),
    [
        ("super", "misc", "sky-other-merged", False, "sky"),
        ("super", "misc", "Sky other_merged", None, "sky"),
        ("coco", "misc", "sky-other-merged", None, "sky-other-merged"),
        ("super", "misc", "person", True, "misc"),
        ("super", "void", "person", None, ""),
        ("super", "void", "scaffold", False, "scaffold"),
        ("super", "misc", "scaffold", True, "misc"),
        ("super", "misc", "scaffold", None, "scaffold"),
    ],
)
def test_class_mapping_knows_cocos_names_and_leaves_others(classes, things, name, is_thing, expected):
    assert ClassMapping(classes, things).name_of(name, is_thing) == expected


def test_class_mapping_lists_what_it_may_give():
    assert len(ClassMapping("super").records()) == 16
    assert [record.name for record in ClassMapping("coco").records(["scaffold"])][-1] == "scaffold"
    assert all(record.is_thing is False for record in ClassMapping("coco").records())


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**24 - 1), st.integers(0, 4))
def test_margin_is_the_euclidean_distance(bits, margin):
    free = np.array([(bits >> place) & 1 for place in range(24)], bool).reshape(4, 6)
    labelled = np.argwhere(~free)

    found = beyond_margin(free, margin)

    for row, column in np.ndindex(free.shape):
        distances = np.hypot(*(labelled - (row, column)).T) if len(labelled) else np.array([np.inf])
        assert found[row, column] == (distances.min() > margin)


def test_none_gives_nothing_and_misc_all_that_is_free():
    none, misc, ringed = build_policy(["none"]), build_policy(["misc"]), build_policy(["misc"], StuffSettings(margin=1))

    assert none(None, _free(), "a/1.jpg") == [] and none.categories == ()
    (region,) = misc(None, _free(), "a/1.jpg")
    assert (region.class_name, region.source, region.score) == ("misc", "rest", None)
    np.testing.assert_array_equal(region.mask, _free())
    assert ringed(None, _free(), "a/1.jpg")[0].mask.sum() == _free().sum() - 10
    assert [repr(policy) for policy in (none, misc, ringed)] == [
        "NoStuff()",
        "MiscStuff(margin=0)",
        "MiscStuff(margin=1)",
    ]
    assert [policy.asked_for for policy in (none, misc, ringed)] == ["none", "misc, margin 0", "misc, margin 1"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "allowed are none, misc, 'masks DIR'"),
        (["all"], "allowed are none"),
        (["misc", "x"], "'misc' takes nothing behind it"),
        (["masks"], "'masks' needs a folder"),
        (["model", "a", "b"], "'model' needs weights or module:function"),
    ],
)
def test_ways_that_arent_there_are_refused(words, message):
    with pytest.raises(ConfigError, match=message):
        build_policy(words)


@pytest.mark.parametrize(
    ("choices", "message"),
    [({"score": 1.5}, "--stuff-score 1.5"), ({"margin": -1}, "--margin -1"), ({"classes": "all"}, "--stuff-classes")],
)
def test_settings_that_arent_allowed_are_refused(choices, message):
    with pytest.raises(ConfigError, match=message):
        StuffSettings(**choices)


def _masks(folder, legend, array, mode=None, place="site/1.png", name="classes.yaml"):
    path = folder / place
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)
    (folder / name).write_text(legend)
    return build_policy(["masks", str(folder)])


def _values():
    values = np.zeros((8, 10), np.uint8)
    values[:4], values[4:, :5] = 1, 2
    return values


@pytest.mark.parametrize("place", ["site/brick/1.png", "brick/1.png", "1.png"])
def test_masks_are_found_by_the_images_name(tmp_path, place):
    policy = _masks(tmp_path, "1: wall-brick\n2: scaffold\n", _values(), place=place)
    policy.prepare([_image(tmp_path / "1.jpg", "site/brick/1.jpg")], tmp_path)

    regions = pickle.loads(pickle.dumps(policy))(None, _free(), "site/brick/1.jpg")

    assert [(region.class_name, int(region.mask.sum()), region.source) for region in regions] == [
        ("wall", 40 - 6, "masks"),
        ("scaffold", 20, "masks"),
    ]
    assert {"wall", "scaffold", "misc"} < {record.name for record in policy.categories} and not policy.notes


def test_masks_in_colour_have_a_labelmap(tmp_path):
    colors = np.zeros((8, 10, 3), np.uint8)
    colors[:2], colors[6:] = (10, 20, 30), (200, 0, 0)

    policy = _masks(tmp_path, "# label:color\nperson:200,0,0::\nsea:10,20,30::\n", colors, name="labelmap.txt")

    assert {r.class_name: int(r.mask.sum()) for r in policy(None, _free(), "site/1.jpg")} == {"water": 20, "misc": 20}


def test_a_labelmap_without_colours_has_those_of_pascal_voc(tmp_path):
    colors = np.zeros((8, 10, 3), np.uint8)
    colors[:2], colors[6:] = (128, 0, 0), (0, 128, 0)

    policy = _masks(tmp_path, "background:::\nsea:::\nscaffold:::\n", colors, name="labelmap.txt")

    regions = policy(None, _free(), "site/1.jpg")
    assert {region.class_name: int(region.mask.sum()) for region in regions} == {"water": 20, "scaffold": 20}


def test_masks_of_a_palette_are_numbers(tmp_path):
    image = Image.fromarray(_values(), "P")
    image.putpalette([7, 7, 7, 1, 2, 3, 90, 90, 90])
    image.save(tmp_path / "1.png")
    (tmp_path / "classes.yaml").write_text("{1: sea, 2: void}")

    policy = build_policy(["masks", str(tmp_path)])

    assert [region.class_name for region in policy(None, _free(), "site/1.jpg")] == ["water"]


def test_masks_that_are_missing_are_named(tmp_path):
    policy = _masks(tmp_path, "1: wall\n2: sky", _values())

    policy.prepare([_image(tmp_path, "site/1.jpg"), _image(tmp_path, "site/2.jpg")], tmp_path)

    assert [(note.code, note.image) for note in policy.notes] == [("stuff-mask-missing", "site/2.jpg")]
    assert policy(None, _free(), "site/2.jpg") == []
    with pytest.raises(MissingFileError, match=r"no image has a mask; looked for .*site/3\.png, .*3\.png"):
        policy.prepare([_image(tmp_path, "site/3.jpg")], tmp_path)


def test_masks_that_are_wrong_are_refused(tmp_path):
    policy = _masks(tmp_path, "1: wall", _values())

    with pytest.raises(DatasetError, match=r"has the value 2, which classes\.yaml doesn't name"):
        policy(None, _free(), "site/1.jpg")
    with pytest.raises(DatasetError, match="is 10x8 pixels, its image 5x4"):
        policy(None, np.ones((4, 5), bool), "site/1.jpg")
    (tmp_path / "site" / "1.png").write_bytes(b"no picture")
    with pytest.raises(DatasetError, match="can't be read"):
        policy(None, _free(), "site/1.jpg")
    Image.fromarray(_values()).save(tmp_path / "site" / "1.png", "JPEG")
    with pytest.raises(DatasetError, match="is a JPEG"):
        policy(None, _free(), "site/1.jpg")


@pytest.mark.parametrize(
    ("name", "legend", "message"),
    [
        ("classes.yaml", "- wall", "write a line 'number: name'"),
        ("classes.yaml", "wall: 1", "'wall': 1 isn't a whole number and a name"),
        ("classes.yaml", "{", "isn't understood"),
        ("labelmap.txt", "wall:1,2::", "isn't 'name:red,green,blue::'"),
        ("labelmap.txt", "# nothing", "has no lines"),
        ("readme.txt", "", "nothing says which classes the masks show"),
    ],
)
def test_lists_of_classes_that_arent_understood_are_refused(tmp_path, name, legend, message):
    with pytest.raises((ConfigError, MissingFileError), match=message):
        _masks(tmp_path, legend, _values(), name=name)
