"""An independently written subset of Detectron2's API; not Detectron2. Arguments, logs and processes of a training."""

from __future__ import annotations

import argparse
import os
import platform
import random
import socket
import sys
from datetime import timedelta
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from detr_d2.errors import ConfigError

import detectron2
from detectron2.config import CfgNode
from detectron2.utils import comm
from detectron2.utils.file_io import PathManager
from detectron2.utils.logger import setup_logger


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
    """Process ``rank`` of this machine's ``count``: join the others, run ``main_func``, and leave them."""
    has_gpu = torch.cuda.is_available()
    dist.init_process_group("nccl" if has_gpu else "gloo", rank=first + rank, **meeting)
    comm.create_local_process_group(count)
    if has_gpu:
        torch.cuda.set_device(rank)
    else:
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // count))
    comm.synchronize()
    main_func(*args)
    if has_gpu:  # with gloo, torch 2.4 may wait here for ever
        dist.destroy_process_group()
