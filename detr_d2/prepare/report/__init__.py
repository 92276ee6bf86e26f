"""The page that shows what went into a dataset, what was dropped and why."""

from __future__ import annotations

from .page import write_report

__all__ = ["write_report"]
