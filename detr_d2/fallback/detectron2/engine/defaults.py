"""An independently written subset of Detectron2's API; not Detectron2. Training and prediction from a config."""

from __future__ import annotations

import importlib.util
import logging
import math
import os
import time
import weakref
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from detr_d2.errors import ConfigError

from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog, build_detection_test_loader, build_detection_train_loader
from detectron2.data import transforms as T
from detectron2.evaluation import DatasetEvaluator, inference_on_dataset, print_csv_format, verify_results
from detectron2.modeling import build_model
from detectron2.solver import build_lr_scheduler
from detectron2.utils import comm
from detectron2.utils.events import CommonMetricPrinter, EventStorage, EventWriter, JSONWriter, TensorboardXWriter
from detectron2.utils.file_io import PathManager
from detectron2.utils.logger import setup_logger

from . import hooks
from .hooks import HookBase

logger = logging.getLogger(__name__)


class DefaultPredictor:
    """A model with ``cfg.MODEL.WEIGHTS`` that takes one picture and returns its result."""

    def __init__(self, cfg: CfgNode) -> None:
        self.cfg = cfg.clone()
        self.model = build_model(self.cfg).eval()
        if len(cfg.DATASETS.TEST):
            self.metadata = MetadataCatalog.get(cfg.DATASETS.TEST[0])
        DetectionCheckpointer(self.model).load(cfg.MODEL.WEIGHTS)
        self.aug = T.ResizeShortestEdge([cfg.INPUT.MIN_SIZE_TEST] * 2, cfg.INPUT.MAX_SIZE_TEST)
        if cfg.INPUT.FORMAT not in ("RGB", "BGR"):
            raise ConfigError(f"INPUT.FORMAT is '{cfg.INPUT.FORMAT}'; allowed are RGB and BGR.")

    @torch.no_grad()
    def __call__(self, original_image: np.ndarray) -> dict[str, Any]:
        """``original_image``: (H, W, 3) in 0..255, BGR whatever ``cfg.INPUT.FORMAT`` is."""
        if self.cfg.INPUT.FORMAT == "RGB":
            original_image = original_image[:, :, ::-1]
        height, width = original_image.shape[:2]
        image = self.aug.get_transform(original_image).apply_image(original_image)
        tensor = torch.as_tensor(np.ascontiguousarray(image.transpose(2, 0, 1), dtype=np.float32))
        return self.model([{"image": tensor.to(self.cfg.MODEL.DEVICE), "height": height, "width": width}])[0]


