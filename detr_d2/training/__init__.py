"""What happens around the steps of a training: validation loss, the best checkpoint, early stopping, pictures."""

from __future__ import annotations

from detr_d2.training.early_stopping import EarlyStop
from detr_d2.training.setup import (
    add_training_hooks,
    build_test_mapper,
    check_training,
    training_evaluators,
    with_validation_loss,
)

__all__ = [
    "EarlyStop",
    "add_training_hooks",
    "build_test_mapper",
    "check_training",
    "training_evaluators",
    "with_validation_loss",
]
