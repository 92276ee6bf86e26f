"""An independently written subset of Detectron2's API; not Detectron2.

The configuration tree, on fvcore's ``CfgNode`` (yacs with ``_BASE_``), with Detectron2 0.6's default values for the
keys that this subset understands.
"""

from __future__ import annotations

from typing import Any

import yaml
from fvcore.common.config import CfgNode as _CfgNode

from detr_d2.plain_yaml import read_config

from detectron2.utils.file_io import PathManager

# FREEZE_AT 2: the stem and res2 aren't trained. STRIDE_IN_1X1: True for MSRA's weights, False for torchvision's.
# INPUT's sizes are in pixels; a MIN_SIZE_TEST of 0 keeps the image's. A negative SEED seeds nothing.
_DEFAULTS = """
VERSION: 2
MODEL:
  META_ARCHITECTURE: GeneralizedRCNN
  DEVICE: cuda
  WEIGHTS: ""
  MASK_ON: false
  KEYPOINT_ON: false
  PIXEL_MEAN: [103.530, 116.280, 123.675]
  PIXEL_STD: [1.0, 1.0, 1.0]
  BACKBONE: {NAME: build_resnet_backbone, FREEZE_AT: 2}
  RESNETS:
    {DEPTH: 50, OUT_FEATURES: [res4], NORM: FrozenBN, STRIDE_IN_1X1: true, RES5_DILATION: 1, NUM_GROUPS: 1,
     WIDTH_PER_GROUP: 64, STEM_OUT_CHANNELS: 64, RES2_OUT_CHANNELS: 256, DEFORM_MODULATED: false,
     DEFORM_ON_PER_STAGE: [false, false, false, false], DEFORM_NUM_GROUPS: 1}
INPUT:
  {MIN_SIZE_TRAIN_SAMPLING: choice, MAX_SIZE_TRAIN: 1333, MIN_SIZE_TEST: 800, MAX_SIZE_TEST: 1333,
   RANDOM_FLIP: horizontal, FORMAT: BGR, MASK_FORMAT: polygon,
   CROP: {ENABLED: false, TYPE: relative_range, SIZE: [0.9, 0.9]}}
DATASETS: {}
DATALOADER:
  {NUM_WORKERS: 4, ASPECT_RATIO_GROUPING: true, SAMPLER_TRAIN: TrainingSampler, FILTER_EMPTY_ANNOTATIONS: true}
SOLVER:
  {IMS_PER_BATCH: 16, MAX_ITER: 40000, CHECKPOINT_PERIOD: 5000, REFERENCE_WORLD_SIZE: 0, BASE_LR: 0.001,
   LR_SCHEDULER_NAME: WarmupMultiStepLR, GAMMA: 0.1, NUM_DECAYS: 3, BASE_LR_END: 0.0,
   WARMUP_METHOD: linear, WARMUP_ITERS: 1000, WARMUP_FACTOR: 0.001, RESCALE_INTERVAL: false,
   MOMENTUM: 0.9, NESTEROV: false, BIAS_LR_FACTOR: 1.0,
   WEIGHT_DECAY: 0.0001, WEIGHT_DECAY_NORM: 0.0, WEIGHT_DECAY_BIAS: null, AMP: {ENABLED: false},
   CLIP_GRADIENTS: {ENABLED: false, CLIP_TYPE: value, CLIP_VALUE: 1.0, NORM_TYPE: 2.0}}
TEST:
  {EVAL_PERIOD: 0, EXPECTED_RESULTS: [], DETECTIONS_PER_IMAGE: 100, PRECISE_BN: {ENABLED: false, NUM_ITER: 200},
   AUG: {ENABLED: false, MAX_SIZE: 4000, FLIP: true}}
OUTPUT_DIR: ./output
SEED: -1
CUDNN_BENCHMARK: false
FLOAT32_PRECISION: ""
VIS_PERIOD: 0
GLOBAL: {HACK: 1.0}
"""

# Sections of Detectron2 for what this subset lacks: a file that has them still loads, with a warning.
_IGNORED_KEYS = """
MODEL.LOAD_PROPOSALS MODEL.PROPOSAL_GENERATOR MODEL.ANCHOR_GENERATOR MODEL.FPN MODEL.RPN MODEL.RETINANET MODEL.ROI_HEADS
MODEL.ROI_BOX_HEAD MODEL.ROI_BOX_CASCADE_HEAD MODEL.ROI_MASK_HEAD MODEL.ROI_KEYPOINT_HEAD MODEL.SEM_SEG_HEAD
MODEL.PANOPTIC_FPN DATASETS.PROPOSAL_FILES_TRAIN DATASETS.PROPOSAL_FILES_TEST DATASETS.PRECOMPUTED_PROPOSAL_TOPK_TRAIN
DATASETS.PRECOMPUTED_PROPOSAL_TOPK_TEST TEST.KEYPOINT_OKS_SIGMAS
"""


class CfgNode(_CfgNode):
    """A nested configuration that reads yaml files with ``_BASE_`` and lists of ``KEY VALUE``.

    Other than in Detectron2 files are plain data: ``allow_unsafe`` is taken, and nothing is ever run.
    """

    @classmethod
    def load_yaml_with_base(cls, filename: str, allow_unsafe: bool = False) -> dict[str, Any]:
        return read_config(filename)

    def merge_from_file(self, cfg_filename: str, allow_unsafe: bool = False) -> None:
        """Read a yaml file, and those it names as ``_BASE_``, over this configuration.

        Raises:
            AssertionError: there is no such file, or its VERSION isn't this configuration's.
            KeyError, ValueError: a key that this configuration lacks; a value of another type than the default's.
        """
        assert PathManager.isfile(cfg_filename), f"Config file '{cfg_filename}' does not exist!"
        loaded = type(self)(self.load_yaml_with_base(cfg_filename))
        version = loaded.get("VERSION", self.VERSION)
        assert version == self.VERSION, (
            f"'{cfg_filename}' is a v{version} config; only v{self.VERSION} can be read. "
            "Rename its keys to those of Detectron2 0.6 and set VERSION: 2."
        )
        self.merge_from_other_cfg(loaded)


def get_cfg() -> CfgNode:
    """A fresh configuration with all default values."""
    cfg = CfgNode(yaml.safe_load(_DEFAULTS))
    # Tuples, which yaml doesn't know.
    cfg.INPUT.MIN_SIZE_TRAIN = (800,)
    cfg.DATASETS.TRAIN = cfg.DATASETS.TEST = ()
    cfg.SOLVER.STEPS = (30000,)
    cfg.TEST.AUG.MIN_SIZES = (400, 500, 600, 700, 800, 900, 1000, 1100, 1200)
    for key in _IGNORED_KEYS.split():
        cfg.register_deprecated_key(key)
    return cfg
