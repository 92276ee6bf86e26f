"""Every configuration key that this project adds to Detectron2's."""

from __future__ import annotations

from detectron2.config import CfgNode


def add_detr_config(cfg: CfgNode) -> None:
    """Add this project's keys, with the published values of DETR as defaults, to a Detectron2 config.

    Args:
        cfg: what ``detectron2.config.get_cfg()`` returned; changed in place, as Detectron2's projects do.
    """
    _add_data_keys(cfg)
    _add_augmentation_keys(cfg)
    _add_solver_keys(cfg)
    _add_average_keys(cfg)
    _add_timm_keys(cfg)
    _add_model_keys(cfg)
    _add_test_keys(cfg)


def _add_data_keys(cfg: CfgNode) -> None:
    # Your own datasets. Each entry is either a mapping with the arguments of `detr_d2.data.register`
    # (name, images, panoptic_json, panoptic_root, instances_json) or the path of a yaml file that holds a list of such.
    cfg.DATASETS.REGISTER = []

    # What is looked at before a training starts: "quick": the JSON files, and whether the files that
    # they name are there; "full": every image as well; "off". `detr-d2 check` shows all that is wrong.
    cfg.DATASETS.CHECK = "quick"

    # Ground-truth masks hold one pixel in MASK_STRIDE, each way: 4 gives the size of the model's masks, and saves
    # memory and time in loader and loss. Boxes and classes stay exact; docs/loading.md says what it does to the losses.
    cfg.INPUT.MASK_STRIDE = 1

    # DATALOADER.SAMPLER_TRAIN "RepeatFactorTrainingSampler" (Detectron2's name): images with a class that less than
    # REPEAT_THRESHOLD of all images have come more often, things and stuff alike; with REPEAT_SQRT by the root of
    # threshold / frequency, without by that itself.
    cfg.DATALOADER.REPEAT_THRESHOLD = 0.0
    cfg.DATALOADER.REPEAT_SQRT = True


def _add_augmentation_keys(cfg: CfgNode) -> None:
    # DETR's random crop: with PROB, the image is first resized so that its short side is one of RESIZE_SIZES, then a
    # window whose sides lie in MIN_SIZE..MAX_SIZE is cut out, and only then comes the usual resize to one of
    # INPUT.MIN_SIZE_TRAIN.
    cfg.INPUT.DETR_CROP = CfgNode()
    cfg.INPUT.DETR_CROP.ENABLED = True
    cfg.INPUT.DETR_CROP.PROB = 0.5
    cfg.INPUT.DETR_CROP.RESIZE_SIZES = [400, 500, 600]  # pixels; an empty list: no resize before the crop
    cfg.INPUT.DETR_CROP.MIN_SIZE = 384  # pixels
    cfg.INPUT.DETR_CROP.MAX_SIZE = 600  # pixels

    # Large-scale jitter (Ghiasi et al. 2021), in the place of DETR_CROP and of the resize: an image is made MIN_SCALE
    # to MAX_SCALE times as large as what fits on a canvas of SIZE x SIZE pixels; what is too much is cropped, and the
    # rest of the canvas is grey (PAD False: there is no canvas, and small images are small).
    cfg.INPUT.LSJ = CfgNode()
    cfg.INPUT.LSJ.ENABLED = False
    cfg.INPUT.LSJ.SIZE = 1024  # pixels
    cfg.INPUT.LSJ.MIN_SCALE = 0.1
    cfg.INPUT.LSJ.MAX_SCALE = 2.0
    cfg.INPUT.LSJ.PAD = True

    # With PROB, brightness, contrast and saturation are multiplied by 1 - value ... 1 + value, and the hue is moved by
    # up to HUE of the colour circle (at most 0.5).
    cfg.INPUT.COLOR_JITTER = CfgNode()
    cfg.INPUT.COLOR_JITTER.ENABLED = False
    cfg.INPUT.COLOR_JITTER.PROB = 0.8
    cfg.INPUT.COLOR_JITTER.BRIGHTNESS = 0.4
    cfg.INPUT.COLOR_JITTER.CONTRAST = 0.4
    cfg.INPUT.COLOR_JITTER.SATURATION = 0.4
    cfg.INPUT.COLOR_JITTER.HUE = 0.1

    # RICAP (Takahashi et al. 2018): with PROB, an image is put together from pieces of four, before everything else.
    # Where they meet is drawn from a beta distribution: below 1, BETA mostly leaves one large piece; 1: anything is as
    # likely; above, the pieces become alike. Needs panoptic ground truth.
    cfg.INPUT.RICAP = CfgNode()
    cfg.INPUT.RICAP.ENABLED = False
    cfg.INPUT.RICAP.PROB = 0.5
    cfg.INPUT.RICAP.BETA = 0.3

    # Copy-paste (Ghiasi et al. 2021): with PROB, about half of another image's things are put in front of an image,
    # before everything else but RICAP; MIN_SCALE to MAX_SCALE times as large as what fits that image onto this one.
    # Needs panoptic ground truth.
    cfg.INPUT.COPY_PASTE = CfgNode()
    cfg.INPUT.COPY_PASTE.ENABLED = False
    cfg.INPUT.COPY_PASTE.PROB = 0.5
    cfg.INPUT.COPY_PASTE.MIN_SCALE = 0.5
    cfg.INPUT.COPY_PASTE.MAX_SCALE = 1.5


