"""The report of an evaluation: what the numbers are made of, on one page, with what to do next."""

from __future__ import annotations

from detr_d2.evaluation.report.command import write_reports, write_run_report

__all__ = ["write_reports", "write_run_report"]