class DefaultTrainer:
    """A training as ``cfg`` describes it; override a ``build_*`` to change a part."""

    def __init__(self, cfg: CfgNode) -> None:
        if not logging.getLogger("detectron2").isEnabledFor(logging.INFO):
            setup_logger()
        if cfg.TEST.PRECISE_BN.ENABLED or cfg.SOLVER.REFERENCE_WORLD_SIZE not in (0, comm.get_world_size()):
            raise ConfigError("TEST.PRECISE_BN.ENABLED and SOLVER.REFERENCE_WORLD_SIZE need an installed Detectron2.")
        if cfg.SOLVER.AMP.ENABLED and not torch.cuda.is_available():
            raise ConfigError("SOLVER.AMP.ENABLED needs a GPU, and PyTorch finds none; set SOLVER.AMP.ENABLED False.")
        model = self.build_model(cfg)
        optimizer = self.build_optimizer(cfg, model)
        data_loader = self.build_train_loader(cfg)
        if comm.get_world_size() > 1:
            ids = [comm.get_local_rank()] if next(model.parameters()).is_cuda else None
            model = DistributedDataParallel(model, device_ids=ids, broadcast_buffers=False)
        self.model, self.data_loader, self.optimizer = model.train(), data_loader, optimizer
        self.grad_scaler = torch.amp.GradScaler(enabled=cfg.SOLVER.AMP.ENABLED)
        self._iterator: Iterator[Any] | None = None
        self._hooks: list[Any] = []
        self.iter = self.start_iter = 0
        self.scheduler = self.build_lr_scheduler(cfg, optimizer)
        self.checkpointer = DetectionCheckpointer(model, cfg.OUTPUT_DIR, trainer=weakref.proxy(self))
        self.max_iter, self.cfg = cfg.SOLVER.MAX_ITER, cfg
        self.register_hooks(self.build_hooks())

    def resume_or_load(self, resume: bool = True) -> None:
        """Go on from ``OUTPUT_DIR``'s last checkpoint if ``resume`` and there is one; else load ``MODEL.WEIGHTS``."""
        self.checkpointer.resume_or_load(self.cfg.MODEL.WEIGHTS, resume=resume)
        if resume and self.checkpointer.has_checkpoint():
            self.start_iter = self.iter + 1

    def build_hooks(self) -> list[HookBase | None]:
        """Timer, schedule, checkpoints, evaluation, writers: each may use what those before it did."""

        def test_and_keep_results() -> Any:
            self._last_eval_results = self.test(self.cfg, self.model)
            return self._last_eval_results

        evaluation = hooks.EvalHook(self.cfg.TEST.EVAL_PERIOD, test_and_keep_results)
        if not comm.is_main_process():
            return [hooks.IterationTimer(), hooks.LRScheduler(), evaluation]
        checkpoints = hooks.PeriodicCheckpointer(self.checkpointer, self.cfg.SOLVER.CHECKPOINT_PERIOD)
        writers = hooks.PeriodicWriter(self.build_writers())
        return [hooks.IterationTimer(), hooks.LRScheduler(), checkpoints, evaluation, writers]

    def build_writers(self) -> list[EventWriter]:
        """The log, ``metrics.json``, and TensorBoard's events where it is installed."""
        folder = self.cfg.OUTPUT_DIR
        PathManager.mkdirs(folder)
        writers = [CommonMetricPrinter(self.max_iter), JSONWriter(os.path.join(folder, "metrics.json"))]
        return [*writers, TensorboardXWriter(folder)] if importlib.util.find_spec("tensorboard") else writers

    def register_hooks(self, added: Sequence[HookBase | None]) -> None:
        self._hooks += filter(None, added)
        for hook in self._hooks:
            hook.trainer = weakref.proxy(self)

    def train(self) -> Any:
        """Train to ``max_iter``; return the last results where ``TEST.EXPECTED_RESULTS`` asks to verify them."""
        logger.info(f"Starting training from iteration {self.start_iter}")
        with EventStorage(self.start_iter) as self.storage:
            try:
                self.iter = self.start_iter
                self._call_hooks("before_train")
                while self.iter < self.max_iter:
                    self.storage.iter = self.iter
                    self._call_hooks("before_step")
                    self.run_step()
                    self._call_hooks("after_step")
                    self.iter += 1
            except Exception:
                logger.exception("Exception during training:")
                raise
            finally:
                self.storage.iter = self.iter
                self._call_hooks("after_train")
        if not self.cfg.TEST.EXPECTED_RESULTS or not comm.is_main_process():
            return None
        verify_results(self.cfg, self._last_eval_results)
        return self._last_eval_results

    def _call_hooks(self, moment: str) -> None:
        for hook in self._hooks:
            getattr(hook, moment)()

    def run_step(self) -> None:
        start = time.perf_counter()
        self._iterator = iter(self.data_loader) if self._iterator is None else self._iterator
        data = next(self._iterator)
        data_time = time.perf_counter() - start
        with torch.autocast("cuda", enabled=self.grad_scaler.is_enabled()):
            losses = self.model(data)
            losses = {"total_loss": losses} if isinstance(losses, Tensor) else losses
            total = sum(losses.values())
        self.optimizer.zero_grad()
        self.grad_scaler.scale(total).backward()
        self._write_metrics(losses, data_time)
        self.grad_scaler.step(self.optimizer)
        self.grad_scaler.update()

    def _write_metrics(self, losses: dict[str, Tensor], data_time: float) -> None:
        """Losses averaged over the processes, and the slowest one's wait for data; one transfer from the device."""
        self.storage.put_scalar("rank_data_time", data_time)
        numbers = torch.stack([loss.detach().float() for loss in losses.values()]).tolist()
        if not (gathered := comm.gather((data_time, numbers))):
            return
        means = [sum(column) / len(gathered) for column in zip(*(numbers for _, numbers in gathered))]
        metrics = dict(zip(losses, means))
        if not math.isfinite(total := sum(means)):
            raise FloatingPointError(f"Loss became infinite or NaN at iteration={self.iter}!\nloss_dict = {metrics}")
        self.storage.put_scalars(data_time=max(waited for waited, _ in gathered), total_loss=total)
        if len(metrics) > 1:
            self.storage.put_scalars(**metrics)

    def state_dict(self) -> dict[str, Any]:
        """The iteration, the states of the hooks by the names of their classes, and that of the step."""
        states = {type(hook).__qualname__: state for hook in reversed(self._hooks) if (state := hook.state_dict())}
        step = {"iteration": self.iter, "optimizer": self.optimizer.state_dict()}
        if self.grad_scaler.is_enabled():
            step["grad_scaler"] = self.grad_scaler.state_dict()
        return {"iteration": self.iter, "hooks": states, "_trainer": step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.iter, step = state_dict["iteration"], state_dict["_trainer"]
        self.optimizer.load_state_dict(step["optimizer"])
        if "grad_scaler" in step:
            self.grad_scaler.load_state_dict(step["grad_scaler"])
        for hook in self._hooks:
            if state := state_dict.get("hooks", {}).get(type(hook).__qualname__):
                hook.load_state_dict(state)

    @classmethod
    def build_model(cls, cfg: CfgNode) -> nn.Module:
        model = build_model(cfg)
        logger.info(f"Model:\n{model}")
        return model

    @classmethod
    def build_optimizer(cls, cfg: CfgNode, model: nn.Module) -> Optimizer:
        raise NotImplementedError("To train, override build_optimizer().")

    @classmethod
    def build_lr_scheduler(cls, cfg: CfgNode, optimizer: Optimizer) -> Any:
        return build_lr_scheduler(cfg, optimizer)

    @classmethod
    def build_train_loader(cls, cfg: CfgNode) -> Any:
        return build_detection_train_loader(cfg)

    @classmethod
    def build_test_loader(cls, cfg: CfgNode, dataset_name: str) -> Any:
        return build_detection_test_loader(cfg, dataset_name)

    @classmethod
    def build_evaluator(cls, cfg: CfgNode, dataset_name: str) -> DatasetEvaluator:
        raise NotImplementedError("To evaluate, override build_evaluator(), or give test() its evaluators.")

    @classmethod
    def test(cls, cfg: CfgNode, model: nn.Module, evaluators: Any = None) -> dict[str, Any]:
        """Results of the only one of ``cfg.DATASETS.TEST``, or of several by name; one evaluator for each."""
        results: dict[str, Any] = {}
        evaluators = [evaluators] if isinstance(evaluators, DatasetEvaluator) else evaluators
        for name, evaluator in zip(cfg.DATASETS.TEST, evaluators or [None] * len(cfg.DATASETS.TEST), strict=True):
            loader = cls.build_test_loader(cfg, name)
            results[name] = inference_on_dataset(model, loader, evaluator or cls.build_evaluator(cfg, name))
            if comm.is_main_process():
                logger.info(f"Evaluation results for {name} in csv format:")
                print_csv_format(results[name])
        return next(iter(results.values())) if len(results) == 1 else results
