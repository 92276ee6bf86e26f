"""An independently written subset of Detectron2's API; not Detectron2. Training and prediction from a config."""

from __future__ import annotations

import argparse
import importlib.util
import logging
import os
import platform
import random
import sys
import weakref
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from detr_d2.errors import ConfigError

import detectron2
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog, build_detection_test_loader, build_detection_train_loader
from detectron2.data import transforms as T
from detectron2.evaluation import DatasetEvaluator, inference_on_dataset, print_csv_format, verify_results
from detectron2.modeling import build_model
from detectron2.solver import build_lr_scheduler, build_optimizer
from detectron2.utils import comm
from detectron2.utils.events import CommonMetricPrinter, EventWriter, JSONWriter, TensorboardXWriter
from detectron2.utils.file_io import PathManager
from detectron2.utils.logger import setup_logger

from . import hooks
from .train_loop import HookBase, SimpleTrainer, TrainerBase

logger = logging.getLogger(__name__)


def default_argument_parser(epilog: str | None = None) -> argparse.ArgumentParser:
    """The arguments that Detectron2's training scripts share."""
    example = f"example:\n  {sys.argv[0]} --config-file CONFIG.yaml --num-gpus 1 OUTPUT_DIR out SOLVER.BASE_LR 0.001"
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(epilog=epilog or example, formatter_class=formatter)
    parser.add_argument("--config-file", default="", metavar="FILE", help="path of the config, in yaml")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint in OUTPUT_DIR, if any")
    parser.add_argument("--eval-only", action="store_true", help="evaluate, don't train")
    parser.add_argument("--num-gpus", type=int, default=1, help="GPUs, or processes where there is none, per machine")
    parser.add_argument("--num-machines", type=int, default=1, help="number of machines")
    parser.add_argument("--machine-rank", type=int, default=0, help="number of this machine, from 0")
    # A port of one's own: several users of a machine don't meet, and a left-over process is noticed.
    port = 2**15 + 2**14 + hash(os.getuid() if sys.platform != "win32" else 1) % 2**14
    url = f"tcp://127.0.0.1:{port}"
    parser.add_argument(
        "--dist-url", default=url, help="where processes meet; 'auto' is a free port (default: %(default)s)"
    )
    parser.add_argument("opts", default=None, nargs=argparse.REMAINDER, help="changes to the config: KEY VALUE ...")
    return parser


def default_setup(cfg: CfgNode, args: argparse.Namespace) -> None:
    """Log to ``cfg.OUTPUT_DIR``, save the config there as ``config.yaml``, and seed all random numbers."""
    rank = comm.get_rank()
    if comm.is_main_process():
        PathManager.mkdirs(cfg.OUTPUT_DIR)
    setup_logger(cfg.OUTPUT_DIR, distributed_rank=rank, name="fvcore")
    log = setup_logger(cfg.OUTPUT_DIR, distributed_rank=rank)
    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    versions = f"Python {platform.python_version()}, PyTorch {torch.__version__}, detectron2 {detectron2.__version__}"
    log.info(f"Rank of current process: {rank}. World size: {comm.get_world_size()}")
    log.info(f"Environment info: {versions}, {os.cpu_count()} CPU cores, GPUs: {', '.join(gpus) or 'none'}")
    log.info(f"Command line arguments: {args}\nRunning with full config:\n{cfg.dump()}")
    if comm.is_main_process():
        with PathManager.open(path := os.path.join(cfg.OUTPUT_DIR, "config.yaml"), "w") as file:
            file.write(cfg.dump())
        log.info(f"Full config saved to {path}")
    seed = int.from_bytes(os.urandom(4), "big") if cfg.SEED < 0 else cfg.SEED + rank
    for set_seed in (random.seed, np.random.seed, torch.manual_seed):
        set_seed(seed)
    os.environ["PYTHONHASHSEED"] = str(seed)
    if not getattr(args, "eval_only", False):
        torch.backends.cudnn.benchmark = cfg.CUDNN_BENCHMARK
    if cfg.FLOAT32_PRECISION and torch.cuda.is_available():
        torch.set_float32_matmul_precision(cfg.FLOAT32_PRECISION)
        torch.backends.cudnn.allow_tf32 = cfg.FLOAT32_PRECISION != "highest"


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


