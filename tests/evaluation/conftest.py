"""Files of ground truth and predictions."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.evaluation.pq_files import (
    write_files,
)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Ground truth and predictions that are three pixels off."""
    write_files(tmp_path, "truth")
    write_files(tmp_path, "found", shift=3)
    return tmp_path