def _add_solver_keys(cfg: CfgNode) -> None:
    # "ADAMW" (as DETR) or "SGD".
    cfg.SOLVER.OPTIMIZER = "ADAMW"
    # The backbone's learning rate is BASE_LR times this.
    cfg.SOLVER.BACKBONE_MULTIPLIER = 0.1
    # Each stage of a ResNet learns by this factor slower than the one behind it: with 0.5 res5 at the backbone's rate,
    # res4 at half of it, the stem at a sixteenth. For timm's networks it is MODEL.TIMM.LAYER_DECAY.
    cfg.SOLVER.BACKBONE_LAYER_DECAY = 1.0
    # The mask head's learning rate is BASE_LR times this, for a training together with a detector that knows its boxes.
    cfg.SOLVER.MASK_HEAD_MULTIPLIER = 1.0
    # A step's IMS_PER_BATCH images are computed in so many parts, one after the other, whose gradients add up to those
    # of the whole batch: a large batch in the memory of a small one.
    cfg.SOLVER.ACCUMULATE_BATCHES = 1
    # So many of the checkpoints that SOLVER.CHECKPOINT_PERIOD asks for stay, the newest; older ones are removed when
    # the next is written. 0: all. model_best.pth and model_final.pth always stay.
    cfg.SOLVER.CHECKPOINT_KEEP = 0
    # A step whose losses aren't finite ends the training. So many are left out instead, over the whole training; each
    # is logged, and saved to OUTPUT_DIR/diverged for `detr-d2 replay`.
    cfg.SOLVER.MAX_SKIPPED_STEPS = 0
    # SOLVER.CLIP_GRADIENTS.CLIP_TYPE may be "full_model" here: the norm is that of all gradients together, as in DETR.


def _add_average_keys(cfg: CfgNode) -> None:
    # An average over the steps' weights (the names of Detectron2's d2go): evaluated as well, as ema/panoptic_seg/PQ and
    # so on, and kept in model_final_ema.pth; model_best.pth is the better of the two. After step t it moves by
    # 1 - DECAY * (1 - exp(-t / TAU)) of its way to the weights.
    cfg.MODEL_EMA = CfgNode()
    cfg.MODEL_EMA.ENABLED = False
    cfg.MODEL_EMA.DECAY = 0.999  # 0.99 for trainings of about a thousand steps
    cfg.MODEL_EMA.TAU = 100.0  # steps


