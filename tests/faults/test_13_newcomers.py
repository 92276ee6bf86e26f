"""What people write who know Detectron2 from a notebook, on a machine where it may not be installed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import detr_d2
from detr_d2.backend import backend_report
from detr_d2.errors import UserError

from detectron2 import model_zoo

CONFIG = "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x.yaml"


@pytest.mark.skipif(backend_report().name != "fallback", reason="an installed Detectron2 has its model zoo")
@pytest.mark.parametrize("function", ["get_config_file", "get_checkpoint_url", "get", "get_config"])
def test_model_zoo_says_in_one_sentence_what_there_is_instead(function: str) -> None:
    with pytest.raises(UserError) as error:
        getattr(model_zoo, function)(CONFIG)

    message = str(error.value)
    assert CONFIG in message and "installed Detectron2" in message
    assert isinstance(error.value, RuntimeError)
    for name in re.findall(r"get_config_file\('(.+?)'\)", message):
        assert Path(detr_d2.get_config_file(name)).is_file()


def test_model_zoo_can_be_imported_after_the_project(project_folder: Path) -> None:
    code = "import detr_d2\nfrom detectron2 import model_zoo\nprint(model_zoo.get_config_file.__name__)"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=project_folder)

    assert done.returncode == 0, done.stderr
