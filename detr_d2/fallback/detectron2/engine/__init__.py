"""An independently written subset of Detectron2's API; not Detectron2. Training, its hooks, and prediction."""

from .defaults import DefaultPredictor, DefaultTrainer
from .hooks import HookBase
from .startup import default_argument_parser, default_setup, launch

__all__ = ["DefaultPredictor", "DefaultTrainer", "HookBase", "default_argument_parser", "default_setup", "launch"]
