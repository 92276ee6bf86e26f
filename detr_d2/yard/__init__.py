"""A made-up construction yard with exact ground truth: scenes, videos, datasets, and exports with people's faults."""

from .dataset import CATEGORIES, write_yard
from .exports import write_yard_exports
from .scene import STUFF, THINGS, Scene, make_scene
from .video import yard_video

__all__ = ["CATEGORIES", "STUFF", "THINGS", "Scene", "make_scene", "write_yard", "write_yard_exports", "yard_video"]
