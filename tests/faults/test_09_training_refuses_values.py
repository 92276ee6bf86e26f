"""Keys of a config that make no sense, or don't go together, are named with what is allowed."""

from __future__ import annotations

import re
from typing import Any

import pytest

from detr_d2 import load_config
from detr_d2.config import check_values
from detr_d2.config.keys import ALLOWED
from detr_d2.errors import ConfigError, UserError
from tests.faults.training import assert_refused

import detectron2
from detectron2.config import CfgNode

IS_FALLBACK = "detr_d2" in detectron2.__version__


# --- values of keys ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("SOLVER.IMS_PER_BATCH", "0"),
        ("SOLVER.CHECKPOINT_PERIOD", "0"),
        ("SOLVER.MAX_ITER", "-5"),
        ("SOLVER.MAX_ITER", "0"),
        ("SOLVER.MAX_ITER", "None"),
        ("SOLVER.BASE_LR", "0"),
        ("SOLVER.BASE_LR", "nan"),
        ("SOLVER.BASE_LR", "-1e-4"),
        ("SOLVER.STEPS", "(5, 3)"),
        ("SOLVER.STEPS", "(0,)"),
        ("SOLVER.STEPS", "('x',)"),
        ("SOLVER.WARMUP_METHOD", "quadratic"),
        ("SOLVER.LR_SCHEDULER_NAME", "Step"),
        ("SOLVER.CLIP_GRADIENTS.CLIP_VALUE", "0"),
        ("MODEL.DETR.NUM_QUERIES", "0"),
        ("MODEL.DETR.NHEADS", "7"),
        ("MODEL.DETR.NHEADS", "0"),
        ("MODEL.DETR.HIDDEN_DIM", "-32"),
        ("MODEL.DETR.HIDDEN_DIM", "30"),
        ("MODEL.DETR.DEC_LAYERS", "0"),
        ("MODEL.DETR.DROPOUT", "1.5"),
        ("MODEL.DETR.NO_OBJECT_WEIGHT", "0"),
        ("MODEL.DETR.CLASS_SCORE_THRESHOLDS", "[0.5]"),
        ("MODEL.DETR.CLASS_SCORE_THRESHOLDS", "[2.0]"),
        ("MODEL.PIXEL_STD", "0"),
        ("MODEL.PIXEL_STD", "[0, 1, 1]"),
        ("MODEL.PIXEL_STD", "[58.0]"),
        ("MODEL.PIXEL_MEAN", "['x', 1, 1]"),
        ("MODEL.BACKBONE.NAME", "build_vit"),
        ("MODEL.BACKBONE.FREEZE_AT", "9"),
        ("MODEL.META_ARCHITECTURE", "GeneralizedRCNN"),
        ("MODEL.META_ARCHITECTURE", "Nonsense"),
        ("MODEL.DEVICE", "gpu"),
        ("MODEL.DEVICE", "meta"),
        ("MODEL.DEVICE", "mps:7"),
        ("MODEL.RESNETS.DEPTH", "51"),
        ("MODEL.RESNETS.NORM", "Batch"),
        ("MODEL.RESNETS.NORM", "GN"),
        ("MODEL.RESNETS.OUT_FEATURES", "['res4']"),
        ("MODEL.RESNETS.OUT_FEATURES", "['res5', 'res6']"),
        ("INPUT.MIN_SIZE_TRAIN", "()"),
        ("INPUT.MIN_SIZE_TRAIN", "(0, 480)"),
        ("INPUT.MIN_SIZE_TRAIN", "('a',)"),
        ("INPUT.MAX_SIZE_TEST", "0"),
        ("INPUT.FORMAT", "CMYK"),
        ("INPUT.MIN_SIZE_TRAIN_SAMPLING", "any"),
        ("DATASETS.TRAIN", "()"),
        ("DATASETS.TRAIN", "(1,)"),
        ("DATASETS.REGISTER", "[5]"),
        ("DATALOADER.NUM_WORKERS", "-1"),
        ("DATALOADER.SAMPLER_TRAIN", "Any"),
        ("TEST.EVAL_PERIOD", "-2"),
        ("TEST.EXPECTED_RESULTS", "[['bbox', 'AP']]"),
        ("TEST.SCENES", "-1"),
        ("SEED", "99999999999"),
        ("FLOAT32_PRECISION", "low"),
        ("OUTPUT_DIR", ""),
        ("OUTPUT_DIR", "None"),
    ],
)
def test_a_value_that_makes_no_sense_is_one_sentence(tiny_config, key, value, capsys, project_folder, tmp_path):
    """As train_net.py starts, but in this process: whatever is raised has to be an error of the user's."""
    from detr_d2.errors import run_command
    from detr_d2.training.setup import check_before_start

    file = tmp_path / "config.yaml"
    file.write_text(tiny_config("DATASETS.TEST", ()).dump())

    code = run_command(lambda: check_before_start(load_config(str(file), [key, value]), False, False) and None)

    message = capsys.readouterr().err
    assert code == 2 and key.rpartition(".")[2] in message and message.count("\n") == 1, message
    assert not (tmp_path / "output").exists()


