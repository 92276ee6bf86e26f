"""Every configuration key that this project adds to Detectron2's: its default, and what it may be."""

from __future__ import annotations

import copy
from typing import Any

from detr_d2.errors import ConfigError

from detectron2.config import CfgNode

from . import values

#: For each key the default, which is DETR's published value, and the rule for its values.
Keys = dict[str, tuple[Any, values.Rule]]

_DATA: Keys = {
    # Your own datasets. Each entry is either a mapping with the arguments of `detr_d2.data.register`
    # (name, images, panoptic_json, panoptic_root, instances_json) or the path of a yaml file that holds a list of such.
    "DATASETS.REGISTER": ([], values.list_of(values.ENTRY)),
    # What is looked at before a training starts: "quick": the JSON files, and whether the files that
    # they name are there; "full": every image as well; "off". `detr-d2 check` shows all that is wrong.
    "DATASETS.CHECK": ("quick", values.one_of("quick", "full", "off")),
    # Ground-truth masks hold one pixel in MASK_STRIDE, each way: 4 gives the size of the model's masks, and saves
    # memory and time in loader and loss. Boxes and classes stay exact; docs/loading.md says what it does to the losses.
    "INPUT.MASK_STRIDE": (1, values.whole(1, 1024)),
    # DATALOADER.SAMPLER_TRAIN "RepeatFactorTrainingSampler" (Detectron2's name): images with a class that less than
    # REPEAT_THRESHOLD of all images have come more often, things and stuff alike; with REPEAT_SQRT by the root of
    # threshold / frequency, without by that itself.
    "DATALOADER.REPEAT_THRESHOLD": (0.0, values.PART),
    "DATALOADER.REPEAT_SQRT": (True, values.FLAG),
}

_AUGMENTATIONS: Keys = {
    # DETR's random crop: with PROB, the image is first resized so that its short side is one of RESIZE_SIZES, then a
    # window whose sides lie in MIN_SIZE..MAX_SIZE is cut out, and only then comes the usual resize to one of
    # INPUT.MIN_SIZE_TRAIN.
    "INPUT.DETR_CROP.ENABLED": (True, values.FLAG),
    "INPUT.DETR_CROP.PROB": (0.5, values.PART),
    # An empty list: no resize before the crop.
    "INPUT.DETR_CROP.RESIZE_SIZES": ([400, 500, 600], values.list_of(values.PIXELS)),
    "INPUT.DETR_CROP.MIN_SIZE": (384, values.PIXELS),  # pixels
    "INPUT.DETR_CROP.MAX_SIZE": (600, values.PIXELS),  # pixels
    # Large-scale jitter (Ghiasi et al. 2021), in the place of DETR_CROP and of the resize: an image is made MIN_SCALE
    # to MAX_SCALE times as large as what fits on a canvas of SIZE x SIZE pixels; what is too much is cropped, and the
    # rest of the canvas is grey (PAD False: there is no canvas, and small images are small).
    "INPUT.LSJ.ENABLED": (False, values.FLAG),
    "INPUT.LSJ.SIZE": (1024, values.PIXELS),  # pixels
    "INPUT.LSJ.MIN_SCALE": (0.1, values.number(0, 100, above=True)),
    "INPUT.LSJ.MAX_SCALE": (2.0, values.number(0, 100, above=True)),
    "INPUT.LSJ.PAD": (True, values.FLAG),
    # With PROB, brightness, contrast and saturation are multiplied by 1 - value ... 1 + value, and the hue is moved by
    # up to HUE of the colour circle (at most 0.5).
    "INPUT.COLOR_JITTER.ENABLED": (False, values.FLAG),
    "INPUT.COLOR_JITTER.PROB": (0.8, values.PART),
    "INPUT.COLOR_JITTER.BRIGHTNESS": (0.4, values.number(0, 100)),
    "INPUT.COLOR_JITTER.CONTRAST": (0.4, values.number(0, 100)),
    "INPUT.COLOR_JITTER.SATURATION": (0.4, values.number(0, 100)),
    "INPUT.COLOR_JITTER.HUE": (0.1, values.number(0, 0.5)),
    # RICAP (Takahashi et al. 2018): with PROB, an image is put together from pieces of four, before everything else.
    # Where they meet is drawn from a beta distribution: below 1, BETA mostly leaves one large piece; 1: anything is as
    # likely; above, the pieces become alike. Needs panoptic ground truth.
    "INPUT.RICAP.ENABLED": (False, values.FLAG),
    "INPUT.RICAP.PROB": (0.5, values.PART),
    "INPUT.RICAP.BETA": (0.3, values.number(0, 1e6, above=True)),
    # Copy-paste (Ghiasi et al. 2021): with PROB, about half of another image's things are put in front of an image,
    # before everything else but RICAP; MIN_SCALE to MAX_SCALE times as large as what fits that image onto this one.
    # Needs panoptic ground truth.
    "INPUT.COPY_PASTE.ENABLED": (False, values.FLAG),
    "INPUT.COPY_PASTE.PROB": (0.5, values.PART),
    "INPUT.COPY_PASTE.MIN_SCALE": (0.5, values.number(0, 100, above=True)),
    "INPUT.COPY_PASTE.MAX_SCALE": (1.5, values.number(0, 100, above=True)),
}

