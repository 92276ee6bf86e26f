"""DETR and its panoptic mask head as a Detectron2 extension.

Importing this package chooses a ``detectron2`` (see :mod:`detr_d2.backend`) and registers the meta-architecture and
the datasets with it, so ``import detr_d2`` comes before any ``import detectron2``.

The command ``detr-d2`` alone starts without all that, as most of its subcommands need neither detectron2 nor torch;
those that do call :func:`register_all`.
"""

from __future__ import annotations

import importlib
import os
import sys
import warnings
from typing import TYPE_CHECKING, Any

from detr_d2.backend import backend_report, ensure_detectron2

if TYPE_CHECKING:
    from detr_d2 import data, meta_arch
    from detr_d2.config import add_detr_config, get_config_file, load_config
    from detr_d2.data import register
    from detr_d2.prediction import Prediction, Predictor

__version__ = "0.1.0"

__all__ = [
    "Prediction",
    "Predictor",
    "__version__",
    "add_detr_config",
    "backend_report",
    "data",
    "ensure_detectron2",
    "get_config_file",
    "load_config",
    "meta_arch",
    "register",
    "register_all",
]

#: Where the names above come from that aren't here yet.
_MODULE_OF = {
    **{"add_detr_config": "config", "load_config": "config", "register": "data", "get_config_file": "config"},
    **{"Prediction": "prediction", "Predictor": "prediction"},
}
#: What pip calls the script of a console command, on Windows as well.
_COMMAND_NAMES = ("detr-d2", "detr-d2.exe", "detr-d2-script.py")


def register_all() -> None:
    """Chooses a ``detectron2`` and registers the meta-architecture and the datasets with it.

    ``import detr_d2`` does it, but in the command ``detr-d2``; once done, it does nothing.

    Raises:
        BackendError: see :func:`detr_d2.backend.ensure_detectron2`.
    """
    ensure_detectron2()
    with warnings.catch_warnings():
        # fvcore compiles some losses while it is imported, and newer torch would warn of that at every start.
        warnings.filterwarnings("ignore", message=r".*torch\.jit\.script.* is deprecated", category=FutureWarning)
        warnings.filterwarnings("ignore", message=r".*torch\.jit\.script.* is deprecated", category=DeprecationWarning)
        meta_arch = importlib.import_module(f"{__name__}.meta_arch")
        importlib.import_module(f"{__name__}.data").use_catalogs()
    importlib.import_module(f"{__name__}.checkpoint").register_short_names()
    if backend_report().name == "installed":
        importlib.import_module(f"{__name__}.solver").refuse_other_optimizers(meta_arch.DetrPanoptic)


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    register_all()
    return getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)


def _is_command() -> bool:
    """Whether this process runs ``detr-d2`` or ``python -m detr_d2``, or was spawned by one that does."""
    program = sys.argv[0] if getattr(sys, "argv", None) else ""
    if program == "-m":  # Python is looking for the module that it is to run, and imports what that lies in
        return sys.orig_argv[-len(sys.argv)] in (__name__, f"-m{__name__}")
    own = os.path.join(os.path.dirname(__file__), "__main__.py")
    return os.path.basename(program) in _COMMAND_NAMES or os.path.abspath(program) == own


if not _is_command():
    register_all()
