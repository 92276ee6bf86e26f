"""What happens around the steps of a training: validation loss, the best checkpoint, early stopping, pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from detr_d2.lazy import lazy_names

if TYPE_CHECKING:
    from detr_d2.training.before_start import check_before_start
    from detr_d2.training.early_stopping import EarlyStop
    from detr_d2.training.exhaustion import explaining_exhaustion
    from detr_d2.training.launching import launch_training
    from detr_d2.training.output_folder import log_errors_of_users_plainly, naming_output_folder
    from detr_d2.training.setup import (
        add_training_hooks,
        build_test_mapper,
        check_training,
        storing_finite_results,
        training_evaluators,
        with_validation_loss,
    )

__all__ = [
    "EarlyStop",
    "add_training_hooks",
    "build_test_mapper",
    "check_before_start",
    "check_training",
    "explaining_exhaustion",
    "launch_training",
    "log_errors_of_users_plainly",
    "naming_output_folder",
    "storing_finite_results",
    "training_evaluators",
    "with_validation_loss",
]

__getattr__ = lazy_names(
    __name__,
    {
        "before_start": ("check_before_start",),
        "early_stopping": ("EarlyStop",),
        "exhaustion": ("explaining_exhaustion",),
        "launching": ("launch_training",),
        "output_folder": ("log_errors_of_users_plainly", "naming_output_folder"),
        "setup": (
            *("add_training_hooks", "build_test_mapper", "check_training"),
            *("storing_finite_results", "training_evaluators", "with_validation_loss"),
        ),
    },
)