_SOLVER: Keys = {
    # "ADAMW" (as DETR) or "SGD".
    "SOLVER.OPTIMIZER": ("ADAMW", values.one_of("ADAMW", "SGD")),
    # The backbone's learning rate is BASE_LR times this.
    "SOLVER.BACKBONE_MULTIPLIER": (0.1, values.FROM_0),
    # Each stage of a ResNet learns by this factor slower than the one behind it: with 0.5 res5 at the backbone's rate,
    # res4 at half of it, the stem at a sixteenth. For timm's networks it is MODEL.TIMM.LAYER_DECAY.
    "SOLVER.BACKBONE_LAYER_DECAY": (1.0, values.number(0, 1, above=True)),
    # The mask head's learning rate is BASE_LR times this, for a training together with a detector that knows its boxes.
    "SOLVER.MASK_HEAD_MULTIPLIER": (1.0, values.FROM_0),
    # A step's IMS_PER_BATCH images are computed in so many parts, one after the other, whose gradients add up to those
    # of the whole batch: a large batch in the memory of a small one.
    "SOLVER.ACCUMULATE_BATCHES": (1, values.whole(1, 65_536)),
    # So many of the checkpoints that SOLVER.CHECKPOINT_PERIOD asks for stay, the newest; older ones are removed when
    # the next is written. 0: all. model_best.pth and model_final.pth always stay.
    "SOLVER.CHECKPOINT_KEEP": (0, values.COUNT_OR_0),
    # A step whose losses aren't finite ends the training. So many are left out instead, over the whole training; each
    # is logged, and saved to OUTPUT_DIR/diverged for `detr-d2 replay`.
    "SOLVER.MAX_SKIPPED_STEPS": (0, values.COUNT_OR_0),
    # SOLVER.CLIP_GRADIENTS.CLIP_TYPE may be "full_model" here: the norm is that of all gradients together, as in DETR.
    # An average over the steps' weights (the names of Detectron2's d2go): evaluated as well, as ema/panoptic_seg/PQ and
    # so on, and kept in model_final_ema.pth; model_best.pth is the better of the two. After step t it moves by
    # 1 - DECAY * (1 - exp(-t / TAU)) of its way to the weights.
    "MODEL_EMA.ENABLED": (False, values.FLAG),
    "MODEL_EMA.DECAY": (0.999, values.PART),  # 0.99 for trainings of about a thousand steps
    "MODEL_EMA.TAU": (100.0, values.ABOVE_0),  # steps
}

