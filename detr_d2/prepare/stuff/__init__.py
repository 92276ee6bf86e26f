"""The rest of an image, which people didn't label: void, one class, masks from elsewhere, or what a model says."""

from __future__ import annotations

from collections.abc import Sequence

import detr_d2
from detr_d2.errors import ConfigError

from ..options import StuffSettings
from .labellers import FunctionLabeller, WeightsLabeller, is_function
from .model import Labeller, ModelStuff
from .policies import MaskStuff, MiscStuff, NoStuff, StuffPolicy

__all__ = ["StuffPolicy", "StuffSettings", "build_policy"]

#: Of a panoptic model's masks, which are at a quarter of the image's size and blurred by one more pixel there.
_MODEL_MARGIN = 5

_WAYS = "none, misc, 'masks DIR', 'model WEIGHTS' or 'model module:function'"


def build_policy(words: Sequence[str], settings: StuffSettings | None = None) -> StuffPolicy:
    """The policy that ``--stuff`` names.

    Args:
        words: ``["none"]``, ``["misc"]``, ``["masks", DIR]``, ``["model", WEIGHTS]`` with what ``MODEL.WEIGHTS`` takes,
            or ``["model", "module:function"]``, see :mod:`detr_d2.prepare.stuff.labellers`.
        settings: the choices beside it.

    Raises:
        ConfigError: there is no such way, or a word is missing or too many.
        MissingFileError: a folder or a file isn't there.
        WeightsError: the weights aren't those of a panoptic model whose classes have names.
    """
    settings = settings or StuffSettings()
    way, *rest = words or ("",)
    if way not in ("none", "misc", "masks", "model"):
        raise ConfigError(f"--stuff {' '.join(words)}: allowed are {_WAYS}.")
    wanted = {"masks": "a folder", "model": "weights or module:function"}.get(way)
    if len(rest) != (wanted is not None):
        what = f"needs {wanted} and nothing else" if wanted else "takes nothing behind it"
        raise ConfigError(f"--stuff {' '.join(words)}: '{way}' {what}; allowed are {_WAYS}.")
    margin = (_MODEL_MARGIN if way == "model" else 0) if settings.margin is None else settings.margin
    policy = _policy(way, rest, margin, settings)
    policy.asked_for = _in_words(words, margin, settings)
    return policy


def _policy(way: str, rest: Sequence[str], margin: int, settings: StuffSettings) -> StuffPolicy:
    if way == "none":
        return NoStuff()
    if way == "misc":
        return MiscStuff(margin)
    if way == "masks":
        return MaskStuff(rest[0], settings)
    return ModelStuff(_find_labeller(rest[0], settings), margin, settings)


def _in_words(words: Sequence[str], margin: int, settings: StuffSettings) -> str:
    """The way and what is chosen beside it, such as "masks stuff/, margin 2, classes super, things misc"."""
    chosen = [f"margin {margin}"] if words[0] != "none" else []
    if words[0] in ("masks", "model"):
        chosen += [f"classes {settings.classes}", f"things {settings.things}"]
    if settings.score is not None and words[0] == "model":
        chosen.append(f"score {settings.score:g}")
    return ", ".join([" ".join(words), *chosen])


def _find_labeller(what: str, settings: StuffSettings) -> Labeller:
    detr_d2.register_all()  # a function, too, may count on it
    if not is_function(what):
        return WeightsLabeller(what, settings.score, settings.overrides)
    if settings.overrides:
        raise ConfigError(f"--stuff model {what} is a function; {' '.join(settings.overrides)} would change a config.")
    return FunctionLabeller(what)
