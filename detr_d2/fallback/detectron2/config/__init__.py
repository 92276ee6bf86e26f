"""An independently written subset of Detectron2's API; not Detectron2."""

from .config import CfgNode, get_cfg
from .configurable import configurable

__all__ = ["CfgNode", "configurable", "get_cfg"]
