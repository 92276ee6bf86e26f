"""What happens around the steps of a training: validation loss, the best checkpoint, early stopping, images."""

from __future__ import annotations

from typing import TYPE_CHECKING

from detr_d2.lazy import lazy_names

if TYPE_CHECKING:
    from detr_d2.training.accumulation import accumulated_steps
    from detr_d2.training.averaging import AveragedWeights
    from detr_d2.training.divergence import StepGuard
    from detr_d2.training.launching import explaining_exhaustion, launch_training
    from detr_d2.training.model_selection import EarlyStop
    from detr_d2.training.output_folder import locking_output_folder, log_errors_of_users_plainly, naming_output_folder
    from detr_d2.training.resuming import ExactResume
    from detr_d2.training.setup import (
        add_training_hooks,
        before_evaluation,
        build_test_mapper,
        check_before_start,
        check_training,
        storing_finite_results,
        training_evaluators,
        with_validation_loss,
    )
    from detr_d2.training.stopping import StopOnSignal

__all__ = [
    "AveragedWeights",
    "EarlyStop",
    "ExactResume",
    "StepGuard",
    "StopOnSignal",
    "accumulated_steps",
    "add_training_hooks",
    "before_evaluation",
    "build_test_mapper",
    "check_before_start",
    "check_training",
    "explaining_exhaustion",
    "launch_training",
    "locking_output_folder",
    "log_errors_of_users_plainly",
    "naming_output_folder",
    "storing_finite_results",
    "training_evaluators",
    "with_validation_loss",
]

__getattr__ = lazy_names(
    __name__,
    {
        "accumulation": ("accumulated_steps",),
        "averaging": ("AveragedWeights",),
        "divergence": ("StepGuard",),
        "launching": ("explaining_exhaustion", "launch_training"),
        "model_selection": ("EarlyStop",),
        "output_folder": ("locking_output_folder", "log_errors_of_users_plainly", "naming_output_folder"),
        "resuming": ("ExactResume",),
        "setup": (
            *("add_training_hooks", "before_evaluation", "build_test_mapper", "check_before_start", "check_training"),
            *("storing_finite_results", "training_evaluators", "with_validation_loss"),
        ),
        "stopping": ("StopOnSignal",),
    },
)
