"""The project's keys, and what a mistake in a config gets."""

from pathlib import Path

import pytest

from detr_d2 import add_detr_config, get_config_file, load_config
from detr_d2.errors import ConfigError, MissingFileError

from detectron2.config import get_cfg

CONFIGS = sorted(path.name for path in Path(get_config_file("Base-DETR.yaml")).parent.glob("*.yaml"))


def test_published_values_are_the_defaults():
    cfg = get_cfg()
    add_detr_config(cfg)

    detr = cfg.MODEL.DETR
    assert (detr.HIDDEN_DIM, detr.NHEADS, detr.DIM_FEEDFORWARD, detr.NUM_QUERIES) == (256, 8, 2048, 100)
    assert (detr.ENC_LAYERS, detr.DEC_LAYERS, detr.DROPOUT, detr.PRE_NORM) == (6, 6, 0.1, False)
    assert (detr.COST_CLASS, detr.COST_L1, detr.COST_GIOU) == (1, 5, 2)
    weights = (detr.CLASS_WEIGHT, detr.L1_WEIGHT, detr.GIOU_WEIGHT, detr.MASK_WEIGHT, detr.DICE_WEIGHT)
    assert weights == (1, 5, 2, 1, 1)
    assert (detr.NO_OBJECT_WEIGHT, detr.FOCAL_ALPHA, detr.FOCAL_GAMMA, detr.SCORE_THRESHOLD) == (0.1, 0.25, 2, 0.85)


@pytest.mark.parametrize("name", CONFIGS)
def test_every_config_loads(name):
    cfg = load_config(get_config_file(name))

    assert cfg.MODEL.META_ARCHITECTURE == "DetrPanoptic" and cfg.INPUT.FORMAT == "RGB"
    assert ("panoptic" in name) == cfg.MODEL.DETR.MASK_ON
    assert (101 if "R101" in name else 50) == cfg.MODEL.RESNETS.DEPTH
    assert (2 if "DC5" in name else 1) == cfg.MODEL.RESNETS.RES5_DILATION


@pytest.mark.parametrize("name", [name for name in CONFIGS if name.startswith("detr_panoptic")])
def test_stage_2_starts_where_stage_1_ends(name):
    stage1, stage2 = (load_config(get_config_file(file)) for file in (name.replace("panoptic_", ""), name))

    assert stage2.MODEL.DETR.FREEZE_DETECTOR
    assert Path(stage2.MODEL.WEIGHTS) == Path(stage1.OUTPUT_DIR) / "model_final.pth"


def test_overrides_come_last():
    cfg = load_config(get_config_file("detr_R50.yaml"), ["SOLVER.BASE_LR", "0.5", "DATASETS.TRAIN", "('a', 'b')"])

    assert cfg.SOLVER.BASE_LR == 0.5 and cfg.DATASETS.TRAIN == ("a", "b")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["MODEL.DETR.NUM_QUERY", "5"], "MODEL.DETR.NUM_QUERIES"),
        (["NUM_QUERIES", "5"], "MODEL.DETR.NUM_QUERIES"),
        (["SOLVER.BASE_LR", "fast"], "fast"),
        (["SOLVER.BASE_LR"], "SOLVER.BASE_LR"),
        (["SOLVER.MAX_ITER", "drei"], "SOLVER.MAX_ITER is drei, and must be a whole number, such as"),
        (["DATASETS.TRAIN", "mine_train"], r"""DATASETS.TRAIN "\['mine_train'\]"\."""),
        (["SOLVER.STEPS", "100"], r"""SOLVER.STEPS "\[100\]"\."""),
    ],
)
def test_a_mistake_names_the_key(overrides, message):
    with pytest.raises(ConfigError, match=message):
        load_config("", overrides)


def test_an_option_behind_the_keys_is_named():
    with pytest.raises(ConfigError, match="--eval-only stands among the KEY VALUE pairs"):
        load_config("", ["SOLVER.MAX_ITER", "1", "--eval-only", "MODEL.WEIGHTS", "model.pth"])


def test_a_misspelt_key_in_a_file_offers_the_nearest(tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text("MODEL:\n  DETR:\n    SCORE_TRESHOLD: 0.5\n")

    with pytest.raises(ConfigError, match=r"Did you mean MODEL\.DETR\.SCORE_THRESHOLD"):
        load_config(str(file))


def test_a_file_that_is_no_yaml_is_named(tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text("MODEL: [1, 2")

    with pytest.raises(ConfigError, match=r"config\.yaml"):
        load_config(str(file))


def test_a_missing_file_says_where_it_was_looked_for():
    with pytest.raises(MissingFileError, match=r"no/such\.yaml"):
        load_config("no/such.yaml")


def test_whole_numbers_are_taken_for_fractions():
    cfg = load_config("", ["INPUT.RICAP.PROB", "1", "SOLVER.BASE_LR", "2", "SOLVER.MAX_ITER", "7"])

    assert (cfg.INPUT.RICAP.PROB, cfg.SOLVER.BASE_LR, cfg.SOLVER.MAX_ITER) == (1.0, 2.0, 7)
    assert isinstance(cfg.INPUT.RICAP.PROB, float) and isinstance(cfg.SOLVER.MAX_ITER, int)
