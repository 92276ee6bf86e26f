"""Reading weights of several origins, and keeping in our own what the model is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import lazy_names

if TYPE_CHECKING:
    from .categories import model_categories
    from .checkpointer import DetrCheckpointer, guard_loading
    from .model_file import config_of, load_model
    from .names import PUBLISHED_WEIGHTS, convert_names
    from .paths import register_short_names
    from .reading import WeightsFile, read_weights
    from .recipe import model_recipe

__all__ = [
    "PUBLISHED_WEIGHTS",
    "DetrCheckpointer",
    "WeightsFile",
    "config_of",
    "convert_names",
    "guard_loading",
    "load_model",
    "model_categories",
    "model_recipe",
    "read_weights",
    "register_short_names",
]

__getattr__ = lazy_names(
    __name__,
    {
        "categories": ("model_categories",),
        "checkpointer": ("DetrCheckpointer", "guard_loading"),
        "model_file": ("config_of", "load_model"),
        "names": ("PUBLISHED_WEIGHTS", "convert_names"),
        "paths": ("register_short_names",),
        "reading": ("WeightsFile", "read_weights"),
        "recipe": ("model_recipe",),
    },
)