def test_train_net_refuses_values_before_it_writes(train, tmp_path):
    result = train("SOLVER.MAX_ITER", "-5")

    assert_refused(result, r"SOLVER\.MAX_ITER is -5; allowed are whole numbers from 1")
    assert not (tmp_path / "output").exists()


def _leaves(cfg: CfgNode, prefix: str = "") -> dict[str, Any]:
    found = {}
    for name, value in cfg.items():
        found |= _leaves(value, f"{prefix}{name}.") if isinstance(value, CfgNode) else {prefix + name: value}
    return found


def _keys_of_the_project() -> dict[str, Any]:
    """What the fallback, which has the keys that this project uses, and this project have: key and default."""
    unused = ("MODEL.KEYPOINT_ON", "VERSION", "GLOBAL.HACK")
    return {key: value for key, value in _leaves(load_config("")).items() if key not in unused}


@pytest.mark.skipif(not IS_FALLBACK, reason="Detectron2 itself has keys for more models")
def test_every_key_has_its_rule():
    assert set(_keys_of_the_project()) <= set(ALLOWED)


@pytest.mark.parametrize("key", sorted(ALLOWED))
def test_every_rule_takes_the_default_and_refuses_what_is_of_another_kind(key):
    cfg = load_config("")
    default = _leaves(cfg)[key]
    parent: Any = cfg
    for part in key.split(".")[:-1]:
        parent = parent[part]
    leaf = key.rpartition(".")[2]

    check_values(cfg)
    wrong: list[Any] = [object(), {"a": 1}, float("nan"), [None]]
    wrong += [] if default is None or "BIAS" in key or key.endswith("NORM") else [None]
    wrong += [] if isinstance(default, str) else ["nonsense"]
    for value in wrong:
        dict.__setitem__(parent, leaf, value)
        with pytest.raises(ConfigError, match=re.escape(key)):
            check_values(cfg)


def test_an_evaluation_of_nothing_is_refused(tiny_config):
    from detr_d2.training.setup import check_before_start

    with pytest.raises(ConfigError, match=r"DATASETS\.TEST is empty"):
        check_before_start(tiny_config("DATASETS.TEST", ()), eval_only=True, resume=False)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("SOLVER.STEPS", "(1, 2)"), "SOLVER.STEPS"),
        (("SOLVER.AMP.ENABLED", "True"), "SOLVER.AMP.ENABLED"),
        (("SOLVER.REFERENCE_WORLD_SIZE", "3"), "SOLVER.REFERENCE_WORLD_SIZE is 3"),
        (("SOLVER.RESCALE_INTERVAL", "True", "SOLVER.WARMUP_ITERS", "5"), "WARMUP_ITERS"),
        (("SOLVER.LR_SCHEDULER_NAME", "WarmupCosineLR", "SOLVER.BASE_LR_END", "1.0"), "BASE_LR_END"),
        (("MODEL.DETR.FREEZE_DETECTOR", "True"), "FREEZE_DETECTOR"),
        (("MODEL.DETR.MASK_ON", "True", "MODEL.DETR.HIDDEN_DIM", "24"), "HIDDEN_DIM is 24"),
        (("MODEL.DETR.MASK_ON", "True", "MODEL.RESNETS.OUT_FEATURES", "['res5']"), "OUT_FEATURES"),
        (("MODEL.DETR.COST_CLASS", "0", "MODEL.DETR.COST_L1", "0", "MODEL.DETR.COST_GIOU", "0"), "COST_CLASS"),
        (("MODEL.DETR.CLASS_WEIGHT", "0", "MODEL.DETR.L1_WEIGHT", "0", "MODEL.DETR.GIOU_WEIGHT", "0"), "CLASS_WEIGHT"),
        (("MODEL.RESNETS.DEPTH", "18"), "RES2_OUT_CHANNELS"),
        (("INPUT.MIN_SIZE_TRAIN_SAMPLING", "range"), "MIN_SIZE_TRAIN"),
        (("INPUT.CROP.ENABLED", "True", "INPUT.CROP.SIZE", "[2.0, 2.0]"), "INPUT.CROP.SIZE"),
        (("INPUT.CROP.ENABLED", "True", "INPUT.CROP.TYPE", "absolute"), "INPUT.CROP.SIZE"),
    ],
)
def test_keys_that_do_not_go_together_are_one_sentence(tiny_config, words, message, tmp_path):
    from detr_d2.training.setup import check_before_start

    file = tmp_path / "config.yaml"
    file.write_text(tiny_config("DATASETS.TEST", (), "INPUT.MIN_SIZE_TRAIN", (96,)).dump())

    with pytest.raises(UserError, match=message):
        check_before_start(load_config(str(file), list(words)), False, False)


def test_ricap_passes_what_is_looked_at_before_the_start(tiny_config):
    from detr_d2.training.setup import check_before_start

    check_before_start(tiny_config("INPUT.RICAP.ENABLED", True, "MODEL.DETR.MASK_ON", True), False, False)
