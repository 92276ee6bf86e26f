"""Folders that are there whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from detr_d2.folders import folder_beside


@pytest.mark.parametrize("is_kept", [True, False])
def test_a_name_that_is_too_long_is_refused_before_anything_is_written(tmp_path: Path, is_kept: bool) -> None:
    with pytest.raises(OSError, match="too long"), folder_beside(tmp_path / "new" / ("n" * 300), is_kept):
        pytest.fail("nothing may be done for it")

    assert list(tmp_path.iterdir()) == []
