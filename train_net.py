#!/usr/bin/env python
"""Train DETR, or evaluate it, as every Detectron2 project does.

python train_net.py --config-file configs/detr_R50.yaml --num-gpus 1
python train_net.py --config-file configs/detr_panoptic_R50.yaml MODEL.WEIGHTS output/detr_R50/model_final.pth
python train_net.py --config-file configs/detr_panoptic_R50.yaml --eval-only MODEL.WEIGHTS model_final.pth
"""

from __future__ import annotations

import argparse
import os
import sys
import weakref
from collections.abc import Iterable
from contextlib import nullcontext
from typing import Any

import torch
from torch import nn

import detr_d2  # noqa: F401  # isort: skip  # chooses the detectron2 that the next lines import
from detr_d2.checkpoint import DetrCheckpointer
from detr_d2.config import load_config
from detr_d2.data import TrainLoader, build_train_loader
from detr_d2.errors import run_command
from detr_d2.evaluation import build_evaluator
from detr_d2.evaluation.report import write_reports
from detr_d2.solver import build_optimizer
from detr_d2.training.accumulation import accumulated_steps
from detr_d2.training.averaging import AveragedWeights
from detr_d2.training.divergence import StepGuard
from detr_d2.training.evaluators import build_test_mapper, training_evaluators, with_validation_loss
from detr_d2.training.launching import explaining_exhaustion, launch_training
from detr_d2.training.model_selection import EarlyStop
from detr_d2.training.output_folder import locking_output_folder, log_errors_of_users_plainly, naming_output_folder
from detr_d2.training.setup import add_training_hooks, before_evaluation, check_before_start, storing_finite_results
from detr_d2.training.stopping import ExactResume, StopOnSignal

from detectron2.config import CfgNode
from detectron2.data import build_detection_test_loader
from detectron2.engine import DefaultTrainer, HookBase, default_argument_parser, default_setup
from detectron2.evaluation import DatasetEvaluators, verify_results
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger


class Trainer(DefaultTrainer):
    """Detectron2's trainer with this project's mapper, optimizer, evaluators, checkpoints and early stopping."""

    def build_hooks(self) -> list[HookBase | None]:
        # Before the hooks, as they keep the checkpointer they find.
        self.checkpointer = DetrCheckpointer(
            self.model,
            self.cfg.OUTPUT_DIR,
            fine_tune=True,
            keep=self.cfg.SOLVER.CHECKPOINT_KEEP,
            trainer=weakref.proxy(self),
        )
        self._stop = StopOnSignal()
        built = storing_finite_results(super().build_hooks(), self.cfg.TEST.EVAL_PERIOD, self.evaluate)
        built = before_evaluation(built, self._stop)
        self.guard = StepGuard(self.cfg, self.model)
        self._accumulated = accumulated_steps(self.cfg, self)
        self._average = AveragedWeights(self.cfg, self.model) if self.cfg.MODEL_EMA.ENABLED else None
        built = add_training_hooks(built, self.cfg, self.model, self._average)
        return [ExactResume(self.data_loader), *built, self.guard]

    def evaluate(self) -> dict[str, Any]:
        """Evaluate the model as it is now; the hooks behind the evaluation look at the results."""
        with self._stop.evaluating():
            self._last_eval_results: dict[str, Any] = self.test(self.cfg, self.model)
            if self._average is not None:
                self._last_eval_results |= self._average.evaluated(self.cfg, self.test)
        return self._last_eval_results

    def train(self) -> Any:
        try:
            return super().train()
        except EarlyStop:  # the last evaluation is the final one
            if comm.is_main_process():
                verify_results(self.cfg, self._last_eval_results)
            return self._last_eval_results

    def run_step(self) -> None:
        """As Detectron2's; a step whose losses aren't finite ends the training, or is left out."""
        self.guard.take(super().run_step if self._accumulated is None else self._accumulated.take)

    @classmethod
    def build_train_loader(cls, cfg: CfgNode) -> TrainLoader:
        return build_train_loader(cfg)

    @classmethod
    def build_test_loader(cls, cfg: CfgNode, dataset_name: str) -> Iterable[Any]:
        return build_detection_test_loader(cfg, dataset_name, mapper=build_test_mapper(cfg, dataset_name))

    @classmethod
    def build_optimizer(cls, cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
        return build_optimizer(cfg, model)

    @classmethod
    def build_evaluator(cls, cfg: CfgNode, dataset_name: str, output_folder: str | None = None) -> DatasetEvaluators:
        folder = output_folder or os.path.join(cfg.OUTPUT_DIR, "inference", dataset_name)
        return DatasetEvaluators([build_evaluator(cfg, dataset_name, folder), *training_evaluators(cfg, dataset_name)])

    @classmethod
    def test(cls, cfg: CfgNode, model: nn.Module, evaluators: Any = None) -> dict[str, Any]:
        """As Detectron2's, and its own evaluators measure the validation loss in the same forward passes."""
        if evaluators is None:
            own = {name: cls.build_evaluator(cfg, name) for name in cfg.DATASETS.TEST}
            model, evaluators = with_validation_loss(cfg, model, own)
        results: dict[str, Any] = super().test(cfg, model, evaluators)
        return results


def setup(cfg: CfgNode, args: argparse.Namespace, warnings: Iterable[str]) -> None:
    """Start logging, with what the checks before had to say."""
    default_setup(cfg, args)
    log_errors_of_users_plainly()
    logger = setup_logger(
        output=cfg.OUTPUT_DIR, distributed_rank=comm.get_rank(), name="detr_d2", abbrev_name="detr_d2"
    )
    for line in warnings:
        logger.warning(line)


def main(args: argparse.Namespace) -> dict[str, Any] | None:
    cfg = load_config(args.config_file, args.opts)
    cfg.freeze()
    # Before the output folder is made: a mistake found here leaves nothing behind.
    warnings = check_before_start(cfg, args.eval_only, args.resume)
    locking = locking_output_folder(cfg.OUTPUT_DIR) if comm.is_main_process() else nullcontext()
    exhaustion = explaining_exhaustion(None if args.eval_only else cfg)
    with naming_output_folder(cfg.OUTPUT_DIR), locking, exhaustion:
        setup(cfg, args, warnings)
        return run(cfg, args)


def run(cfg: CfgNode, args: argparse.Namespace) -> dict[str, Any] | None:
    """Evaluate or train."""
    if args.eval_only:
        model = Trainer.build_model(cfg)
        DetrCheckpointer(model, save_dir=cfg.OUTPUT_DIR).resume_or_load(cfg.MODEL.WEIGHTS, resume=args.resume)
        results: dict[str, Any] = Trainer.test(cfg, model)
        if comm.is_main_process():
            write_reports(cfg.OUTPUT_DIR, cfg.DATASETS.TEST)
            verify_results(cfg, results)
        return results
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=args.resume)
    return trainer.train()  # type: ignore[no-any-return]


def invoke_main() -> int:
    launch_training(main, default_argument_parser(epilog=__doc__).parse_args())
    return 0


if __name__ == "__main__":
    sys.exit(run_command(invoke_main))
