"""Time and memory, measured so that figures of one run can be compared with each other."""

from __future__ import annotations

import gc
import multiprocessing
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch

from detr_d2.training.memory import forget_peak, resident_memory

Result = TypeVar("Result")

#: Runs a command from a small process: a child's peak begins with the memory of the process that it comes from.
_METER = """
import resource, subprocess, sys
done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(done.returncode, used.ru_utime + used.ru_stime, used.ru_maxrss)
"""


def synchronizer(device: str) -> Callable[[], None]:
    """What waits until a device has done all that it was given; a CPU has."""
    return torch.cuda.synchronize if device.startswith("cuda") else _nothing


def _nothing() -> None:
    pass


def seconds_interleaved(
    runs: Mapping[str, Callable[[], object]],
    repeats: int,
    clock: Callable[[], float] = time.perf_counter,
    synchronize: Callable[[], None] = _nothing,
) -> dict[str, float]:
    """The median time of each, after one run that doesn't count; they take turns, so that all meet the same machine.

    Each second round goes the other way round, so that none always follows the same one, whose memory it finds.

    Args:
        runs: what to measure, by name.
        repeats: rounds.
        clock: ``time.process_time`` counts this process's work only, which suits what runs on one core.
        synchronize: see :func:`synchronizer`.
    """
    times: dict[str, list[float]] = {name: [] for name in runs}
    for i in range(repeats + 1):
        for name, run in list(runs.items())[:: 1 if i % 2 else -1]:
            gc.collect()
            synchronize()
            start = clock()
            run()
            synchronize()
            if i > 0:
                times[name].append(clock() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def command_usage(words: Sequence[str], folder: Path | None = None) -> tuple[float, float]:
    """Processor seconds of a command and its children, and MiB of the largest of its processes.

    Args:
        words: the command.
        folder: where it runs; ``python -m`` looks for modules there first. None: where this process is.

    Raises:
        RuntimeError: the command failed.
    """
    meter = [sys.executable, "-I", "-c", _METER, *words]
    metered = subprocess.run(meter, capture_output=True, text=True, check=True, cwd=folder)
    code, seconds, kibibytes = map(float, metered.stdout.split())
    if code:
        raise RuntimeError(f"{' '.join(words)} ended with {code:g}")
    return seconds, kibibytes / 1024


def in_fresh_process(function: Callable[..., Result], *arguments: Any) -> Result:
    """Call a function of a module in a process of its own, whose memory nothing else has touched."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def peak_above_now(run: Callable[[], object], device: str = "cpu") -> float:
    """MiB that ``run`` needs at its peak beyond what is held before it: resident memory, or a GPU's tensors."""
    gc.collect()
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    before = resident_memory("VmRSS" if forget_peak() else "VmHWM")
    run()
    return (resident_memory("VmHWM") - before) / 2**20


def machine(threads: int, device: str = "cpu") -> str:
    """One line: processor, cores and threads used, torch, allocator, GPU."""
    names = [line.split(":", 1)[1].strip() for line in _cpu_info() if line.startswith("model name")]
    allocator = os.environ.get("LD_PRELOAD") or "default allocator"
    return (
        f"{names[0] if names else platform.processor() or platform.machine()}, {os.cpu_count()} cores, "
        f"{threads} threads, {platform.system()}, Python {platform.python_version()}, torch {torch.__version__}, "
        f"{allocator}, {torch.cuda.get_device_name() if device.startswith('cuda') else 'no GPU'} used"
    )


def _cpu_info() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.is_file() else []
