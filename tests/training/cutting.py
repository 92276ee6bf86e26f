"""What ends a run in the middle."""

from __future__ import annotations

from collections.abc import Callable

from detectron2.engine import HookBase


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
