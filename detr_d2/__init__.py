"""DETR and its panoptic mask head as a Detectron2 extension.

Importing this package chooses a ``detectron2`` (see :mod:`detr_d2.backend`) and registers the meta-architecture and
the datasets with it, so ``import detr_d2`` comes before any ``import detectron2``.
"""

import warnings

from detr_d2.backend import backend_report, ensure_detectron2

__version__ = "0.1.0"

ensure_detectron2()

with warnings.catch_warnings():
    # fvcore compiles some losses while it is imported, and newer torch would warn of that at every start.
    warnings.filterwarnings("ignore", message=r".*torch\.jit\.script.* is deprecated", category=FutureWarning)
    warnings.filterwarnings("ignore", message=r".*torch\.jit\.script.* is deprecated", category=DeprecationWarning)
    from detr_d2 import data, meta_arch
    from detr_d2.config import add_detr_config, load_config
    from detr_d2.data import register
    from detr_d2.model_zoo import get_config_file
    from detr_d2.solver import refuse_other_optimizers

if backend_report().name == "installed":
    refuse_other_optimizers(meta_arch.DetrPanoptic)

__all__ = [
    "__version__",
    "add_detr_config",
    "backend_report",
    "data",
    "ensure_detectron2",
    "get_config_file",
    "load_config",
    "meta_arch",
    "register",
]
