"""An independently written subset of Detectron2's API; not Detectron2. Training, its hooks, and prediction."""

from .defaults import DefaultPredictor, DefaultTrainer, default_argument_parser, default_setup, launch
from .hooks import HookBase

__all__ = ["DefaultPredictor", "DefaultTrainer", "HookBase", "default_argument_parser", "default_setup", "launch"]
