"""In which numbers the network computes: ``MODEL.DETR.TRAINING_DTYPE`` and ``INFERENCE_DTYPE``."""

from __future__ import annotations

import functools
import logging
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

logger = logging.getLogger(__name__)

_REASONS = {"bfloat16": "multiplies in it", "float32": "doesn't multiply bfloat16"}


def check_dtypes(training: str, inference: str) -> None:
    """Raise ``ValueError`` where a key has another value; what is trained doesn't depend on the machine."""
    for key, value, auto in (("TRAINING_DTYPE", training, ()), ("INFERENCE_DTYPE", inference, ("auto",))):
        allowed = ("float32", "bfloat16", *auto)
        if value not in allowed:
            raise ValueError(f"MODEL.DETR.{key} is {value!r}; set it to {' or '.join(allowed)}.")


def autocast(dtype: str, device_type: str) -> AbstractContextManager[Any]:
    """A context in which the network computes in numbers of a key's value; "auto" is as :func:`auto_dtype` says."""
    if dtype == "auto":
        dtype = auto_dtype(device_type)
    return nullcontext() if dtype == "float32" else torch.autocast(device_type, dtype=torch.bfloat16)


@functools.cache
def auto_dtype(device_type: str) -> str:
    """ "bfloat16" where a device multiplies in it, not only stores it, else "float32"; logged once for each.

    Args:
        device_type: "cpu" or "cuda".
    """
    dtype = "bfloat16" if _multiplies_bfloat16(device_type) else "float32"
    logger.info("MODEL.DETR.INFERENCE_DTYPE auto: %s, as this device (%s) %s.", dtype, device_type, _REASONS[dtype])
    return dtype


def _multiplies_bfloat16(device_type: str) -> bool:
    if device_type == "cuda":
        # Without "emulation", which any GPU has, and which is slower than float32.
        return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    if device_type == "cpu":
        found = (getattr(torch.cpu, name, None) for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"))
        return any(function is not None and function() for function in found)
    return False
