"""Reads what labelling programs export: folders and zips of CVAT's formats, COCO instances and COCO panoptic."""

from __future__ import annotations

from .discovery import read_exports, refuse_unreadable, try_exports
from .shapes import shape_mask

__all__ = ["read_exports", "refuse_unreadable", "shape_mask", "try_exports"]
