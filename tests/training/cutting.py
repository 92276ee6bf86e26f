"""What ends a run in the middle, and what compares it with one that went through."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.modules import load_module

from detectron2.engine import HookBase

_TOOL = Path(__file__).resolve().parents[2] / "tools" / "kill_and_resume.py"
differences: Callable[..., Any] = load_module(_TOOL).differences


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
