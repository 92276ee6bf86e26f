"""Models that label whole images: this project's own from weights alone, or any function in Python."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np
import torch

import detr_d2
from detr_d2.errors import ConfigError, WeightsError

from .answers import Answer, AnsweredSegment, answer_of
from .functions import FunctionLabeller, digest_of

_FUNCTION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


class Labeller(Protocol):
    """A model for stuff.

    Attributes:
        stuff_names: of all stuff that it may see.
        identity: a word that changes whenever its answers may.
    """

    stuff_names: tuple[str, ...]
    identity: str

    def open(self) -> Callable[[np.ndarray], Answer]:
        """Loads the model; what comes back labels one image, (H, W, 3) uint8 RGB."""


def find_labeller(what: str, score: float, overrides: Sequence[str] = ()) -> Labeller:
    """The model that ``--stuff model`` names.

    Args:
        what: what ``MODEL.WEIGHTS`` takes, or ``module:function``.
        score: segments below it aren't wanted.
        overrides: config keys and values in turn, for weights.

    Raises:
        ConfigError: there is no such module or function, or it needs no overrides.
        MissingFileError: there is no such file.
        WeightsError: the weights have no mask head, or classes without names.
        BackendError: there is no detectron2 that would do.
    """
    detr_d2.register_all()  # a function, too, may count on it
    if not _FUNCTION.fullmatch(what) or os.path.exists(what):
        return WeightsLabeller(what, score, overrides)
    if overrides:
        raise ConfigError(f"--stuff model {what} is a function; {' '.join(overrides)} would change a config.")
    return FunctionLabeller(what)


class WeightsLabeller:
    """A panoptic model of this project; see :func:`find_labeller`."""

    def __init__(self, weights: str, score: float, overrides: Sequence[str] = ()) -> None:
        from detr_d2.checkpoint import config_of, read_weights
        from detr_d2.data.catalogs import categories_of

        file = read_weights(weights)
        options = ("MODEL.DETR.SCORE_THRESHOLD", str(score), *overrides)
        self._cfg = config_of(file, options)
        if not self._cfg.MODEL.DETR.MASK_ON:
            raise WeightsError(
                f"{weights} ({file.origin}) finds boxes only. Give a panoptic model, for example detr-r50-panoptic."
            )
        self._cfg.MODEL.DETR.PANOPTIC_ON, self._cfg.MODEL.DETR.INSTANCE_ON = True, False
        self._categories = categories_of(self._cfg.DATASETS.TEST[0])
        self.stuff_names = tuple(category.name for category in self._categories if not category.is_thing)
        settings = self._cfg.MODEL.clone()
        settings.WEIGHTS = settings.DEVICE = ""  # another place or machine, but the same model
        parts = [repr(options), repr(self._categories), settings.dump(), self._cfg.INPUT.dump()]
        self.identity = digest_of([*_bytes_of(file.weights), *(part.encode() for part in parts)])

    def open(self) -> Callable[[np.ndarray], Answer]:
        """See :class:`Labeller`."""
        from detr_d2.prediction import DetrPredictor

        predictor = DetrPredictor(self._cfg)

        def label(pixels: np.ndarray) -> Answer:
            ids, segments = predictor(np.ascontiguousarray(pixels[:, :, ::-1]))["panoptic_seg"]
            named = [(segment, self._categories[segment["category_id"]]) for segment in segments]
            return answer_of(
                ids.cpu().numpy(),
                [segment["id"] for segment, _ in named],
                [AnsweredSegment(c.name, c.is_thing, round(float(segment["score"]), 4)) for segment, c in named],
            )

        return label


def _bytes_of(weights: Mapping[str, torch.Tensor]) -> Iterator[bytes]:
    """Names and values of weights; they may have come from several files."""
    for name, tensor in sorted(weights.items()):
        yield f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode()
        yield tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
