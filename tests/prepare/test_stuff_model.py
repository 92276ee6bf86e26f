"""Models that label what people didn't: functions in Python, and this project's own from weights alone."""

from __future__ import annotations

import pickle
import sys

import numpy as np
import pytest
from PIL import Image

from detr_d2.checkpoint import DetrCheckpointer
from detr_d2.data import coco_categories
from detr_d2.errors import ConfigError, DatasetError, MissingFileError, WeightsError
from detr_d2.labels.records import FileRef, ImageRecord
from detr_d2.prepare.preparing import decode
from detr_d2.prepare.stuff import StuffSettings, build_policy
from detr_d2.prepare.stuff import model as stuff_model
from detr_d2.prepare.stuff.model import Answer, AnsweredSegment, AnswerFolder

from detectron2.modeling import build_model

MODULE = """
import numpy as np
calls = []
def label(pixels):
    calls.append(pixels.shape)
    ids = np.zeros(pixels.shape[:2], np.int64)
    ids[:10], ids[10:20], ids[20:30], ids[30:] = 7, 300, 5, 9
    ids[:, 0] = 12
    return ids, [
        {"id": 7, "name": "sky-other-merged", "score": 0.9},
        {"id": 300, "category_id": 1, "score": 0.95},
        {"id": 5, "category_id": 191, "score": 0.5},
        {"id": 9, "name": "sky-other-merged", "score": 1.0},
    ]
def rebar(pixels):
    return np.ones(pixels.shape[:2], int), [{"id": 1, "name": "rebar mat"}]
def listed(pixels):
    return rebar(pixels)
listed.stuff_classes = ["rebar mat"]
def flat(pixels):
    return np.ones(3, int), []
def nameless(pixels):
    return np.ones(pixels.shape[:2], int), [{"id": 1}]
def numberless(pixels):
    return np.ones(pixels.shape[:2], int), [{"name": "wall"}]
def sure(pixels):
    return np.ones(pixels.shape[:2], int), [{"id": 1, "name": "wall-brick", "score": 7}]
def single(pixels):
    return np.ones(pixels.shape[:2], int)
nothing = 3
"""


TINY_RESNET = ("MODEL.RESNETS.RES2_OUT_CHANNELS", 16, "MODEL.RESNETS.RES5_DILATION", 1)
COCO = ("DATASETS.TRAIN", "()", "DATASETS.TEST", "('coco_2017_val_panoptic_detr',)")


@pytest.fixture
def module(tmp_path, monkeypatch):
    """The module ``labelling`` in the working directory."""
    (tmp_path / "labelling.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    yield "labelling"
    sys.modules.pop("labelling", None)


@pytest.fixture
def images(tmp_path):
    """Three pictures of 40 x 48 pixels; the last one is cut off."""
    rng = np.random.default_rng(0)
    records = []
    for number in range(3):
        path = tmp_path / f"{number}.png"
        Image.fromarray(rng.integers(0, 255, (40, 48, 3), np.uint8)).save(path)
        records.append(ImageRecord(FileRef(path), f"site/{number}.png", 48, 40, ()))
    path.write_bytes(path.read_bytes()[:99])
    return records


def _prepared(policy, images, folder):
    policy.prepare(images, folder)
    return pickle.loads(pickle.dumps(policy))


def _free():
    free = np.ones((40, 48), bool)
    free[15:25, 20:28] = False
    return free


def test_model_stuff_maps_classes_drops_low_scores_and_keeps_away_from_labels(module, images, tmp_path):
    policy = _prepared(build_policy(["model", "labelling:label"], StuffSettings(margin=3)), images, tmp_path / "work")

    regions = policy(decode(images[0]).pixels(), _free(), "site/0.png")

    assert [(region.class_name, region.source) for region in regions] == [("sky", "model"), ("misc", "model")]
    sky, misc = regions
    assert sky.mask.sum() == 20 * 47 and sky.score == 0.95 and misc.score == 0.95
    assert not misc.mask[12:28, 20:28].any() and misc.mask[10:20, 1:17].all() and not misc.mask[10:20, 0].any()
    assert not sky.mask[20:30].any()


@pytest.mark.parametrize(
    ("choices", "expected"),
    [
        ({"things": "void", "margin": 0}, {"sky": 20 * 47}),
        ({"classes": "coco", "score": 0.5, "margin": 0}, {"sky-other-merged", "misc", "pavement-merged"}),
        ({"score": 1.0, "margin": 0}, {"sky": 10 * 47}),
    ],
)
def test_choices_decide_what_becomes_of_classes(module, images, tmp_path, choices, expected):
    policy = _prepared(build_policy(["model", "labelling:label"], StuffSettings(**choices)), images, tmp_path / "w")

    found = {region.class_name: int(region.mask.sum()) for region in policy(decode(images[0]).pixels(), _free(), "")}

    assert (found if isinstance(expected, dict) else set(found)) == expected


def test_model_is_asked_once_for_each_image(module, images, tmp_path):
    choices = StuffSettings(cache=tmp_path / "cache")
    _prepared(build_policy(["model", "labelling:label"], choices), images[:1], tmp_path / "first")
    changed = StuffSettings(cache=tmp_path / "cache", margin=9, score=0.2, classes="coco")

    _prepared(build_policy(["model", "labelling:label"], changed), images, tmp_path / "second")

    assert len(sys.modules["labelling"].calls) == 2  # the third one can't be read
    assert len(list((tmp_path / "cache").rglob("*.png"))) == 2


def test_interrupted_labelling_goes_on(module, images, tmp_path, monkeypatch):
    def interrupted(items, *about):
        yield items[0]
        raise KeyboardInterrupt

    policy = build_policy(["model", "labelling:label"])
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(stuff_model, "progress", interrupted)
        policy.prepare(images, tmp_path / "work")
    asked = len(sys.modules["labelling"].calls)

    policy = _prepared(build_policy(["model", "labelling:label"]), images, tmp_path / "work")

    assert len(sys.modules["labelling"].calls) == 2 and asked <= 1
    assert policy(decode(images[1]).pixels(), _free(), "site/1.png")


def test_changed_function_is_asked_again(module, images, tmp_path):
    first = build_policy(["model", "labelling:label"])
    (tmp_path / "labelling.py").write_text(MODULE + "\n# another one\n")

    assert repr(first) != repr(build_policy(["model", "labelling:label"]))
    assert repr(first) != repr(build_policy(["model", "labelling:rebar"]))


def test_function_says_which_stuff_it_knows(module, images, tmp_path):
    policy = _prepared(build_policy(["model", "labelling:listed"]), images[:1], tmp_path / "work")

    assert policy.categories[-1].name == "rebar mat"
    assert policy(decode(images[0]).pixels(), _free(), "")[0].class_name == "rebar mat"
    with pytest.raises(ConfigError, match=r"label\.stuff_classes = \['rebar mat'\]"):
        _prepared(build_policy(["model", "labelling:rebar"]), images[:1], tmp_path / "work")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("flat", r"ids of shape \(3,\)"),
        ("nameless", "give it a 'name', or COCO's number"),
        ("numberless", "a segment is a dict with a whole 'id'"),
        ("sure", "the score 7 for 'wall-brick'"),
        ("single", "returned ndarray; return ids, segments"),
    ],
)
def test_functions_that_return_something_else_are_refused(module, images, tmp_path, name, message):
    with pytest.raises(ConfigError, match=message):
        build_policy(["model", f"labelling:{name}"]).prepare(images[:1], tmp_path / "work")


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("labelling:missing", "labelling has no 'missing'"),
        ("labelling:nothing", "is int, which can't be called"),
        ("nowhere:label", "there is no module 'nowhere'"),
        ("nowhere.pth", "There are no weights 'nowhere.pth'"),
    ],
)
def test_models_that_arent_there_are_refused(module, what, message):
    with pytest.raises((ConfigError, MissingFileError), match=message):
        build_policy(["model", what])


