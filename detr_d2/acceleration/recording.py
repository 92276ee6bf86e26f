"""Whether operations are recorded instead of computed only."""

from __future__ import annotations

import torch


def is_recorded() -> bool:
    """A graph that is compiled, exported or traced must not depend on the sizes and devices it was recorded with."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing()
