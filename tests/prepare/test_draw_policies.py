"""The picture of docs/prepare.md: every choice is drawn, and each one changes something."""

from __future__ import annotations

import importlib.util
import sys
from itertools import combinations

import numpy as np
import pytest


@pytest.fixture
def tool(project_folder, monkeypatch):
    spec = importlib.util.spec_from_file_location("draw_policies", project_folder / "tools" / "draw_policies.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "draw_policies", module)
    spec.loader.exec_module(module)
    yield module
    sys.modules.pop("policies_model", None)


def test_each_choice_makes_another_image_of_the_same_labels(tool, tmp_path):
    rows = tool.panels(tmp_path)

    assert [len(row) for row in rows.values()] == [4, 4, 4, 4]
    for row in rows.values():
        for one, other in combinations(row, 2):
            assert not np.array_equal(one.image, other.image), f"{one.title} and {other.title}"
    assert tool.compose(rows)[:4] == b"\x89PNG"
