"""The least time that a run can take here: its convolutions and matrix products alone, each at its own best rate."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

#: Parts of the names of the operators that are counted: convolutions and matrix products, in any packing.
_COUNTED = ("conv", "addmm", "mm", "bmm", "baddbmm", "linear", "matmul", "scaled_dot_product")


@dataclass(frozen=True)
class Like:
    """A tensor that has to be made again."""

    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device

    def make(self) -> torch.Tensor:
        """One of that layout, with small random values."""
        made = torch.empty_strided(self.shape, self.stride, dtype=self.dtype, device=self.device)
        return made.normal_(std=0.1) if made.is_floating_point() else made.zero_()


class _Recorder(TorchDispatchMode):
    """Counts the operators that run under it, by name and by the layout of what they are given."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[Any] = Counter()
        self.given: dict[str, tuple[Any, Any, Any]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket.__name__.lstrip("_").startswith(_COUNTED):
            args_like, kwargs_like = tree_map_only(torch.Tensor, _like, (args, kwargs or {}))
            key = f"{func} {args_like} {kwargs_like}"
            self.calls[key] += 1
            self.given[key] = (func, args_like, kwargs_like)
        return func(*args, **(kwargs or {}))


def _like(tensor: torch.Tensor) -> Like:
    return Like(tuple(tensor.shape), tuple(tensor.stride()), tensor.dtype, tensor.device)


def floor_seconds(run: Callable[[], object], repeats: int, synchronize: Callable[[], None]) -> tuple[float, int]:
    """Seconds of the convolutions and products of one run, each measured alone, and how many there are.

    Everything else (norms, activations, additions, copies, post-processing) is left out, so that no program can be
    faster with these operators and shapes.

    Args:
        run: what is measured as a whole elsewhere; called twice.
        repeats: each operator runs so often; the fastest counts.
        synchronize: waits for the device.
    """
    run()
    recorder = _Recorder()
    with recorder:
        run()
    total = 0.0
    for key, count in recorder.calls.items():
        func, args_like, kwargs_like = recorder.given[key]
        args, kwargs = tree_map_only(Like, Like.make, (args_like, kwargs_like))
        times = []
        with torch.inference_mode():
            for _ in range(repeats + 1):
                start = time.perf_counter()
                func(*args, **kwargs)
                synchronize()
                times.append(time.perf_counter() - start)
        total += count * min(times[1:])
    return total, sum(recorder.calls.values())
