"""A made-up construction yard with exact ground truth: scenes, videos, datasets, and exports with people's faults."""

from .dataset import write_yard, write_yard_exports
from .scene import CATEGORIES, STUFF, THINGS, Scene, make_scene, yard_video

__all__ = ["CATEGORIES", "STUFF", "THINGS", "Scene", "make_scene", "write_yard", "write_yard_exports", "yard_video"]
