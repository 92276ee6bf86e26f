"""This project's own models for ``--stuff model``, from weights alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import torch

from detr_d2.checkpoint import config_of, read_weights
from detr_d2.data.catalogs import categories_of
from detr_d2.errors import WeightsError

from .stuff.answers import Answer, AnsweredSegment, answer_of, digest_of


class WeightsLabeller:
    """A panoptic model of this project.

    Args:
        weights: what ``MODEL.WEIGHTS`` takes.
        score: least score of a segment; None: the weights' own.
        overrides: of their config.

    Raises:
        MissingFileError: there is no such file.
        WeightsError: the weights have no mask head, or classes without names.
    """

    def __init__(self, weights: str, score: float | None, overrides: Sequence[str] = ()) -> None:
        file = read_weights(weights)
        options = (*(() if score is None else ("MODEL.DETR.SCORE_THRESHOLD", str(score))), *overrides)
        self._cfg = config_of(file, options)
        if not self._cfg.MODEL.DETR.MASK_ON:
            raise WeightsError(
                f"{weights} ({file.origin}) finds boxes only. Give a panoptic model, for example detr-r50-panoptic."
            )
        self._cfg.MODEL.DETR.PANOPTIC_ON, self._cfg.MODEL.DETR.INSTANCE_ON = True, False
        self.categories = categories_of(self._cfg.DATASETS.TEST[0])
        self.stuff_names = tuple(category.name for category in self.categories if not category.is_thing)
        settings = self._cfg.MODEL.clone()
        settings.WEIGHTS = settings.DEVICE = ""  # another place or machine, but the same model
        parts = [repr(options), repr(self.categories), settings.dump(), self._cfg.INPUT.dump()]
        self.identity = digest_of([*_bytes_of(file.weights), *(part.encode() for part in parts)])

    def open(self) -> Callable[[np.ndarray], Answer]:
        """See :class:`~detr_d2.prepare.stuff.answers.Labeller`."""
        from detr_d2.prediction import DetrPredictor

        predictor = DetrPredictor(self._cfg)

        def label(pixels: np.ndarray) -> Answer:
            ids, segments = predictor(np.ascontiguousarray(pixels[:, :, ::-1]))["panoptic_seg"]
            named = [(segment, self.categories[segment["category_id"]]) for segment in segments]
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