_MODEL: Keys = {
    # With MODEL.BACKBONE.NAME build_timm_backbone: any network of timm that has feature maps.
    "MODEL.TIMM.NAME": ("", values.TEXT),  # such as convnext_tiny.fb_in22k
    "MODEL.TIMM.PRETRAINED": (False, values.FLAG),  # the weights of timm's cache, or fetched
    "MODEL.TIMM.WEIGHTS": ("", values.TEXT),  # or those of a file
    "MODEL.TIMM.FREEZE_BN": (True, values.FLAG),  # batch norms keep their statistics, as those of Detectron2's ResNets
    # Each layer learns by this factor slower than the one behind it.
    "MODEL.TIMM.LAYER_DECAY": (1.0, values.number(0, 1, above=True)),
    # Transformer (the paper's values).
    "MODEL.DETR.HIDDEN_DIM": (256, values.WIDTH),
    "MODEL.DETR.NHEADS": (8, values.WIDTH),
    "MODEL.DETR.DIM_FEEDFORWARD": (2048, values.WIDTH),
    "MODEL.DETR.ENC_LAYERS": (6, values.whole(0, 1000)),
    "MODEL.DETR.DEC_LAYERS": (6, values.whole(1, 1000)),
    "MODEL.DETR.DROPOUT": (0.1, values.number(0, 1, below=True)),
    "MODEL.DETR.PRE_NORM": (False, values.FLAG),  # True: layer norm before attention and feed-forward
    # The map of the ResNet that the transformer reads. "res4" has half the stride, for small images; there is no res5
    # then, which saves a fifth of a small network's training time.
    "MODEL.DETR.MEMORY_FEATURE": ("res5", values.one_of("res4", "res5")),
    "MODEL.DETR.NUM_QUERIES": (100, values.whole(1, 10_000)),  # at most so many segments in one image
    # Hungarian matching: what a prediction costs against a ground-truth segment.
    "MODEL.DETR.COST_CLASS": (1.0, values.WEIGHT),
    "MODEL.DETR.COST_L1": (5.0, values.WEIGHT),
    "MODEL.DETR.COST_GIOU": (2.0, values.WEIGHT),
    # Masks. Stage 1 (boxes): MASK_ON False. Stage 2: MASK_ON True and FREEZE_DETECTOR True, with the stage-1 checkpoint
    # in MODEL.WEIGHTS. Joint training: MASK_ON True and FREEZE_DETECTOR False.
    "MODEL.DETR.MASK_ON": (False, values.FLAG),
    "MODEL.DETR.FREEZE_DETECTOR": (False, values.FLAG),
    # The mask head's first weights over the attention maps, which are tiny numbers, are multiplied by this. The
    # published head starts with 1; a head that learns from nothing, in a short time, learns much sooner with 100.
    "MODEL.DETR.ATTENTION_GAIN": (1.0, values.number(0, 1e6, above=True)),
    # Masks are computed for as many queries at once as fit into so many bytes; at least one. At inference, and in
    # training with MASK_CHECKPOINT. On a CPU what fits into its cache is fastest; a GPU may like more.
    "MODEL.DETR.MASK_CHUNK_BYTES": (32 * 2**20, values.whole(1, 2**50)),
    # Training keeps nothing of the mask head but the masks, and computes the rest again for the backward pass: less
    # memory, more time.
    "MODEL.DETR.MASK_CHECKPOINT": (False, values.FLAG),
    # "bfloat16": autocast of the network in training, on a CPU as well; less memory, and faster where the processor has
    # it. SOLVER.AMP.ENABLED is Detectron2's own, in float16 and on GPUs.
    "MODEL.DETR.TRAINING_DTYPE": ("float32", values.one_of("float32", "bfloat16")),
}

