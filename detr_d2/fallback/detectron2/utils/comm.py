"""An independently written subset of Detectron2's API; not Detectron2. Talk between processes."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

_local_group: Any = None


def _is_distributed() -> bool:
    return dist.is_available() and dist.is_initialized()


def get_world_size() -> int:
    return dist.get_world_size() if _is_distributed() else 1


def get_rank() -> int:
    return dist.get_rank() if _is_distributed() else 0


def is_main_process() -> bool:
    return get_rank() == 0


def create_local_process_group(num_workers_per_machine: int) -> None:
    """Group the ranks of each machine; every process has to call it, once."""
    global _local_group
    for first in range(0, get_world_size(), num_workers_per_machine):
        ranks = list(range(first, first + num_workers_per_machine))
        group = dist.new_group(ranks)
        if get_rank() in ranks:
            _local_group = group


def _local() -> Any:
    if _local_group is None:
        raise AssertionError("No local process group: start through launch(), or call create_local_process_group().")
    return _local_group


def get_local_rank() -> int:
    return dist.get_rank(group=_local()) if _is_distributed() else 0


def get_local_size() -> int:
    return dist.get_world_size(group=_local()) if _is_distributed() else 1


def synchronize() -> None:
    """Wait until every process is here."""
    if get_world_size() > 1:
        on_gpu = dist.get_backend() == dist.Backend.NCCL
        dist.barrier(device_ids=[torch.cuda.current_device()] if on_gpu else None)


@functools.lru_cache
def _cpu_group() -> Any:
    return dist.new_group(backend="gloo") if dist.get_backend() == "nccl" else dist.group.WORLD


def all_gather(data: Any, group: Any = None) -> list[Any]:
    """Every rank's picklable ``data``, on every rank."""
    if get_world_size() == 1:
        return [data]
    group = group or _cpu_group()
    gathered: list[Any] = [None] * dist.get_world_size(group)
    dist.all_gather_object(gathered, data, group=group)
    return gathered


def gather(data: Any, dst: int = 0, group: Any = None) -> list[Any]:
    """Every rank's picklable ``data`` on rank ``dst``; an empty list elsewhere."""
    if get_world_size() == 1:
        return [data]
    group = group or _cpu_group()
    is_receiver = dist.get_rank(group) == dst
    gathered: list[Any] = [None] * dist.get_world_size(group) if is_receiver else []
    dist.gather_object(data, gathered if is_receiver else None, dst=dst, group=group)
    return gathered


def shared_random_seed() -> int:
    """A random number that is the same on all ranks."""
    return int(all_gather(int(np.random.randint(2**31)))[0])


def reduce_dict(input_dict: dict[str, torch.Tensor], average: bool = True) -> dict[str, torch.Tensor]:
    """Scalars summed (or averaged) over all ranks; rank 0 holds the result."""
    if get_world_size() == 1:
        return input_dict
    names = sorted(input_dict)
    with torch.no_grad():
        values = torch.stack([input_dict[name] for name in names])
        dist.reduce(values, dst=0)
        return dict(zip(names, values / get_world_size() if average and is_main_process() else values, strict=True))
