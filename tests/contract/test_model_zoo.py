"""The model zoo: what it lacks is a ``RuntimeError`` that names it."""

from __future__ import annotations

import pytest

from detectron2 import model_zoo


@pytest.mark.parametrize(
    "function", [model_zoo.get, model_zoo.get_checkpoint_url, model_zoo.get_config, model_zoo.get_config_file]
)
def test_absent_model_is_named(function) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(RuntimeError, match=r"COCO-NoSuch/model\.yaml"):
        function("COCO-NoSuch/model.yaml")
