"""Models that label whole pictures: this project's own from weights alone, or any function in Python.

A function is named ``module:function`` and is called with a picture, (H, W, 3) uint8 RGB. It returns ``ids, segments``:
``ids`` (H, W), whole numbers, of which those that no segment has are void; and for each segment a dict of

* ``id``: its number in ``ids``;
* ``name``: of its class, or ``category_id``: COCO's number of it;
* ``isthing``: optional; without it COCO's things are things and all else is stuff;
* ``score``: optional, 0 to 1; without it the segment is sure.

A function that knows stuff with names that COCO lacks lists them in an attribute ``stuff_classes``.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

import detr_d2

from ....errors import ConfigError, WeightsError
from ...categories import coco_categories
from .answers import Answer, AnsweredSegment

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
        """Loads the model; what comes back labels one picture, (H, W, 3) uint8 RGB."""


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
        self.identity = _digest([Path(file.path).read_bytes(), repr(options).encode()])

    def open(self) -> Callable[[np.ndarray], Answer]:
        """See :class:`Labeller`."""
        from detr_d2.prediction import DetrPredictor

        predictor = DetrPredictor(self._cfg)

        def label(pixels: np.ndarray) -> Answer:
            ids, segments = predictor(np.ascontiguousarray(pixels[:, :, ::-1]))["panoptic_seg"]
            named = [(segment, self._categories[segment["category_id"]]) for segment in segments]
            return _answer(
                ids.cpu().numpy(),
                [segment["id"] for segment, _ in named],
                [AnsweredSegment(c.name, c.is_thing, round(float(segment["score"]), 4)) for segment, c in named],
            )

        return label


class FunctionLabeller:
    """A function of the user's; see the module."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._function = _find_function(name)
        self.stuff_names = tuple(getattr(self._function, "stuff_classes", ()))
        source = inspect.getsourcefile(sys.modules[name.partition(":")[0]])
        content = Path(source).read_bytes() if source and os.path.isfile(source) else b""
        self.identity = _digest([name.encode(), content])

    def open(self) -> Callable[[np.ndarray], Answer]:
        """See :class:`Labeller`."""
        coco = {category.id: category for category in coco_categories()}

        def label(pixels: np.ndarray) -> Answer:
            ids, segments = self._checked(self._function(pixels), pixels.shape[:2])
            return _answer(ids, [one["id"] for one in segments], [self._segment(one, coco) for one in segments])

        return label

    def _checked(self, result: Any, size: tuple[int, ...]) -> tuple[np.ndarray, list[Mapping[str, Any]]]:
        if not isinstance(result, (tuple, list)) or len(result) != 2:
            raise ConfigError(f"{self._name} returned {type(result).__name__}; return ids, segments.")
        ids = result[0].detach().cpu().numpy() if hasattr(result[0], "detach") else np.asarray(result[0])
        if ids.shape != size or ids.dtype.kind not in "iu":
            raise ConfigError(
                f"{self._name} returned ids of shape {ids.shape}, {ids.dtype}; return whole numbers, {size}."
            )
        segments = list(result[1])
        for one in segments:
            if not isinstance(one, Mapping) or not isinstance(one.get("id"), (int, np.integer)):
                raise ConfigError(f"{self._name} returned the segment {one!r}; a segment is a dict with a whole 'id'.")
        return ids, segments

    def _segment(self, one: Mapping[str, Any], coco: Mapping[int, Any]) -> AnsweredSegment:
        category = coco.get(one.get("category_id", -1))
        name = one.get("name", category and category.name)
        is_thing = one.get("isthing", category.is_thing if category and "name" not in one else None)
        score = one.get("score")
        if not isinstance(name, str) or not name.strip():
            raise ConfigError(
                f"{self._name} returned a segment {dict(one)!r}; give it a 'name', or COCO's number as 'category_id'."
            )
        if score is not None and not 0 <= float(score) <= 1:
            raise ConfigError(f"{self._name} returned the score {score!r} for {name!r}; allowed are 0 to 1, or None.")
        return AnsweredSegment(
            name, None if is_thing is None else bool(is_thing), None if score is None else round(float(score), 4)
        )


def _find_function(name: str) -> Callable[[np.ndarray], Any]:
    module, _, attribute = name.partition(":")
    before = list(sys.path)
    sys.path.insert(0, os.getcwd())  # as 'python -m' has it; the command itself is a script elsewhere
    try:
        found: Any = importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"--stuff model {name}: there is no module {error.name!r} (looked in {os.getcwd()} and where Python "
            "looks). Run the command in its folder, or set PYTHONPATH."
        ) from error
    finally:
        sys.path[:] = before
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise ConfigError(f"--stuff model {name}: {module} has no {attribute!r}.")
        found = getattr(found, part)
    if not callable(found):
        raise ConfigError(f"--stuff model {name} is {type(found).__name__}, which can't be called with a picture.")
    return found  # type: ignore[no-any-return]


def _answer(ids: np.ndarray, numbers: Sequence[int], segments: Sequence[AnsweredSegment]) -> Answer:
    """Ids of any size as places; ids that no segment has are void, and so is a second segment of one id."""
    values, inverse = np.unique(ids, return_inverse=True)
    place_of = {int(number): place + 1 for place, number in reversed(list(enumerate(numbers)))}
    places = np.array([place_of.get(int(value), 0) for value in values], np.uint16)
    return Answer(places[inverse.reshape(ids.shape)], tuple(segments))


def _digest(parts: Iterable[bytes]) -> str:
    digest = hashlib.blake2b(digest_size=10)
    for part in parts:
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.hexdigest()
