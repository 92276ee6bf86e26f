"""Configuration: default values, files with ``_BASE_``, KEY VALUE overrides, and things built from it.

Expected values were recorded from Detectron2 0.6.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from detectron2.config import CfgNode, configurable, get_cfg

#: Every key that the project or its trainers may read, with Detectron2 0.6's default.
DEFAULTS = {
    "VERSION": 2,
    "MODEL.META_ARCHITECTURE": "GeneralizedRCNN",
    "MODEL.DEVICE": "cuda",
    "MODEL.WEIGHTS": "",
    "MODEL.MASK_ON": False,
    "MODEL.KEYPOINT_ON": False,
    "MODEL.PIXEL_MEAN": [103.53, 116.28, 123.675],
    "MODEL.PIXEL_STD": [1.0, 1.0, 1.0],
    "MODEL.BACKBONE.NAME": "build_resnet_backbone",
    "MODEL.BACKBONE.FREEZE_AT": 2,
    "MODEL.RESNETS.DEPTH": 50,
    "MODEL.RESNETS.OUT_FEATURES": ["res4"],
    "MODEL.RESNETS.NUM_GROUPS": 1,
    "MODEL.RESNETS.NORM": "FrozenBN",
    "MODEL.RESNETS.WIDTH_PER_GROUP": 64,
    "MODEL.RESNETS.STRIDE_IN_1X1": True,
    "MODEL.RESNETS.RES5_DILATION": 1,
    "MODEL.RESNETS.RES2_OUT_CHANNELS": 256,
    "MODEL.RESNETS.STEM_OUT_CHANNELS": 64,
    "MODEL.RESNETS.DEFORM_ON_PER_STAGE": [False, False, False, False],
    "MODEL.RESNETS.DEFORM_MODULATED": False,
    "MODEL.RESNETS.DEFORM_NUM_GROUPS": 1,
    "INPUT.MIN_SIZE_TRAIN": (800,),
    "INPUT.MIN_SIZE_TRAIN_SAMPLING": "choice",
    "INPUT.MAX_SIZE_TRAIN": 1333,
    "INPUT.MIN_SIZE_TEST": 800,
    "INPUT.MAX_SIZE_TEST": 1333,
    "INPUT.RANDOM_FLIP": "horizontal",
    "INPUT.CROP.ENABLED": False,
    "INPUT.CROP.TYPE": "relative_range",
    "INPUT.CROP.SIZE": [0.9, 0.9],
    "INPUT.FORMAT": "BGR",
    "INPUT.MASK_FORMAT": "polygon",
    "DATASETS.TRAIN": (),
    "DATASETS.TEST": (),
    "DATALOADER.NUM_WORKERS": 4,
    "DATALOADER.ASPECT_RATIO_GROUPING": True,
    "DATALOADER.SAMPLER_TRAIN": "TrainingSampler",
    "DATALOADER.FILTER_EMPTY_ANNOTATIONS": True,
    "SOLVER.LR_SCHEDULER_NAME": "WarmupMultiStepLR",
    "SOLVER.MAX_ITER": 40000,
    "SOLVER.BASE_LR": 0.001,
    "SOLVER.BASE_LR_END": 0.0,
    "SOLVER.MOMENTUM": 0.9,
    "SOLVER.NESTEROV": False,
    "SOLVER.WEIGHT_DECAY": 0.0001,
    "SOLVER.WEIGHT_DECAY_NORM": 0.0,
    "SOLVER.WEIGHT_DECAY_BIAS": None,
    "SOLVER.GAMMA": 0.1,
    "SOLVER.STEPS": (30000,),
    "SOLVER.NUM_DECAYS": 3,
    "SOLVER.WARMUP_FACTOR": 0.001,
    "SOLVER.WARMUP_ITERS": 1000,
    "SOLVER.WARMUP_METHOD": "linear",
    "SOLVER.RESCALE_INTERVAL": False,
    "SOLVER.CHECKPOINT_PERIOD": 5000,
    "SOLVER.IMS_PER_BATCH": 16,
    "SOLVER.REFERENCE_WORLD_SIZE": 0,
    "SOLVER.BIAS_LR_FACTOR": 1.0,
    "SOLVER.CLIP_GRADIENTS.ENABLED": False,
    "SOLVER.CLIP_GRADIENTS.CLIP_TYPE": "value",
    "SOLVER.CLIP_GRADIENTS.CLIP_VALUE": 1.0,
    "SOLVER.CLIP_GRADIENTS.NORM_TYPE": 2.0,
    "SOLVER.AMP.ENABLED": False,
    "TEST.EXPECTED_RESULTS": [],
    "TEST.EVAL_PERIOD": 0,
    "TEST.DETECTIONS_PER_IMAGE": 100,
    "TEST.AUG.ENABLED": False,
    "TEST.AUG.MIN_SIZES": (400, 500, 600, 700, 800, 900, 1000, 1100, 1200),
    "TEST.AUG.MAX_SIZE": 4000,
    "TEST.AUG.FLIP": True,
    "TEST.PRECISE_BN.ENABLED": False,
    "TEST.PRECISE_BN.NUM_ITER": 200,
    "OUTPUT_DIR": "./output",
    "SEED": -1,
    "CUDNN_BENCHMARK": False,
    "FLOAT32_PRECISION": "",
    "VIS_PERIOD": 0,
    "GLOBAL.HACK": 1.0,
}


def leaves(cfg: CfgNode, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in cfg.items():
        if isinstance(value, CfgNode):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def value_of(cfg: CfgNode, key: str) -> Any:
    for part in key.split("."):
        cfg = cfg[part]
    return cfg


def write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize("key", DEFAULTS)
def test_default_is_the_recorded_one(key: str) -> None:
    value = value_of(get_cfg(), key)

    assert value == DEFAULTS[key]
    assert type(value) is type(DEFAULTS[key])


def test_defaults_have_no_key_without_a_recorded_value() -> None:
    import detectron2

    if "detr_d2" not in detectron2.__version__:
        pytest.skip("Detectron2 itself has keys for more models")

    assert {key for key, _ in leaves(get_cfg())} == set(DEFAULTS)


def test_configs_share_nothing() -> None:
    first, second = get_cfg(), get_cfg()

    first.MODEL.PIXEL_MEAN.append(0.0)
    first.TEST.AUG.ENABLED = True

    assert len(second.MODEL.PIXEL_MEAN) == 3
    assert not second.TEST.AUG.ENABLED


def test_file_overrides_its_base(tmp_path: Path) -> None:
    write(tmp_path / "base.yaml", "MODEL: {DEVICE: cpu, WEIGHTS: a.pth}\nINPUT:\n  MIN_SIZE_TRAIN: (480, 512)\n")
    path = write(tmp_path / "child.yaml", "_BASE_: base.yaml\nMODEL: {WEIGHTS: b.pth}\nSOLVER: {STEPS: [1, 2]}\n")
    cfg = get_cfg()

    cfg.merge_from_file(path)

    assert (cfg.MODEL.DEVICE, cfg.MODEL.WEIGHTS) == ("cpu", "b.pth")
    assert cfg.INPUT.MIN_SIZE_TRAIN == (480, 512)
    assert cfg.SOLVER.STEPS == (1, 2)  # a list becomes what the default is
    assert "_BASE_" not in cfg


def test_file_with_sections_of_other_models_loads(tmp_path: Path) -> None:
    path = write(
        tmp_path / "fpn.yaml", "MODEL:\n  FPN: {OUT_CHANNELS: 128}\n  RPN: {NMS_THRESH: 0.5}\n  MASK_ON: true\n"
    )
    cfg = get_cfg()

    cfg.merge_from_file(path)

    assert cfg.MODEL.MASK_ON


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("MODEL: {WEIHGTS: x}", KeyError, "WEIHGTS"),
        ("SOLVER: {MAX_ITER: many}", ValueError, "MAX_ITER"),
        ("VERSION: 3", AssertionError, "v3"),
    ],
)
def test_file_with_a_mistake_is_refused(tmp_path: Path, text: str, error: type[Exception], message: str) -> None:
    path = write(tmp_path / "wrong.yaml", text)

    with pytest.raises(error, match=message):
        get_cfg().merge_from_file(path)


def test_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"absent\.yaml' does not exist"):
        get_cfg().merge_from_file(str(tmp_path / "absent.yaml"))


def test_key_value_list_overrides() -> None:
    cfg = get_cfg()

    cfg.merge_from_list(
        ["SOLVER.BASE_LR", "1e-4", "DATASETS.TRAIN", "('a', 'b')", "MODEL.DEVICE", "cpu", "SOLVER.MAX_ITER", 7]
    )

    assert cfg.SOLVER.BASE_LR == 1e-4
    assert cfg.DATASETS.TRAIN == ("a", "b")
    assert (cfg.MODEL.DEVICE, cfg.SOLVER.MAX_ITER) == ("cpu", 7)


@pytest.mark.parametrize(
    ("overrides", "error", "message"),
    [
        (["MODEL.DEVCE", "cpu"], AssertionError, "Non-existent key: MODEL.DEVCE"),
        (["MODEL.DEVICE"], AssertionError, "odd length"),
        (["SOLVER.MAX_ITER", "many"], ValueError, "SOLVER.MAX_ITER"),
    ],
)
def test_wrong_key_value_list_is_refused(overrides: list[str], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        get_cfg().merge_from_list(overrides)


def test_dump_reads_back(tmp_path: Path) -> None:
    cfg = get_cfg()
    cfg.merge_from_list(["SOLVER.STEPS", "(5, 6)", "MODEL.MASK_ON", "True"])
    path = write(tmp_path / "config.yaml", cfg.dump())
    read = get_cfg()

    read.merge_from_file(path)

    assert {key: value_of(read, key) for key in DEFAULTS} == {key: value_of(cfg, key) for key in DEFAULTS}


def test_frozen_config_is_read_only_and_its_clone_can_be_thawed() -> None:
    cfg = get_cfg()
    cfg.freeze()

    with pytest.raises(AttributeError):
        cfg.SEED = 1
    clone = cfg.clone()
    clone.defrost()
    clone.SEED = 1

    assert (cfg.SEED, clone.SEED) == (-1, 1)
    assert cfg.is_frozen()


class Circle:
    @configurable
    def __init__(self, radius: int, *, color: str = "red", weight: float = 1.0) -> None:
        self.values = (radius, color, weight)

    @classmethod
    def from_config(cls, cfg: CfgNode, color: str = "blue") -> dict[str, Any]:
        return {"radius": cfg.SOLVER.MAX_ITER, "color": color}


class BigCircle(Circle):
    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        return {**super().from_config(cfg), "radius": 10 * cfg.SOLVER.MAX_ITER}


def test_configurable_class_takes_arguments_or_a_config() -> None:
    cfg = get_cfg()

    assert Circle(3).values == (3, "red", 1.0)
    assert Circle(cfg).values == (40000, "blue", 1.0)
    assert Circle(cfg, color="green", weight=2.0).values == (40000, "green", 2.0)
    assert Circle(cfg=cfg).values == (40000, "blue", 1.0)
    assert BigCircle(cfg, weight=3.0).values == (400000, "blue", 3.0)


def test_configurable_class_without_from_config_is_refused() -> None:
    class Plain:
        @configurable
        def __init__(self, a: int) -> None:
            pass

    class NotAClassMethod(Plain):
        def from_config(cfg) -> dict[str, Any]:
            return {}

    with pytest.raises((AttributeError, TypeError), match="must have a 'from_config' classmethod"):
        Plain(1)
    with pytest.raises(TypeError, match="must have a 'from_config' classmethod"):
        NotAClassMethod(1)


def _area_from_config(cfg: CfgNode, *, width: int = 2) -> dict[str, int]:
    return {"width": width, "height": cfg.VERSION}


@configurable(from_config=_area_from_config)
def area(width: int, height: int, depth: int = 1) -> int:
    """Width times height times depth."""
    return width * height * depth


def test_configurable_function_takes_arguments_or_a_config() -> None:
    cfg = get_cfg()

    assert area(3, 4) == 12
    assert area(cfg) == 4
    assert area(cfg, width=5, depth=3) == 30
    assert area.__doc__ == "Width times height times depth."


def test_from_config_must_take_cfg_first() -> None:
    @configurable(from_config=lambda config: {})
    def function() -> None:
        pass

    with pytest.raises(TypeError, match="must take 'cfg' as the first argument"):
        function(get_cfg())


def test_configurable_goes_on_init_only() -> None:
    with pytest.raises(AssertionError, match="Incorrect use of @configurable"):
        configurable(leaves)


def test_loading_is_silent_about_known_keys(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path / "plain.yaml", "VERSION: 2\nMODEL: {MASK_ON: true}\n")

    with caplog.at_level(logging.WARNING):
        get_cfg().merge_from_file(path)

    assert not caplog.records
