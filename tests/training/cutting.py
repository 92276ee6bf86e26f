"""What ends a run in the middle, and what compares it with one that went through."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

from detectron2.engine import HookBase


def _load_tool(name: str) -> Any:
    """A program of ``tools/`` as a module: by its file, as an installed Detectron2 may have a package of that name."""
    path = Path(__file__).resolve().parents[2] / "tools" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"{name}_of_tests", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


differences: Callable[..., Any] = _load_tool("kill_and_resume").differences


class PowerCut(BaseException):
    """What ends a run without giving it time for anything."""


class Cut(HookBase):
    """Ends a run in an iteration that has trained, when nothing of it is saved.

    Args:
        iteration: when.
        end: is called there.
    """

    def __init__(self, iteration: int, end: Callable[[], object] | None = None) -> None:
        self._iteration, self._end = iteration, end

    def after_step(self) -> None:
        if self.trainer.iter != self._iteration:
            return
        if self._end is None:
            raise PowerCut
        self._end()
