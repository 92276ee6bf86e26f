"""``detr-d2 check --fix``: a repaired copy of a dataset, and what was changed to make it."""

from __future__ import annotations

from .changes import Change, ChangeLog
from .copying import CHANGES, fix_dataset, refuse_inside, refuse_taken

__all__ = ["CHANGES", "Change", "ChangeLog", "fix_dataset", "refuse_inside", "refuse_taken"]