class DefaultTrainer(TrainerBase):
    """A training as ``cfg`` describes it; override a ``build_*`` to change a part.

    Attributes:
        model, data_loader, optimizer, scheduler, checkpointer, cfg: its parts.
    """

    def __init__(self, cfg: CfgNode) -> None:
        super().__init__()
        if not logging.getLogger("detectron2").isEnabledFor(logging.INFO):
            setup_logger()
        cfg = self.auto_scale_workers(cfg, comm.get_world_size())
        model = self.build_model(cfg)
        optimizer = self.build_optimizer(cfg, model)
        data_loader = self.build_train_loader(cfg)
        if comm.get_world_size() > 1:
            ids = [comm.get_local_rank()] if next(model.parameters()).is_cuda else None
            model = DistributedDataParallel(model, device_ids=ids, broadcast_buffers=False)
        self._trainer = SimpleTrainer(model, data_loader, optimizer, cfg.SOLVER.AMP.ENABLED)
        self.model, self.data_loader, self.optimizer = model, data_loader, optimizer
        self.scheduler = self.build_lr_scheduler(cfg, optimizer)
        self.checkpointer = DetectionCheckpointer(model, cfg.OUTPUT_DIR, trainer=weakref.proxy(self))
        self.max_iter = cfg.SOLVER.MAX_ITER
        self.cfg = cfg
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

        if self.cfg.TEST.PRECISE_BN.ENABLED:
            raise ConfigError("TEST.PRECISE_BN needs an installed Detectron2; set TEST.PRECISE_BN.ENABLED False.")
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

    def train(self) -> Any:  # type: ignore[override]
        """Train to the end; the last results where ``TEST.EXPECTED_RESULTS`` asks to verify them."""
        super().train(self.start_iter, self.max_iter)
        if not self.cfg.TEST.EXPECTED_RESULTS or not comm.is_main_process():
            return None
        verify_results(self.cfg, self._last_eval_results)
        return self._last_eval_results

    def run_step(self) -> None:
        self._trainer.iter = self.iter
        self._trainer.run_step()

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "_trainer": self._trainer.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self._trainer.load_state_dict(state_dict["_trainer"])

    @classmethod
    def build_model(cls, cfg: CfgNode) -> nn.Module:
        model = build_model(cfg)
        logger.info(f"Model:\n{model}")
        return model

    @classmethod
    def build_optimizer(cls, cfg: CfgNode, model: nn.Module) -> Optimizer:
        return build_optimizer(cfg, model)

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
            try:
                evaluator = evaluator or cls.build_evaluator(cfg, name)
            except NotImplementedError as error:
                logger.warning(f"{name} isn't evaluated. {error}")
                results[name] = {}
                continue
            results[name] = inference_on_dataset(model, loader, evaluator)
            if comm.is_main_process():
                logger.info(f"Evaluation results for {name} in csv format:")
                print_csv_format(results[name])
        return next(iter(results.values())) if len(results) == 1 else results

    @staticmethod
    def auto_scale_workers(cfg: CfgNode, num_workers: int) -> CfgNode:
        """``cfg``, made for ``SOLVER.REFERENCE_WORLD_SIZE`` processes (0: any), with batch and rate for this many."""
        reference = cfg.SOLVER.REFERENCE_WORLD_SIZE
        if reference in (0, num_workers):
            return cfg
        was_frozen, cfg = cfg.is_frozen(), cfg.clone()
        cfg.defrost()
        solver, scale = cfg.SOLVER, num_workers / reference
        if solver.IMS_PER_BATCH % reference:
            raise ConfigError(f"SOLVER.IMS_PER_BATCH isn't a multiple of SOLVER.REFERENCE_WORLD_SIZE, {reference}.")
        solver.IMS_PER_BATCH = round(solver.IMS_PER_BATCH * scale)
        solver.BASE_LR *= scale
        solver.STEPS = tuple(round(step / scale) for step in solver.STEPS)
        periods = [(solver, "MAX_ITER"), (solver, "WARMUP_ITERS"), (solver, "CHECKPOINT_PERIOD")]
        for node, key in [*periods, (cfg.TEST, "EVAL_PERIOD")]:
            node[key] = round(node[key] / scale)
        solver.REFERENCE_WORLD_SIZE = num_workers
        logger.info(f"Scaled SOLVER to {num_workers} processes:\n{solver}")
        if was_frozen:
            cfg.freeze()
        return cfg
