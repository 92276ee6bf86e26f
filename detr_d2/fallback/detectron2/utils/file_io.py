"""An independently written subset of Detectron2's API; not Detectron2. Paths and addresses through iopath."""

from iopath.common.file_io import HTTPURLHandler
from iopath.common.file_io import PathManager as _PathManager

__all__ = ["PathManager"]

PathManager = _PathManager()
PathManager.register_handler(HTTPURLHandler())