def _add_timm_keys(cfg: CfgNode) -> None:
    # With MODEL.BACKBONE.NAME build_timm_backbone: any network of timm that has feature maps.
    cfg.MODEL.TIMM = CfgNode()
    cfg.MODEL.TIMM.NAME = ""  # such as convnext_tiny.fb_in22k
    cfg.MODEL.TIMM.PRETRAINED = False  # the weights of timm's cache, or fetched
    cfg.MODEL.TIMM.WEIGHTS = ""  # or those of a file
    cfg.MODEL.TIMM.FREEZE_BN = True  # batch norms keep their statistics, as those of Detectron2's ResNets
    cfg.MODEL.TIMM.LAYER_DECAY = 1.0  # each layer learns by this factor slower than the one behind it


def _add_model_keys(cfg: CfgNode) -> None:
    cfg.MODEL.DETR = CfgNode()
    detr = cfg.MODEL.DETR

    # Transformer (the paper's values).
    detr.HIDDEN_DIM = 256
    detr.NHEADS = 8
    detr.DIM_FEEDFORWARD = 2048
    detr.ENC_LAYERS = 6
    detr.DEC_LAYERS = 6
    detr.DROPOUT = 0.1
    detr.PRE_NORM = False  # True: layer norm before attention and feed-forward
    # The map of the ResNet that the transformer reads. "res4" has half the stride, for small images; there is no res5
    # then, which saves a fifth of a small network's training time.
    detr.MEMORY_FEATURE = "res5"
    detr.NUM_QUERIES = 100  # at most so many segments in one image

    # Hungarian matching: what a prediction costs against a ground-truth segment.
    detr.COST_CLASS = 1.0
    detr.COST_L1 = 5.0
    detr.COST_GIOU = 2.0

    # Masks. Stage 1 (boxes): MASK_ON False. Stage 2: MASK_ON True and FREEZE_DETECTOR True, with the stage-1 checkpoint
    # in MODEL.WEIGHTS. Joint training: MASK_ON True and FREEZE_DETECTOR False.
    detr.MASK_ON = False
    detr.FREEZE_DETECTOR = False
    # The mask head's first weights over the attention maps, which are tiny numbers, are multiplied by this. The
    # published head starts with 1; a head that learns from nothing, in a short time, learns much sooner with 100.
    detr.ATTENTION_GAIN = 1.0
    # Masks are computed for as many queries at once as fit into so many bytes; at least one. At inference, and in
    # training with MASK_CHECKPOINT. On a CPU what fits into its cache is fastest; a GPU may like more.
    detr.MASK_CHUNK_BYTES = 32 * 2**20
    # Training keeps nothing of the mask head but the masks, and computes the rest again for the backward pass: less
    # memory, more time.
    detr.MASK_CHECKPOINT = False

    # "bfloat16": autocast of the network in training, on a CPU as well; less memory, and faster where the processor has
    # it. SOLVER.AMP.ENABLED is Detectron2's own, in float16 and on GPUs.
    detr.TRAINING_DTYPE = "float32"

    _add_loss_keys(detr)
    _add_inference_keys(detr)


def _add_loss_keys(detr: CfgNode) -> None:
    detr.CLASS_WEIGHT = 1.0
    detr.L1_WEIGHT = 5.0
    detr.GIOU_WEIGHT = 2.0
    detr.MASK_WEIGHT = 1.0  # focal loss of the masks
    detr.DICE_WEIGHT = 1.0
    detr.MASK_ID_WEIGHT = 0.0  # which of an image's masks each pixel belongs to; 0: not computed, as published
    # Training compares masks at so many points of each, most of them where the mask is uncertain (Kirillov et al. 2020,
    # PointRend), such as 12544; 0: at all pixels, as published, and as in every evaluation.
    detr.MASK_POINTS = 0
    detr.NO_OBJECT_WEIGHT = 0.1  # weight of the class "no object" in the cross entropy
    detr.FOCAL_ALPHA = 0.25
    detr.FOCAL_GAMMA = 2.0
    detr.DEEP_SUPERVISION = True  # losses after every decoder layer, not only the last

    # Denoising queries (Li et al. 2022, DN-DETR): so many noised copies of each image's ground truth are further
    # queries, in training only; 0: none. Box noise and label noise are parts of a box's size, and of the classes.
    detr.DENOISING_GROUPS = 0
    detr.DENOISING_BOX_NOISE = 0.4
    detr.DENOISING_LABEL_NOISE = 0.2

    # Every place of the encoder's memory says which segment it lies in, and its box, in training only: losses that the
    # backbone learns from sooner than from those of the queries.
    detr.DENSE_LOSSES = False


