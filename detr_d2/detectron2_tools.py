"""Lets Detectron2's own tools, unchanged, know this project: its model, its config keys and your datasets.

    export DETECTRON2_ENV_MODULE=detr_d2.detectron2_tools DETR_D2_REGISTER=datasets/mine/register.yaml
    python detectron2/tools/analyze_model.py --tasks flop --config-file configs/detr_panoptic_R50.yaml ...

An installed Detectron2 imports what the first variable names, and calls its ``setup_environment``, before all else.
"""

from __future__ import annotations

import os

from detr_d2.config import add_detr_config
from detr_d2.data.registration import register_file

REGISTER_VARIABLE = "DETR_D2_REGISTER"


def setup_environment() -> None:
    """Add the config keys to Detectron2's defaults, and register what ``DETR_D2_REGISTER`` names.

    The variable holds paths of ``register.yaml`` files, separated as in ``PATH``. Tools that build the model before the
    data find datasets by the config's ``DATASETS.REGISTER`` as well.
    """
    from detectron2.config.defaults import _C  # type: ignore[import-not-found]

    add_detr_config(_C)
    for path in filter(None, os.environ.get(REGISTER_VARIABLE, "").split(os.pathsep)):
        register_file(os.path.abspath(os.path.expanduser(path)), REGISTER_VARIABLE)
