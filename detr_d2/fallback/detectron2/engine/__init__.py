"""An independently written subset of Detectron2's API; not Detectron2. Training, its hooks, and prediction."""

from . import hooks
from .defaults import DefaultPredictor, DefaultTrainer, default_argument_parser, default_setup
from .launch import launch
from .train_loop import HookBase

__all__ = ["DefaultPredictor", "DefaultTrainer", "HookBase", "default_argument_parser", "default_setup"]
__all__ += ["hooks", "launch"]
