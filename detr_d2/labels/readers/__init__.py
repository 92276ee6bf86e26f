"""Reads what labelling programs export: folders and zips of CVAT's formats, COCO instances and COCO panoptic."""

from __future__ import annotations

from .building import shape_mask
from .discovery import read_exports, refuse_unreadable, try_exports

__all__ = ["read_exports", "refuse_unreadable", "shape_mask", "try_exports"]
