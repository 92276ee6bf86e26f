"""An independently written subset of Detectron2's API; not Detectron2. Talk between processes."""

from typing import Any

import numpy as np
import torch
import torch.distributed as dist

_local_groups: list[Any] = []


def get_world_size() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def get_rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def is_main_process() -> bool:
    return get_rank() == 0


def create_local_process_group(num_workers_per_machine: int) -> None:
    """Group the ranks of each machine; every process has to call it."""
    _local_groups.append(dist.new_subgroups(num_workers_per_machine)[0])


def get_local_rank() -> int:
    """Number of this process on its machine."""
    assert get_world_size() == 1 or _local_groups, "Start through launch(), or call create_local_process_group() first."
    return dist.get_rank(_local_groups[-1]) if _local_groups else 0


def synchronize() -> None:
    """Wait until every process is here."""
    if get_world_size() > 1:
        dist.barrier(device_ids=[torch.cuda.current_device()] if dist.get_backend() == "nccl" else None)


def all_gather(data: Any) -> list[Any]:
    """Every rank's picklable ``data``, on every rank."""
    gathered = [data] * get_world_size()
    if len(gathered) > 1:
        dist.all_gather_object(gathered, data)
    return gathered


def gather(data: Any, dst: int = 0) -> list[Any]:
    """Every rank's picklable ``data`` on rank ``dst``; an empty list elsewhere."""
    gathered = all_gather(data)
    return gathered if get_rank() == dst else []


def shared_random_seed() -> int:
    """A random number that is the same on all ranks."""
    return int(all_gather(np.random.randint(2**31))[0])
