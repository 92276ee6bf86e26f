"""An independently written subset of Detectron2's API; not Detectron2. Optimizers and learning rates from a config."""

from .build import build_lr_scheduler, build_optimizer

__all__ = ["build_lr_scheduler", "build_optimizer"]