_LOSSES: Keys = {
    "MODEL.DETR.CLASS_WEIGHT": (1.0, values.WEIGHT),
    "MODEL.DETR.L1_WEIGHT": (5.0, values.WEIGHT),
    "MODEL.DETR.GIOU_WEIGHT": (2.0, values.WEIGHT),
    "MODEL.DETR.MASK_WEIGHT": (1.0, values.WEIGHT),  # focal loss of the masks
    "MODEL.DETR.DICE_WEIGHT": (1.0, values.WEIGHT),
    # Which of an image's masks each pixel belongs to; 0: not computed, as published.
    "MODEL.DETR.MASK_ID_WEIGHT": (0.0, values.WEIGHT),
    # Training compares masks at so many points of each, most of them where the mask is uncertain (Kirillov et al. 2020,
    # PointRend), such as 12544; 0: at all pixels, as published, and as in every evaluation.
    "MODEL.DETR.MASK_POINTS": (0, values.whole(0, 10**7)),
    # Of the class "no object" in the cross entropy; with 0 there were nothing to average where no segment is.
    "MODEL.DETR.NO_OBJECT_WEIGHT": (0.1, values.number(0, 1e6, above=True)),
    "MODEL.DETR.FOCAL_ALPHA": (0.25, values.number(most=1)),
    "MODEL.DETR.FOCAL_GAMMA": (2.0, values.number(0, 1000)),
    "MODEL.DETR.DEEP_SUPERVISION": (True, values.FLAG),  # losses after every decoder layer, not only the last
    # Denoising queries (Li et al. 2022, DN-DETR): so many noised copies of each image's ground truth are further
    # queries, in training only; 0: none. Box noise and label noise are parts of a box's size, and of the classes.
    "MODEL.DETR.DENOISING_GROUPS": (0, values.whole(0, 1000)),
    "MODEL.DETR.DENOISING_BOX_NOISE": (0.4, values.PART),
    "MODEL.DETR.DENOISING_LABEL_NOISE": (0.2, values.PART),
    # Every place of the encoder's memory says which segment it lies in, and its box, in training only: losses that the
    # backbone learns from sooner than from those of the queries.
    "MODEL.DETR.DENSE_LOSSES": (False, values.FLAG),
}

_INFERENCE: Keys = {
    # The values travel with the config; thresholds are on the class probability.
    "MODEL.DETR.SCORE_THRESHOLD": (0.85, values.PART),  # a query below it is no segment of the panoptic map
    # Instead, one for each class in the order of the dataset's classes (things first); `detr-d2 sweep` finds them.
    "MODEL.DETR.CLASS_SCORE_THRESHOLDS": ([], values.list_of(values.PART)),
    # A query of whose mask a smaller part is seen, as others cover it, is dropped; 0: none is.
    "MODEL.DETR.OVERLAP_THRESHOLD": (0.0, values.PART),
    "MODEL.DETR.MIN_SEGMENT_AREA": (4, values.COUNT_OR_0),  # pixels of the original image; smaller segments are dropped
    "MODEL.DETR.INSTANCE_SCORE_THRESHOLD": (0.05, values.PART),  # a thing below it is no instance
    "MODEL.DETR.PANOPTIC_ON": (True, values.FLAG),  # return "panoptic_seg" (needs MASK_ON)
    "MODEL.DETR.INSTANCE_ON": (True, values.FLAG),  # return "instances"
    # "bfloat16": faster where the processor computes in it, and masks differ a little; "auto": there, and nowhere else.
    "MODEL.DETR.INFERENCE_DTYPE": ("float32", values.one_of("float32", "bfloat16", "auto")),
    # torch.compile: slow at first, and with each new size, then faster.
    "MODEL.DETR.COMPILE_BACKBONE": (False, values.FLAG),
}

