"""The yard as a dataset and as exports, made once."""

from __future__ import annotations

from pathlib import Path

import pytest

from detr_d2.cli import main


@pytest.fixture(scope="session")
def yard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the dataset ``yard`` and the exports ``exports``, as ``detr-d2 yard`` writes them."""
    folder = tmp_path_factory.mktemp("golden")
    sizes = ["--train", "6", "--val", "4", "--seed", "3"]
    assert main(["yard", str(folder / "yard"), *sizes]) == 0
    assert main(["yard", str(folder / "exports"), "--layout", "cvat", *sizes]) == 0
    registered = folder / "yard" / "register.yaml"  # names of its own, beside those of other tests' yards
    registered.write_text(registered.read_text().replace("name: yard_", "name: golden_yard_"))
    return folder
