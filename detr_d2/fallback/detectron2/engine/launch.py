"""An independently written subset of Detectron2's API; not Detectron2. One process, or one for each GPU."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from detectron2.utils import comm

DEFAULT_TIMEOUT = timedelta(minutes=30)


def launch(
    main_func: Callable[..., Any],
    num_gpus_per_machine: int,
    num_machines: int = 1,
    machine_rank: int = 0,
    dist_url: str | None = None,
    args: tuple[Any, ...] = (),
    timeout: timedelta = DEFAULT_TIMEOUT,
) -> None:
    """Run ``main_func(*args)`` here, or in ``num_gpus_per_machine`` spawned processes that train together.

    The processes share the CPU where there is no GPU. ``dist_url`` is where they meet, "auto" for a free port of this
    machine; call it on every machine, with its ``machine_rank``.
    """
    world_size = num_machines * num_gpus_per_machine
    if world_size <= 1:
        main_func(*args)
        return
    if dist_url == "auto":
        if num_machines > 1:
            raise ValueError("dist_url='auto' is for one machine; give one that all reach, like tcp://HOST:PORT.")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            dist_url = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    shared = (main_func, world_size, num_gpus_per_machine, machine_rank, dist_url, args, timeout)
    mp.start_processes(_worker, args=shared, nprocs=num_gpus_per_machine, daemon=False)


def _worker(
    local_rank: int,
    main_func: Callable[..., Any],
    world_size: int,
    per_machine: int,
    machine_rank: int,
    dist_url: str,
    args: tuple[Any, ...],
    timeout: timedelta,
) -> None:
    """Join the others, run ``main_func``, and leave them."""
    gpus = torch.cuda.device_count()
    if 0 < gpus < per_machine:
        raise ValueError(f"{per_machine} processes for {gpus} GPU(s) on this machine; set --num-gpus {gpus}.")
    rank = machine_rank * per_machine + local_rank
    backend = "nccl" if gpus else "gloo"
    dist.init_process_group(backend, init_method=dist_url, world_size=world_size, rank=rank, timeout=timeout)
    comm.create_local_process_group(per_machine)
    if gpus:
        torch.cuda.set_device(local_rank)
    else:
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // per_machine))
    comm.synchronize()
    main_func(*args)
    dist.destroy_process_group()
