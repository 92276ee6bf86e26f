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

from detr_d2.errors import ConfigError

from detectron2.utils import comm


def launch(
    main_func: Callable[..., Any],
    num_gpus_per_machine: int,
    num_machines: int = 1,
    machine_rank: int = 0,
    dist_url: str | None = None,
    args: tuple[Any, ...] = (),
    timeout: timedelta = timedelta(minutes=30),
) -> None:
    """Run ``main_func(*args)`` here, or in that many spawned processes, which share the CPU where there is no GPU.

    They meet at ``dist_url``; "auto" is a free port of this machine. Call it on every machine.
    """
    world_size = num_machines * num_gpus_per_machine
    if world_size <= 1:
        main_func(*args)
        return
    if dist_url == "auto":
        if num_machines > 1:
            raise ConfigError("--dist-url auto is for one machine; give an address that all reach: tcp://HOST:PORT.")
        with socket.create_server(("127.0.0.1", 0)) as free:
            dist_url = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    meeting = {"init_method": dist_url, "world_size": world_size, "timeout": timeout}
    shared = (num_gpus_per_machine, machine_rank * num_gpus_per_machine, meeting, main_func, args)
    mp.start_processes(_worker, args=shared, nprocs=num_gpus_per_machine, daemon=False)


def _worker(rank: int, count: int, first: int, meeting: dict[str, Any], main_func: Any, args: tuple[Any, ...]) -> None:
    """Process ``rank`` of this machine's ``count``: join the others, run ``main_func``, and leave them."""
    gpus = torch.cuda.device_count()
    if 0 < gpus < count:
        raise ConfigError(f"--num-gpus is {count}, and there are {gpus} on this machine; set it to {gpus}.")
    dist.init_process_group("nccl" if gpus else "gloo", rank=first + rank, **meeting)
    comm.create_local_process_group(count)
    if gpus:
        torch.cuda.set_device(rank)
    else:
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // count))
    comm.synchronize()
    main_func(*args)
    dist.destroy_process_group()
