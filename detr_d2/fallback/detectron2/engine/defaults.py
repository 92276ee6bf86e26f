"""An independently written subset of Detectron2's API; not Detectron2. Training and prediction from a config."""

from __future__ import annotations

import argparse
import importlib.util
import logging
import math
import os
import platform
import random
import socket
import sys
import time
import weakref
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from detr_d2.errors import ConfigError

import detectron2
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
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
    """A model with ``cfg.MODEL.WEIGHTS`` that takes one image and returns its result."""

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
        """``original_image``: (H, W, 3) uint8, BGR whatever ``cfg.INPUT.FORMAT`` is."""
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
        raise NotImplementedError("To train, override build_train_loader(): there is no default mapper.")

    @classmethod
    def build_test_loader(cls, cfg: CfgNode, dataset_name: str) -> Any:
        raise NotImplementedError("To evaluate, override build_test_loader(): there is no default mapper.")

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


def default_argument_parser(epilog: str | None = None) -> argparse.ArgumentParser:
    """The arguments that Detectron2's training scripts share."""
    example = f"example:\n  {sys.argv[0]} --config-file CONFIG.yaml --num-gpus 1 OUTPUT_DIR out SOLVER.BASE_LR 0.001"
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(epilog=epilog or example, formatter_class=formatter)
    # A port of one's own: several users of a machine don't meet, and a left-over process is noticed.
    port = 2**15 + 2**14 + hash(os.getuid() if sys.platform != "win32" else 1) % 2**14
    url, meeting = f"tcp://127.0.0.1:{port}", "where processes meet; 'auto' is a free port (default: %(default)s)"
    parser.add_argument("--config-file", default="", metavar="FILE", help="path of the config, in yaml")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint in OUTPUT_DIR, if any")
    parser.add_argument("--eval-only", action="store_true", help="evaluate, don't train")
    parser.add_argument("--num-gpus", type=int, default=1, help="GPUs, or processes where there is none, per machine")
    parser.add_argument("--num-machines", type=int, default=1, help="number of machines")
    parser.add_argument("--machine-rank", type=int, default=0, help="number of this machine, from 0")
    parser.add_argument("--dist-url", default=url, help=meeting)
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


def launch(
    main_func: Any,
    num_gpus_per_machine: int,
    num_machines: int = 1,
    machine_rank: int = 0,
    dist_url: str = "",
    args: Any = (),
) -> None:
    """Run ``main_func(*args)`` here, or in that many spawned processes, which share the CPU where there is no GPU.

    They meet at ``dist_url``; "auto" is a free port of this machine. Call it on every machine.
    """
    count, world_size = num_gpus_per_machine, num_machines * num_gpus_per_machine
    if world_size <= 1:
        main_func(*args)
        return
    if dist_url == "auto":
        if num_machines > 1:
            raise ConfigError("--dist-url auto is for one machine; give an address that all reach: tcp://HOST:PORT.")
        with socket.create_server(("127.0.0.1", 0)) as free:
            dist_url = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    if 0 < (gpus := torch.cuda.device_count()) < count:
        raise ConfigError(f"--num-gpus is {count}, and there are {gpus} on this machine; set it to {gpus}.")
    meeting = {"init_method": dist_url, "world_size": world_size, "timeout": timedelta(minutes=30)}
    mp.start_processes(_worker, (count, machine_rank * count, meeting, main_func, args), count, daemon=False)


def _worker(rank: int, count: int, first: int, meeting: dict[str, Any], main_func: Any, args: Any) -> None:
    """Process ``rank`` of this machine's ``count``: join the others and run ``main_func``."""
    has_gpu = torch.cuda.is_available()
    dist.init_process_group("nccl" if has_gpu else "gloo", rank=first + rank, **meeting)
    comm.create_local_process_group(count)
    if has_gpu:
        torch.cuda.set_device(rank)
    else:
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // count))
    comm.synchronize()
    main_func(*args)
    comm.synchronize()
    logging.shutdown()
    for child in mp.active_children():
        child.terminate()
    sys.stdout.flush()
    os._exit(0)  # an ordinary exit now and then aborts, or waits for ever, in the threads of gloo