def _add_inference_keys(detr: CfgNode) -> None:
    # The values travel with the config; thresholds are on the class probability.
    detr.SCORE_THRESHOLD = 0.85  # a query below it is no segment of the panoptic map
    # Instead, one for each class in the order of the dataset's classes (things first); `detr-d2 sweep` finds them.
    detr.CLASS_SCORE_THRESHOLDS = []
    # A query of whose mask a smaller part is seen, as others cover it, is dropped; 0: none is.
    detr.OVERLAP_THRESHOLD = 0.0
    detr.MIN_SEGMENT_AREA = 4  # pixels of the original image; smaller segments are dropped
    detr.INSTANCE_SCORE_THRESHOLD = 0.05  # a thing below it is no instance
    detr.PANOPTIC_ON = True  # return "panoptic_seg" (needs MASK_ON)
    detr.INSTANCE_ON = True  # return "instances"
    # "bfloat16": faster where the processor computes in it, and masks differ a little; "auto": there, and nowhere else.
    detr.INFERENCE_DTYPE = "float32"
    detr.COMPILE_BACKBONE = False  # torch.compile: slow at first, and with each new size, then faster


def _add_test_keys(cfg: CfgNode) -> None:
    # "detr_d2": panoptic quality computed in memory; "coco": Detectron2's COCOPanopticEvaluator (needs panopticapi).
    cfg.TEST.PANOPTIC_EVALUATOR = "detr_d2"
    # Write the predictions as COCO panoptic files as well, panoptic_predictions/*.png and .json in the dataset's folder
    # of inference/; `detr-d2 pq` reads them. Nothing else needs them.
    cfg.TEST.PANOPTIC_PNG = False
    # Boundary PQ beside PQ (Cheng et al. 2021): a few milliseconds an image.
    cfg.TEST.BOUNDARY_PQ = True
    # Draws of the images for 95 % intervals of PQ; 0: no intervals.
    cfg.TEST.BOOTSTRAP = 1000
    # AP of the things' masks beside that of their boxes, where the model has masks and the ground truth does.
    cfg.TEST.MASK_AP = True

    # The training's losses over DATASETS.TEST, without augmentation, at every evaluation: validation/total_loss and
    # each term. The predictions' own forward pass gives them.
    cfg.TEST.VALIDATION_LOSS = True
    # So many scenes of each of DATASETS.TEST, always the same, go to TensorBoard while training: image, ground
    # truth and prediction.
    cfg.TEST.SCENES = 4

    # While training with TEST.EVAL_PERIOD, model_best.pth holds the weights of the best evaluation. METRIC is a name of
    # metrics.json: "panoptic_seg/PQ", "bbox/AP", "validation/total_loss", with several DATASETS.TEST
    # "DATASET/panoptic_seg/PQ"; "auto": PQ of the first dataset where there are masks, else its box AP; "": nothing.
    # MODE "max" or "min" says what is best; "auto": "min" for terms of the validation loss, else "max".
    cfg.TEST.BEST_CHECKPOINT = CfgNode()
    cfg.TEST.BEST_CHECKPOINT.METRIC = "auto"
    cfg.TEST.BEST_CHECKPOINT.MODE = "auto"

    # Training stops after PATIENCE evaluations in a row whose METRIC is no better than the best before by more than
    # MIN_DELTA; 0: never. METRIC and MODE as above. The run ends as others do: model_final.pth, results, resumable.
    cfg.TEST.EARLY_STOPPING = CfgNode()
    cfg.TEST.EARLY_STOPPING.PATIENCE = 0
    cfg.TEST.EARLY_STOPPING.MIN_DELTA = 0.0
    cfg.TEST.EARLY_STOPPING.METRIC = "auto"
    cfg.TEST.EARLY_STOPPING.MODE = "auto"
