"""How much memory a training that ran out of it would have needed, and what lowering a key saves: an estimate."""

from __future__ import annotations

import gc
import re
from pathlib import Path

import torch
from torch import nn

from detectron2.config import CfgNode
from detectron2.utils import comm

_UNITS = {"bytes": 1, "B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
#: What torch says on a CPU and on a GPU, and numpy.
_ASKED = re.compile(r"(?:tried to allocate|Tried to allocate|Unable to allocate) ([0-9.]+) (bytes|KiB|MiB|GiB|TiB|B)\b")
#: A parameter has a gradient and AdamW's two moments.
_COPIES_OF_A_PARAMETER = 4


def asked_for(message: str) -> int:
    """Bytes that couldn't be had, by an error's message; 0 where it doesn't say."""
    found = _ASKED.search(message)
    return int(float(found[1]) * _UNITS[found[2]]) if found else 0


def memory_in_use() -> int:
    """Bytes at the peak of this process: of its GPU's memory where it uses one, else resident; 0: not known."""
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return torch.cuda.max_memory_allocated()
    return resident_memory("VmHWM")


def resident_memory(field: str = "VmRSS") -> int:
    """Bytes of this process that Linux's table of it has: VmRSS now, VmHWM at the peak; 0: not known."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith(f"{field}:"))


def forget_peak() -> bool:
    """From now on :func:`memory_in_use` is of what comes; False: for resident memory what was before counts, too."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


def bytes_of_parameters() -> int:
    """What the parameters of all models in this process take, with gradients and the optimizer's moments."""
    found = [one for one in gc.get_objects() if type(one) is nn.Parameter]
    return _COPIES_OF_A_PARAMETER * sum(one.numel() * one.element_size() for one in found)


def estimate(cfg: CfgNode, message: str, before: int) -> str:
    """A sentence: what was needed at least, and what about half as many images, or pixels, would need.

    What neither the program nor the parameters take is taken to go with images and with pixels, in a straight line.

    Args:
        cfg: of the training.
        message: of the error.
        before: :func:`memory_in_use` before there was a model.

    Returns:
        The sentence, or nothing where memory isn't known, or nothing could be halved.
    """
    parts, batch = cfg.SOLVER.ACCUMULATE_BATCHES, cfg.SOLVER.IMS_PER_BATCH
    used, images = memory_in_use(), max(1, batch // comm.get_world_size() // parts)
    needed, fixed = used + asked_for(message), before + bytes_of_parameters()
    if not used or needed <= fixed:
        return ""
    half = fixed + (needed - fixed) / 2
    side = int(cfg.INPUT.MAX_SIZE_TRAIN / 2**0.5)
    ways = [f"SOLVER.ACCUMULATE_BATCHES {2 * parts}"] if images % 2 == 0 else []
    ways += [f"SOLVER.IMS_PER_BATCH {batch // 2}"] if images > 1 else []
    ways += [f"INPUT.MAX_SIZE_TRAIN {side}"]
    listed = f"{', '.join(ways[:-1])} or {ways[-1]}" if len(ways) > 1 else ways[0]
    return (
        f"With {images} images at a time of up to {cfg.INPUT.MAX_SIZE_TRAIN} pixels a side the process needed "
        f"{needed / 2**30:.1f} GiB at least; {listed} takes about {half / 2**30:.1f} GiB (an estimate)."
    )