_TEST: Keys = {
    # "detr_d2": panoptic quality computed in memory; "coco": Detectron2's COCOPanopticEvaluator (needs panopticapi).
    "TEST.PANOPTIC_EVALUATOR": ("detr_d2", values.one_of("detr_d2", "coco")),
    # Write the predictions as COCO panoptic files as well, panoptic_predictions/*.png and .json in the dataset's folder
    # of inference/; `detr-d2 pq` reads them. Nothing else needs them.
    "TEST.PANOPTIC_PNG": (False, values.FLAG),
    # Boundary PQ beside PQ (Cheng et al. 2021): a few milliseconds an image.
    "TEST.BOUNDARY_PQ": (True, values.FLAG),
    # Draws of the images for 95 % intervals of PQ; 0: no intervals.
    "TEST.BOOTSTRAP": (1000, values.whole(0, 100_000)),
    # AP of the things' masks beside that of their boxes, where the model has masks and the ground truth does.
    "TEST.MASK_AP": (True, values.FLAG),
    # The training's losses over DATASETS.TEST, without augmentation, at every evaluation: validation/total_loss and
    # each term. The predictions' own forward pass gives them.
    "TEST.VALIDATION_LOSS": (True, values.FLAG),
    # So many scenes of each of DATASETS.TEST, always the same, go to TensorBoard while training: image, ground
    # truth and prediction.
    "TEST.SCENES": (4, values.whole(0, 1000)),
    # While training with TEST.EVAL_PERIOD, model_best.pth holds the weights of the best evaluation. METRIC is a name of
    # metrics.json: "panoptic_seg/PQ", "bbox/AP", "validation/total_loss", with several DATASETS.TEST
    # "DATASET/panoptic_seg/PQ"; "auto": PQ of the first dataset where there are masks, else its box AP; "": nothing.
    # MODE "max" or "min" says what is best; "auto": "min" for terms of the validation loss, else "max".
    "TEST.BEST_CHECKPOINT.METRIC": ("auto", values.TEXT),
    "TEST.BEST_CHECKPOINT.MODE": ("auto", values.MODE),
    # Training stops after PATIENCE evaluations in a row whose METRIC is no better than the best before by more than
    # MIN_DELTA; 0: never. METRIC and MODE as above. The run ends as others do: model_final.pth, results, resumable.
    "TEST.EARLY_STOPPING.PATIENCE": (0, values.COUNT_OR_0),
    "TEST.EARLY_STOPPING.MIN_DELTA": (0.0, values.FROM_0),
    "TEST.EARLY_STOPPING.METRIC": ("auto", values.TEXT),
    "TEST.EARLY_STOPPING.MODE": ("auto", values.MODE),
}

KEYS: Keys = {**_DATA, **_AUGMENTATIONS, **_SOLVER, **_MODEL, **_LOSSES, **_INFERENCE, **_TEST}

#: A rule for each key, Detectron2's included.
ALLOWED = {**values.OF_DETECTRON2, **{key: rule for key, (_, rule) in KEYS.items()}}


def add_detr_config(cfg: CfgNode) -> None:
    """Add this project's keys, with the published values of DETR as defaults, to a Detectron2 config.

    Args:
        cfg: what ``detectron2.config.get_cfg()`` returned; changed in place, as Detectron2's projects do.
    """
    for key, (default, _) in KEYS.items():
        *sections, name = key.split(".")
        node = cfg
        for section in sections:
            if section not in node:
                node[section] = CfgNode()
            node = node[section]
        node[name] = copy.copy(default)


def value_of(cfg: CfgNode, key: str, absent: Any = None) -> Any:
    """The value of a key such as "MODEL.DETR.NHEADS"; ``absent`` where the config has no such key."""
    value: Any = cfg
    for part in key.split("."):
        if not isinstance(value, CfgNode) or part not in value:
            return absent
        value = value[part]
    return value


def check_values(cfg: CfgNode, *sections: str) -> None:
    """Refuses a config with a value that no key of that name may have.

    Args:
        cfg: keys that it lacks are not looked at.
        sections: what the keys to look at begin with, such as "SOLVER."; none: all.

    Raises:
        ConfigError: naming the key, its value and what is allowed.
    """
    for key, rule in ALLOWED.items():
        if sections and not key.startswith(sections):
            continue
        value = value_of(cfg, key, cfg)
        if value is not cfg and not rule.accepts(value):
            shown = repr(value) if len(repr(value)) < 200 else f"{repr(value)[:200]} ..."
            raise ConfigError(f"{key} is {shown}; allowed are {rule.text}.")
