"""``detr-d2 plot``: losses, quality and learning rate of several runs, beside one another."""

from __future__ import annotations

from detr_d2.training.plot.page import draw_runs, write_runs_page
from detr_d2.training.plot.runs import Run, read_runs

__all__ = ["Run", "draw_runs", "read_runs", "write_runs_page"]
