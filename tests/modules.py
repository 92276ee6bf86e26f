"""Programs and other files as modules: by their path, as an installed Detectron2 may have packages of their names."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType


def load_module(path: Path) -> ModuleType:
    """A new module of a file, whatever has been loaded before; pickles and dataclasses find it while it is the last."""
    name = f"{path.stem}_of_tests"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
