"""Which images to label next: those of which a model is the least certain, from its own forward pass."""

from __future__ import annotations

import csv
import io
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from detr_d2.files import write_text
from detr_d2.pages import thumbnail, write_page
from detr_d2.prediction.image_files import FoundImage
from detr_d2.prediction.images import ImageError
from detr_d2.prediction.pipeline import overlapped
from detr_d2.prediction.prediction import Prediction
from detr_d2.prediction.predictor import ForwardPass, Predictor
from detr_d2.prediction.running import LoadedImage, WholeImages

_TEMPLATE = Path(__file__).parent / "templates" / "ranking.html"
#: A query is seen as something from this probability on that it isn't nothing.
_SOMETHING = 0.1
_THUMBNAIL = 480


class Uncertainty(NamedTuple):
    """How uncertain a model is of an image; each from 0, certain, to 1.

    Args:
        narrow: how narrowly the panoptic map's argmax is won: 1 - the mean margin between a pixel's two most probable
            masks, those of one stuff class as one.
        unclaimed: share of the pixels that no kept query's mask claims (probability below a half); void, in the end.
        doubtful: of the queries that see something, the share whose score is too low for the map.
    """

    narrow: float
    unclaimed: float
    doubtful: float

    @property
    def score(self) -> float:
        """The mean of the three."""
        return sum(self) / len(self)


class Ranked(NamedTuple):
    """An image and how uncertain it is."""

    image: str
    uncertainty: Uncertainty
    segments: int


class _Seen(NamedTuple):
    ranked: Ranked
    prediction: Prediction
    doubt: np.ndarray


@torch.no_grad()
def uncertainty_of(seen: ForwardPass) -> tuple[Uncertainty, np.ndarray]:
    """How uncertain a forward pass is, and where.

    Returns:
        The numbers; and (h, w) float32 at a quarter of the network's size, 1 - the margin at each place.
    """
    queries, _, classes = seen.kept()
    something = int((seen.objectness > _SOMETHING).sum())
    doubtful = max(something - len(queries), 0) / max(something, 1)
    masks = _unpadded(seen.masks_of(queries), seen).float().sigmoid()
    if not len(queries):
        size = [max(side // 4, 1) for side in seen.sizes.image]
        return Uncertainty(1.0, 1.0, float(doubtful or 1.0)), np.ones(size, np.float32)
    merged = _stuff_merged(masks, classes, seen)
    best = merged.topk(min(2, len(merged)), dim=0).values
    margin = best[0] - best[1] if len(best) > 1 else best[0]
    unclaimed = float((best[0] < 0.5).float().mean())
    return Uncertainty(float(1 - margin.mean()), unclaimed, float(doubtful)), (1 - margin).cpu().numpy()


def rank_images(predictor: Predictor, images: Sequence[FoundImage], folder: Path, shown: int = 60) -> list[Ranked]:
    """Ranks images, the least certain first, and writes ``ranking.csv`` and ``ranking.html``.

    Args:
        predictor: with a mask head.
        images: to be ranked; those that can't be read are said on stderr and left out.
        folder: of the two files.
        shown: images on the page.

    Raises:
        ConfigError: the model has boxes only.
    """
    engine = WholeImages(predictor)
    ranked: list[Ranked] = []
    cards: list[tuple[float, dict[str, Any]]] = []

    def see(loaded: list[LoadedImage]) -> list[_Seen]:
        return [_see(predictor, image) for image in loaded]

    steps = overlapped(images, engine.load, see, lambda _, seen: (seen.ranked, _card(seen)), failures=(ImageError,))
    for _, result in tqdm(steps, total=len(images), unit="image", disable=None):
        if isinstance(result, Exception):
            tqdm.write(f"skipped: {result}", file=sys.stderr)
            continue
        ranked.append(result[0])
        cards.append((result[0].uncertainty.score, result[1]))
        cards = sorted(cards, key=lambda card: -card[0])[:shown]  # memory doesn't grow with the number of images
    ranked.sort(key=lambda one: (-one.uncertainty.score, one.image))
    write_text(folder / "ranking.csv", _table(ranked))
    write_page(
        folder / "ranking.html",
        _TEMPLATE,
        title="Which images to label next",
        images=len(ranked),
        cards=[card for _, card in cards],
    )
    return ranked


def _see(predictor: Predictor, image: LoadedImage) -> _Seen:
    seen = ForwardPass(predictor, image.pixels, image.name)
    uncertainty, doubt = uncertainty_of(seen)
    prediction = seen.prediction(classes=predictor.classes)
    return _Seen(Ranked(image.name, uncertainty, len(prediction.segments)), prediction, doubt)


def _unpadded(masks: Tensor, seen: ForwardPass) -> Tensor:
    """What of masks at stride 4 of the padded tensor is the image."""
    if not len(masks):
        return masks
    height, width = (
        min(math.ceil(side * masks.shape[axis] / padded), masks.shape[axis])
        for side, padded, axis in zip(seen.sizes.image, seen.sizes.padded, (1, 2))
    )
    return masks[:, :height, :width]


def _stuff_merged(masks: Tensor, classes: Tensor, seen: ForwardPass) -> Tensor:
    """Masks of one stuff class as one: which of two queries wins there changes nothing."""
    is_thing = seen.is_thing[classes]
    parts = [masks[is_thing]]
    parts += [masks[~is_thing & (classes == one)].amax(0, keepdim=True) for one in classes[~is_thing].unique()]
    return torch.cat(parts)


def _card(seen: _Seen) -> dict[str, Any]:
    """What the page shows of an image: the prediction and where it is doubtful."""
    drawn = thumbnail(np.asarray(seen.prediction.draw()), _THUMBNAIL)
    heat = thumbnail(_heat(seen.prediction.image, seen.doubt), _THUMBNAIL)
    views = [("prediction", drawn), ("doubt", heat), ("image", thumbnail(seen.prediction.image, _THUMBNAIL))]
    facts = seen.ranked.uncertainty
    return {"image": seen.ranked.image, "views": views, "facts": facts._asdict(), "score": facts.score}


def _heat(image: np.ndarray, doubt: np.ndarray) -> np.ndarray:
    """The image in grey, red where the map is won narrowly."""
    height, width = image.shape[:2]
    size = (min(width, _THUMBNAIL), max(round(height * min(width, _THUMBNAIL) / width), 1))
    grey = np.asarray(Image.fromarray(image).convert("L").resize(size))[:, :, None].astype(np.float32)
    share = np.asarray(Image.fromarray(doubt).resize(size, Image.Resampling.BILINEAR))[:, :, None].clip(0, 1)
    red = np.array([230, 40, 20], np.float32)
    return np.asarray((grey * (1 - share) + red * share).astype(np.uint8))


def _table(ranked: Sequence[Ranked]) -> str:
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["rank", "image", "uncertainty", "narrow", "unclaimed", "doubtful", "segments"])
    for place, one in enumerate(ranked, start=1):
        numbers = [f"{value:.4f}" for value in (one.uncertainty.score, *one.uncertainty)]
        rows.writerow([place, one.image, *numbers, one.segments])
    return text.getvalue()
