"""The rules behind ``detr-d2 plan``: a table by number of photos, of which docs/recipes.md shows the same rows.

Each row says where its figures come from; ``SOURCES`` has the addresses.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np


@dataclass(frozen=True)
class Recipe:
    """What to set with about so many photos.

    Args:
        images: photos to train on.
        first: what stage 1 trains, from published panoptic weights: "joint" (boxes, classes and masks, so that the
            published mask head is kept) or "boxes". From scratch it is always boxes.
        passes: over the images in stage 1.
        mask_passes: in stage 2, the mask head over the frozen detector.
        batch: images of a step, at most what the config has.
        expect: in a sentence.
        sources: keys of ``SOURCES``; "rule" for what is this project's choice between them.
    """

    images: int
    first: str
    passes: int
    mask_passes: int
    batch: int
    expect: str
    sources: tuple[str, ...]


#: Papers, discussions and runs that the rules rest on: key, then address and what is found there.
SOURCES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "paper": (
            "https://arxiv.org/abs/2005.12872",
            "Carion et al. 2020: 300 to 500 passes over COCO's 118,000 photos for the boxes, 25 for the masks of a "
            "frozen detector; training both together comes to similar results in more time",
        ),
        "detr 9": (
            "https://github.com/facebookresearch/detr/issues/9",
            "its authors: from scratch with 10,000 photos or more, fine-tune with fewer; more queries than the fullest "
            "image has objects, with some slack: 100 for COCO, whose fullest image has about 70",
        ),
        "detr 22": (
            "https://github.com/facebookresearch/detr/issues/22",
            "its authors: from scratch at least 300,000 steps, whatever the number of photos",
        ),
        "detr 125": (
            "https://github.com/facebookresearch/detr/issues/125",
            "2,000 photos: from scratch nothing after 300 passes, fine-tuned an accuracy like others'; the authors had "
            "success from scratch with 10,000 to 15,000",
        ),
        "detr 126": (
            "https://github.com/facebookresearch/detr/issues/126",
            "its authors: more queries give better results than fewer",
        ),
        "transformers 28865": (
            "https://github.com/huggingface/transformers/issues/28865",
            "fewer queries than published: NaN where they start anew, fast training where the first ones are kept",
        ),
        "balloons": (
            "https://github.com/NielsRogge/Transformers-Tutorials/tree/master/DETR",
            "61 photos, one class, boxes: 300 steps of 4 photos (20 passes) at the published rates, from COCO weights",
        ),
        "construction": (
            "https://github.com/gokul-pv/EVA6_Capstone",
            "about 10,000 construction photos, 48 things labelled in CVAT, 16 stuff classes by a DETR: from weights of "
            "COCO's boxes 200 passes for boxes, 50 for masks: box AP 75.3, PQ 53.1 (things 61.6, stuff 27.0)",
        ),
        "eomt 56": (
            "https://github.com/tue-mps/eomt/issues/56",
            "7,262 photos with another model: stuff good, things low from a bare backbone; its authors: start from "
            "weights trained for panoptic segmentation",
        ),
        "lvis": (
            "https://arxiv.org/abs/1908.03195",
            "Gupta et al. 2019: a class in up to 10 images is rare, in up to 100 common; such images come more often",
        ),
        "adam scaling": (
            "https://arxiv.org/abs/2205.10287",
            "Malladi et al. 2022: with Adam the learning rate goes with the square root of the batch",
        ),
    }
)

RECIPES = (
    Recipe(
        50,
        "joint",
        100,
        50,
        4,
        "common classes that look like COCO's are found; rare ones aren't. Label more before training longer.",
        ("balloons", "detr 9", "rule"),
    ),
    Recipe(
        200,
        "joint",
        100,
        50,
        8,
        "a first model that labels for you: correct its labels, and train again on more.",
        ("detr 9", "detr 125", "rule"),
    ),
    Recipe(
        2000,
        "joint",
        100,
        50,
        16,
        "fine-tuning works, and training from scratch doesn't.",
        ("detr 125", "construction", "eomt 56", "rule"),
    ),
    Recipe(
        20000,
        "boxes",
        40,
        12,
        16,
        "10,000 construction photos came to PQ 53.1 with more passes; from scratch it begins to work.",
        ("construction", "paper", "detr 9", "rule"),
    ),
)

#: A class in no more images than this has few examples.
FEW_IMAGES = 10
#: Queries for each segment of the fullest image, at least: COCO's 100 for about 70, and some more.
QUERIES_PER_SEGMENT = 1.5
#: The learning rate is lowered after this part of a training: in short ones a high rate held long was worth most.
LOWER_RATE_AFTER = 0.8
#: Images whose short side is shown larger than this many times its own size teach nothing more.
MOST_ENLARGED = 2.0
#: Photos below which training from scratch isn't known to work.
FROM_SCRATCH = 10_000
#: So many times a training evaluates its model on the validation set.
EVALUATIONS = 10


def recipe_for(images: int) -> Recipe:
    """The row for a number of photos: the nearest by ratio, its passes interpolated between the rows.

    Args:
        images: to train on, from 1 on.
    """
    places = [math.log(row.images) for row in RECIPES]
    place = math.log(images)
    nearest = min(RECIPES, key=lambda row: abs(math.log(row.images) - place))
    passes, mask_passes = (
        round(float(np.interp(place, places, [getattr(row, key) for row in RECIPES])))
        for key in ("passes", "mask_passes")
    )
    return Recipe(images, nearest.first, passes, mask_passes, nearest.batch, nearest.expect, nearest.sources)


def queries_for(most_segments: int, at_least: int) -> int:
    """How many queries a training is to have.

    Args:
        most_segments: of one image, crowds left out.
        at_least: queries of the weights to start from, or of the config, which are kept unless more are needed.

    Returns:
        ``at_least``, or a multiple of 5.
    """
    return max(at_least, 5 * math.ceil(most_segments * QUERIES_PER_SEGMENT / 5))


def learning_rate_for(rate: float, of_batch: int, batch: int) -> float:
    """The learning rate for another batch, to two digits; see "adam scaling" in ``SOURCES``."""
    return float(f"{rate * math.sqrt(batch / of_batch):.2g}")
