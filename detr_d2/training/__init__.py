"""What happens around the steps of a training: validation loss, the best checkpoint, early stopping, pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from detr_d2.lazy import lazy_names

if TYPE_CHECKING:
    from detr_d2.training.early_stopping import EarlyStop
    from detr_d2.training.setup import add_training_hooks, build_test_mapper, check_training, training_evaluators

__all__ = ["EarlyStop", "add_training_hooks", "build_test_mapper", "check_training", "training_evaluators"]

__getattr__ = lazy_names(
    __name__,
    {
        "early_stopping": ("EarlyStop",),
        "setup": ("add_training_hooks", "build_test_mapper", "check_training", "training_evaluators"),
    },
)
