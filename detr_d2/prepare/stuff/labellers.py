"""Models for ``--stuff model``: this project's own, from weights alone, or any function in Python.

A function is named ``module:function`` and is called with an image, (H, W, 3) uint8 RGB. It returns ``ids, segments``:
``ids`` (H, W), whole numbers, of which those that no segment has are void; and for each segment a dict of

* ``id``: its number in ``ids``;
* ``name``: of its class, or ``category_id``: COCO's number of it;
* ``isthing``: optional; without it COCO's things are things and all else is stuff;
* ``score``: optional, 0 to 1; without it 1.

A function that knows stuff with names that COCO lacks lists them in an attribute ``stuff_classes``; the files that its
answers depend on, such as weights, in an attribute ``files``.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from detr_d2.data.categories import coco_categories
from detr_d2.errors import ConfigError, UserError, WeightsError
from detr_d2.files import refuse_special

from .model import Answer, AnsweredSegment, answer_of, digest_of

_PACKAGE = Path(__file__).resolve().parents[3]
_INSTALLED = {"site-packages", "dist-packages"}
_NAME = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


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
        from detr_d2.checkpoint import config_of, read_weights  # loads torch and Detectron2, which only weights need
        from detr_d2.data.catalogs import categories_of

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
        """See :class:`~detr_d2.prepare.stuff.model.Labeller`."""
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


def _bytes_of(weights: Mapping[str, Any]) -> Iterator[bytes]:
    """Names and values of weights, which are tensors; they may have come from several files."""
    import torch

    for name, tensor in sorted(weights.items()):
        yield f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode()
        yield tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def is_function(what: str) -> bool:
    """Whether a name is ``module:function``, and no file."""
    return _NAME.fullmatch(what) is not None and not os.path.exists(what)


class FunctionLabeller:
    """A function of the user's, ``module:function``; see the module.

    Raises:
        ConfigError: there is no such module or function; its module raises an error; a file that it names isn't there.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._function = _imported_function(name)
        self.stuff_names = tuple(getattr(self._function, "stuff_classes", ()))
        sources = [file.read_bytes() for file in _source_files(sys.modules[name.partition(":")[0]])]
        self.identity = digest_of([name.encode(), *sources, *self._states()])

    def _states(self) -> Iterator[bytes]:
        """Path, size and time of the files that the function names."""
        files = getattr(self._function, "files", ())
        for file in [files] if isinstance(files, str | os.PathLike) else files:
            path = os.path.abspath(os.path.expanduser(file))
            refuse_special(path)
            try:
                state = os.stat(path)
            except OSError as error:
                raise ConfigError(
                    f"--stuff model {self._name}: it lists {path} in its attribute files, and that can't be read: "
                    f"{error.strerror}."
                ) from error
            yield f"{path}:{state.st_size}:{state.st_mtime_ns}".encode("utf-8", "surrogatepass")

    def open(self) -> Callable[[np.ndarray], Answer]:
        """See :class:`~detr_d2.prepare.stuff.model.Labeller`."""
        coco = {category.id: category for category in coco_categories()}

        def label(pixels: np.ndarray) -> Answer:
            with _blamed_on(f"--stuff model {self._name}"):
                result = self._function(pixels)
            with _blamed_on(f"reading what {self._name} returned as ids, segments", UserError):
                ids, segments = self._checked(result, pixels.shape[:2])
                return answer_of(ids, [one["id"] for one in segments], [self._segment(one, coco) for one in segments])

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


def _imported_function(name: str) -> Callable[[np.ndarray], Any]:
    module, _, attribute = name.partition(":")
    before = list(sys.path)
    sys.path.insert(0, os.getcwd())  # as 'python -m' has it; the command itself is a script elsewhere
    try:
        with _blamed_on(f"--stuff model {name}: importing {module}", UserError, ModuleNotFoundError):
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
        raise ConfigError(f"--stuff model {name} is {type(found).__name__}, which can't be called with an image.")
    return found  # type: ignore[no-any-return]


@contextmanager
def _blamed_on(what: str, *passed: type[Exception]) -> Iterator[None]:
    """Turns what the user's code raises into one sentence, with its line; errors that are ``passed`` say it all."""
    try:
        yield
    except passed:
        raise
    except (Exception, SystemExit) as error:
        text = " ".join(str(error).split())[:500]
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not _is_ours(frame.filename)]
        line = f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
        raise ConfigError(f"{what} raised {type(error).__name__}{f': {text}' if text else ''}{line}.") from error


def _is_ours(file: str) -> bool:
    """Whether a frame of a traceback says nothing of the user's code: it is ours, or of Python's import system."""
    return file in (__file__, importlib.__file__) or file.startswith("<frozen")


def _source_files(module: ModuleType) -> list[Path]:
    """The files of a module's code and of what it imported from the folder that it was found in: its helpers."""
    if not getattr(module, "__file__", None):
        return []
    file = Path(str(module.__file__)).resolve()
    first, *inner = module.__name__.split(".")
    top = file.parents[len(inner) + (file.stem == "__init__")]
    near = top / first if _INSTALLED.intersection(top.parts) else top
    found = {file}
    for other in list(sys.modules.values()):
        path = Path(str(getattr(other, "__file__", None) or "")).resolve()
        is_beside = path.is_relative_to(near) and not _INSTALLED.intersection(path.relative_to(top).parts)
        if is_beside and not path.is_relative_to(_PACKAGE) and path.is_file():
            found.add(path)
    return sorted(found)
