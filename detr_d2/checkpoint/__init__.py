"""Reading weights of several origins, and keeping the categories inside our own."""

from .categories import model_categories
from .checkpointer import DetrCheckpointer
from .names import PUBLISHED_WEIGHTS, convert_names

__all__ = ["PUBLISHED_WEIGHTS", "DetrCheckpointer", "convert_names", "model_categories"]
