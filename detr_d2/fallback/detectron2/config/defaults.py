"""An independently written subset of Detectron2's API; not Detectron2.

The default values of Detectron2 0.6 for the configuration keys that this subset understands.
"""

from __future__ import annotations

from typing import Any

from .config import CfgNode

_MODEL: dict[str, Any] = {
    "META_ARCHITECTURE": "GeneralizedRCNN",
    "DEVICE": "cuda",
    "WEIGHTS": "",  # a path or URL, read by DetectionCheckpointer
    "MASK_ON": False,
    "KEYPOINT_ON": False,
    # Subtracted from, and divided into, pixels of 0..255, in the order of INPUT.FORMAT.
    "PIXEL_MEAN": [103.530, 116.280, 123.675],
    "PIXEL_STD": [1.0, 1.0, 1.0],
    # FREEZE_AT: 0 trains everything, 1 freezes the stem, 2 the stem and res2, and so on.
    "BACKBONE": {"NAME": "build_resnet_backbone", "FREEZE_AT": 2},
    "RESNETS": {
        "DEPTH": 50,
        "OUT_FEATURES": ["res4"],
        "NUM_GROUPS": 1,
        "NORM": "FrozenBN",  # or BN, SyncBN, GN, "" for none
        "WIDTH_PER_GROUP": 64,
        "STRIDE_IN_1X1": True,  # True for the original MSRA weights, False for torchvision's
        "RES5_DILATION": 1,
        "RES2_OUT_CHANNELS": 256,
        "STEM_OUT_CHANNELS": 64,
        "DEFORM_ON_PER_STAGE": [False, False, False, False],
        "DEFORM_MODULATED": False,
        "DEFORM_NUM_GROUPS": 1,
    },
}

_INPUT: dict[str, Any] = {
    "MIN_SIZE_TRAIN": (800,),  # lengths of the shorter side, in pixels
    "MIN_SIZE_TRAIN_SAMPLING": "choice",  # or "range", between two lengths
    "MAX_SIZE_TRAIN": 1333,
    "MIN_SIZE_TEST": 800,  # 0: no resize
    "MAX_SIZE_TEST": 1333,
    "RANDOM_FLIP": "horizontal",  # or "vertical", "none"
    "CROP": {"ENABLED": False, "TYPE": "relative_range", "SIZE": [0.9, 0.9]},
    "FORMAT": "BGR",  # or a mode of PIL: RGB, L
    "MASK_FORMAT": "polygon",
}

_DATALOADER: dict[str, Any] = {
    "NUM_WORKERS": 4,
    "ASPECT_RATIO_GROUPING": True,
    "SAMPLER_TRAIN": "TrainingSampler",  # or "RepeatFactorTrainingSampler"
    "REPEAT_THRESHOLD": 0.0,
    "REPEAT_SQRT": True,
    "FILTER_EMPTY_ANNOTATIONS": True,
}

_SOLVER: dict[str, Any] = {
    "LR_SCHEDULER_NAME": "WarmupMultiStepLR",
    "MAX_ITER": 40000,
    "BASE_LR": 0.001,
    "BASE_LR_END": 0.0,
    "MOMENTUM": 0.9,
    "NESTEROV": False,
    "WEIGHT_DECAY": 0.0001,
    "WEIGHT_DECAY_NORM": 0.0,
    "GAMMA": 0.1,
    "STEPS": (30000,),
    "NUM_DECAYS": 3,
    "WARMUP_FACTOR": 1.0 / 1000,
    "WARMUP_ITERS": 1000,
    "WARMUP_METHOD": "linear",
    "RESCALE_INTERVAL": False,
    "CHECKPOINT_PERIOD": 5000,
    "IMS_PER_BATCH": 16,  # over all processes
    "REFERENCE_WORLD_SIZE": 0,
    "BIAS_LR_FACTOR": 1.0,
    "WEIGHT_DECAY_BIAS": None,
    "CLIP_GRADIENTS": {"ENABLED": False, "CLIP_TYPE": "value", "CLIP_VALUE": 1.0, "NORM_TYPE": 2.0},
    "AMP": {"ENABLED": False},
}

_TEST: dict[str, Any] = {
    "EXPECTED_RESULTS": [],
    "EVAL_PERIOD": 0,
    "DETECTIONS_PER_IMAGE": 100,
    "AUG": {
        "ENABLED": False,
        "MIN_SIZES": (400, 500, 600, 700, 800, 900, 1000, 1100, 1200),
        "MAX_SIZE": 4000,
        "FLIP": True,
    },
    "PRECISE_BN": {"ENABLED": False, "NUM_ITER": 200},
}

# Sections of Detectron2 for models that this subset lacks: a file that has them still loads, with a warning.
_IGNORED_KEYS = [
    "DATASETS.PRECOMPUTED_PROPOSAL_TOPK_TEST",
    "DATASETS.PRECOMPUTED_PROPOSAL_TOPK_TRAIN",
    "DATASETS.PROPOSAL_FILES_TEST",
    "DATASETS.PROPOSAL_FILES_TRAIN",
    "MODEL.ANCHOR_GENERATOR",
    "MODEL.FPN",
    "MODEL.LOAD_PROPOSALS",
    "MODEL.PANOPTIC_FPN",
    "MODEL.PROPOSAL_GENERATOR",
    "MODEL.RETINANET",
    "MODEL.ROI_BOX_CASCADE_HEAD",
    "MODEL.ROI_BOX_HEAD",
    "MODEL.ROI_HEADS",
    "MODEL.ROI_KEYPOINT_HEAD",
    "MODEL.ROI_MASK_HEAD",
    "MODEL.RPN",
    "MODEL.SEM_SEG_HEAD",
    "TEST.KEYPOINT_OKS_SIGMAS",
]


def default_config() -> CfgNode:
    """A new configuration with all default values; nothing in it is shared with another one."""
    cfg = CfgNode(
        {
            "VERSION": 2,
            "MODEL": _MODEL,
            "INPUT": _INPUT,
            "DATASETS": {"TRAIN": (), "TEST": ()},
            "DATALOADER": _DATALOADER,
            "SOLVER": _SOLVER,
            "TEST": _TEST,
            "OUTPUT_DIR": "./output",
            "SEED": -1,  # negative: not seeded
            "CUDNN_BENCHMARK": False,
            "FLOAT32_PRECISION": "",  # or "highest", "high", "medium"
            "VIS_PERIOD": 0,
            "GLOBAL": {"HACK": 1.0},
        }
    ).clone()
    for key in _IGNORED_KEYS:
        cfg.register_deprecated_key(key)
    return cfg
