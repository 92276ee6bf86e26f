"""One image's forward pass, kept: panoptic maps for any thresholds are made of it without the network."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import torch
from torch import Tensor

from detr_d2.errors import ConfigError
from detr_d2.modeling import kept_queries, panoptic_map
from detr_d2.prediction.prediction import Prediction
from detr_d2.prediction.predictor import Predictor


class ForwardPass:
    """What a model said of an image.

    Masks are made when a query is first wanted, and kept as logits at a quarter of the network's size.

    Args:
        predictor: with a mask head.
        image: (H, W, 3) uint8, RGB.
        name: of the image.

    Attributes:
        outputs, sizes: what :meth:`DetrPanoptic.detect` returned for a batch of this image alone.
        scores, classes: (Q,) each query's best class that isn't no-object, and its probability.
        is_thing: (K,) bool.
        objectness: (Q,) probability that the query is anything at all.

    Raises:
        ConfigError: the model has boxes only.
    """

    @torch.no_grad()
    def __init__(self, predictor: Predictor, image: np.ndarray, name: str = "") -> None:
        if not predictor.has_masks:
            raise ConfigError("the model has no mask head, only boxes; give a panoptic one (stage 2).")
        self._predictor, self.image, self.name = predictor, image, name
        self.outputs, (self.sizes,) = predictor.model.detect([predictor.model_input(image)])
        probabilities = self.outputs["pred_logits"][0].float().softmax(-1)
        self.is_thing = predictor.model.postprocess.is_thing
        self.scores, self.classes = probabilities[:, :-1].max(-1)
        self.objectness = 1 - probabilities[:, -1]
        self._masks: dict[int, Tensor] = {}

    @torch.no_grad()
    def masks_of(self, queries: Tensor) -> Tensor:
        """(N, h, w) mask logits of queries (N,) at stride 4 of the padded tensor."""
        new = torch.tensor([q for q in queries.tolist() if q not in self._masks], dtype=torch.int64)
        if len(new):
            new = new.to(queries.device)
            found = self._predictor.model.query_masks(self.outputs, torch.zeros_like(new), new)
            self._masks.update(zip(new.tolist(), found))
        none = self.scores.new_zeros(0, *self.sizes.padded)
        return torch.stack([self._masks[q] for q in queries.tolist()]) if len(queries) else none

    def kept(self, score_threshold: float | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """The queries (N,) of the panoptic map, their scores and classes; None: the model's own thresholds."""
        threshold = self._predictor.model.postprocess.score_thresholds() if score_threshold is None else score_threshold
        return kept_queries(self.outputs["pred_logits"][:1], threshold)[1:]

    def prediction(
        self,
        score_threshold: float | None = None,
        overlap_threshold: float | None = None,
        min_area: int | None = None,
        classes: Collection[str] = (),
    ) -> Prediction:
        """The panoptic map for some thresholds, by default the model's own.

        Args:
            score_threshold: of a segment, 0 to 1.
            overlap_threshold: least part of its own mask that is seen of a segment.
            min_area: least pixels of a segment.
            classes: names of those wanted; all, if there are none.
        """
        model = self._predictor.model
        own = model.postprocess
        queries, scores, found = self.kept(score_threshold)
        ids, segments = panoptic_map(
            self.masks_of(queries),
            scores,
            found,
            self.is_thing,
            self.sizes,
            own.min_segment_area if min_area is None else min_area,
            own.overlap_threshold if overlap_threshold is None else overlap_threshold,
        )
        named = [{**segment, "queries": queries[segment["queries"]].tolist()} for segment in segments]
        made = Prediction.from_output(
            self.image, {"panoptic_seg": (ids, named)}, self._predictor.categories, name=self.name
        )
        return made.only(classes) if classes else made
