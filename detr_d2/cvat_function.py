"""A model as an auto-annotation function of CVAT: it labels a task, people correct what it labelled.

    cvat-cli task auto-annotate TASK_ID --function-module detr_d2.cvat_function -p weights=str:model_final.pth

CVAT's driver keeps all shapes in memory and sends them in one request at the end. What the model said of each frame is
therefore kept on disk, so that a run that was interrupted goes on where it was.

Source: the interface of ``cvat_sdk.auto_annotation`` (a package of CVAT's, the extra ``cvat``).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from detr_d2.errors import ConfigError, DatasetError

if TYPE_CHECKING:
    from PIL import Image

    from detr_d2.prepare.stuff.model import Answer, AnswerFolder

logger = logging.getLogger(__name__)

#: Groups of shapes that people made in the same frame have small numbers; a model's are never one of them.
_FIRST_GROUP = 1000


def create(
    weights: str,
    cache: str = "",
    device: str = "",
    names: str = "",
    tolerance: float = 1.0,
    overlap_threshold: float = -1,
) -> CvatFunction:
    """What CVAT's command calls with its parameters, ``-p weights=str:model_final.pth``.

    Args:
        weights: a checkpoint with a mask head, or whatever else ``MODEL.WEIGHTS`` takes.
        cache: the folder in which the model's results are kept; by default ``detr_d2/cvat`` in ``$XDG_CACHE_HOME``, or
            in ``~/.cache``.
        device: such as ``cpu``; by default a GPU if there is one.
        names: how CVAT's task calls classes that the model calls otherwise, ``"ours=theirs, ours=theirs"``.
        tolerance: pixels by which a polygon may leave the mask's edge, to have fewer points; masks are always exact.
        overlap_threshold: of the panoptic map; by default the checkpoint's.

    Returns:
        The function.

    Raises:
        ConfigError: cvat-sdk isn't installed, or ``names`` has a class that the model doesn't know.
        MissingFileError, WeightsError: the weights can't be read, or have no mask head.
    """
    overrides = ["MODEL.DEVICE", device] if device else []
    overrides += ["MODEL.DETR.OVERLAP_THRESHOLD", str(overlap_threshold)] if overlap_threshold >= 0 else []
    return CvatFunction(weights, Path(cache).expanduser() if cache else _default_cache(), overrides, names, tolerance)


class CvatFunction:
    """See :func:`create`; ``spec`` and ``detect`` are what CVAT's driver asks for."""

    def __init__(
        self, weights: str, cache: Path, overrides: Sequence[str] = (), names: str = "", tolerance: float = 1.0
    ) -> None:
        self._sdk = _auto_annotation()
        self._weights, self._cache, self._overrides, self._tolerance = weights, cache, list(overrides), tolerance
        self._models: dict[float | None, _CachedModel] = {}
        categories = self._model(None).categories
        theirs = _renamed([category.name for category in categories], names)
        self._label_ids = {category.name: number for number, category in enumerate(categories, start=1)}
        # Declared, so that CVAT refuses a task with labels of another type before the first image, not after it.
        labels = [self._sdk.label_spec(theirs[name], number, type="mask") for name, number in self._label_ids.items()]
        self.spec = self._sdk.DetectionFunctionSpec(labels=labels)

    def detect(self, context: Any, image: Image.Image) -> list[Any]:
        """The shapes of one frame.

        Args:
            context: CVAT's ``DetectionFunctionContext``: ``conf_threshold`` (None: the checkpoint's own) is the least
                score of a segment; ``conv_mask_to_poly`` asks for polygons instead of masks.
            image: the frame.

        Returns:
            CVAT's shapes with scores. Polygons have no holes: those that lie in another one's hole have a higher
            ``z_order``, and those of one segment share a ``group``.
        """
        answer = self._model(context.conf_threshold)(image)
        least = context.conf_threshold or 0.0
        shown = [
            number
            for number, segment in enumerate(answer.segments, start=1)
            if (segment.score is None or segment.score >= least) and (answer.numbers == number).any()
        ]
        shapes = self._polygons if context.conv_mask_to_poly else self._masks
        return shapes(answer, shown)

    def _masks(self, answer: Answer, shown: list[int]) -> list[Any]:
        from cvat_sdk.masks import encode_mask

        return [
            self._sdk.mask(
                self._label_id(answer, number), encode_mask(answer.numbers == number), **_score(answer, number)
            )
            for number in shown
        ]

    def _polygons(self, answer: Answer, shown: list[int]) -> list[Any]:
        from detr_d2.labels.polygons import outlines_of

        outlines = outlines_of([answer.numbers == number for number in shown], self._tolerance)
        parts = np.bincount([outline.segment for outline in outlines], minlength=len(shown))
        shapes = []
        for outline in outlines:
            number = shown[outline.segment]
            options = {"z_order": outline.order, **_score(answer, number)}
            if parts[outline.segment] > 1:
                options["group"] = _FIRST_GROUP + number
            shapes.append(self._sdk.polygon(self._label_id(answer, number), outline.ring, **options))
        return shapes

    def _label_id(self, answer: Answer, number: int) -> int:
        return self._label_ids[answer.segments[number - 1].name]

    def _model(self, score: float | None) -> _CachedModel:
        if score not in self._models:
            self._models[score] = _CachedModel(self._weights, score, self._overrides, self._cache)
        return self._models[score]


