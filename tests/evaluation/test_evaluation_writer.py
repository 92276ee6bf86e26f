"""The writer of an evaluation's files: what other processes wrote stays."""

from __future__ import annotations

from pathlib import Path

from detr_d2.evaluation.evaluation_writer import EvaluationWriter


def test_a_writer_that_was_given_nothing_removes_nothing(tmp_path: Path) -> None:
    """An evaluator that is reset before the first image has one; other processes may have begun with theirs."""
    writer = EvaluationWriter(str(tmp_path), [], [])
    png = tmp_path / ".panoptic_predictions.partial" / "of_another_process.png"
    png.parent.mkdir()
    png.touch()

    del writer

    assert png.exists()