def test_answers_come_back_as_they_were(tmp_path):
    folder = AnswerFolder(tmp_path)
    places = np.arange(400, dtype=np.uint16).reshape(20, 20)
    answer = Answer(places, tuple(AnsweredSegment(f"class {n}", n % 2 == 0, n / 400) for n in range(399)))
    path = folder.path_of(np.zeros((20, 20, 3), np.uint8))

    folder.put(path, answer)

    back = folder.get(path)
    np.testing.assert_array_equal(back.numbers, places)
    assert back.segments == answer.segments
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DatasetError, match="is damaged"):
        folder.get(path)


@pytest.fixture
def weights(tiny_config, tmp_path):
    """A checkpoint of a random panoptic model of COCO's classes."""
    model = build_model(tiny_config(*TINY_RESNET, "MODEL.DETR.MASK_ON", True, *COCO))
    DetrCheckpointer(model, str(tmp_path)).save("coco")
    return str(tmp_path / "coco.pth")


def test_weights_alone_label_the_rest(weights, images, tmp_path):
    choices = StuffSettings(score=0.0, margin=0, classes="coco", overrides=("MODEL.DEVICE", "cpu"))
    policy = build_policy(["model", weights], choices)
    assert {record.name for record in policy.categories} == {"misc"} | {
        category.name for category in coco_categories() if not category.is_thing
    }

    policy = _prepared(policy, images, tmp_path / "work")

    regions = policy(decode(images[0]).pixels(), _free(), "site/0.png")
    assert regions and sum(int(region.mask.sum()) for region in regions) <= int(_free().sum())
    assert all(region.score is not None and 0 <= region.score <= 1 for region in regions)
    assert not (np.sum([region.mask for region in regions], axis=0) > _free()).any()


def test_other_weights_and_other_scores_are_other_policies(weights, tmp_path):
    words = ["model", weights]
    first, second = (repr(build_policy(words, StuffSettings(score=score))) for score in (0.5, 0.6))

    assert first != second and first == repr(build_policy(words, StuffSettings(score=0.5, cache=tmp_path)))


def test_weights_that_find_boxes_only_are_refused(tiny_config, tmp_path):
    DetrCheckpointer(build_model(tiny_config(*TINY_RESNET, *COCO)), str(tmp_path)).save("boxes")

    with pytest.raises(WeightsError, match=r"finds boxes only\. Give a panoptic model"):
        build_policy(["model", str(tmp_path / "boxes.pth")])