class _CachedModel:
    """A model whose answers are kept in a folder of its own; it isn't loaded before an image is new."""

    def __init__(self, weights: str, score: float | None, overrides: list[str], cache: Path) -> None:
        from detr_d2.prepare.stuff.labellers import WeightsLabeller
        from detr_d2.prepare.stuff.model import AnswerFolder

        every_class = [] if score is None else ["MODEL.DETR.CLASS_SCORE_THRESHOLDS", "[]"]
        self._labeller = WeightsLabeller(weights, score, [*overrides, *every_class])
        self.categories = self._labeller.categories
        self._answers: AnswerFolder = AnswerFolder(cache / self._labeller.identity)
        self._label: Callable[[np.ndarray], Answer] | None = None

    def __call__(self, image: Image.Image) -> Answer:
        from detr_d2.prediction.images import as_rgb

        pixels, _ = as_rgb(image)
        path = self._answers.path_of(pixels)
        if path.is_file():
            try:
                return self._answers.get(path)
            except DatasetError:
                logger.warning("The kept result %s is damaged; it is made again.", path)
        self._label = self._label or self._labeller.open()
        answer = self._label(pixels)
        self._answers.put(path, answer)
        return answer


def _score(answer: Answer, number: int) -> dict[str, float]:
    score = answer.segments[number - 1].score
    return {} if score is None else {"score": score}


def _renamed(ours: list[str], names: str) -> dict[str, str]:
    """Each class as the task calls it."""
    theirs = {name: name for name in ours}
    for pair in filter(None, (pair.strip() for pair in names.split(","))):
        name, equals, other = (part.strip() for part in pair.partition("="))
        if not equals or not other or name not in theirs:
            raise ConfigError(
                f"names has {pair!r}; write ours=theirs, ours=theirs, where ours is one of {', '.join(ours)}."
            )
        theirs[name] = other
    if len(set(theirs.values())) < len(theirs):
        raise ConfigError("names gives two classes one name; CVAT tells labels apart by their names.")
    return theirs


def _default_cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "detr_d2" / "cvat"


def _auto_annotation() -> Any:
    try:
        import cvat_sdk.auto_annotation as sdk
        import cvat_sdk.masks  # noqa: F401  needs numpy 2
    except ImportError as error:
        raise ConfigError(f"CVAT's package is missing ({error}). Install it: pip install 'detr_d2[cvat]'") from error
    return sdk
