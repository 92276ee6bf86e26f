"""Reading weights of several origins, and keeping in our own what the model is."""

from .categories import model_categories
from .checkpointer import DetrCheckpointer
from .model_file import config_of, load_model
from .names import PUBLISHED_WEIGHTS, convert_names
from .reading import WeightsFile, read_weights
from .recipe import model_recipe
from .short_names import register_short_names
from .state_dict import guard_loading

register_short_names()

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
]
