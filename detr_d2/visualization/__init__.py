"""Drawings of what the model sees, and of the quality of each class."""

from __future__ import annotations

from typing import TYPE_CHECKING

from detr_d2.lazy import lazy_names

if TYPE_CHECKING:
    from detr_d2.visualization.files import save_image
    from detr_d2.visualization.label_layout import place_labels, text_font
    from detr_d2.visualization.panoptic import draw_instances, draw_panoptic, enlargement
    from detr_d2.visualization.per_class import draw_per_class
    from detr_d2.visualization.side_by_side import draw_prediction, draw_side_by_side, save_side_by_side
    from detr_d2.visualization.visualizer import PanopticVisualizer

__all__ = [
    "PanopticVisualizer",
    "draw_instances",
    "draw_panoptic",
    "draw_per_class",
    "draw_prediction",
    "draw_side_by_side",
    "enlargement",
    "place_labels",
    "save_image",
    "save_side_by_side",
    "text_font",
]

__getattr__ = lazy_names(
    __name__,
    {
        "files": ("save_image",),
        "label_layout": ("place_labels", "text_font"),
        "panoptic": ("draw_instances", "draw_panoptic", "enlargement"),
        "per_class": ("draw_per_class",),
        "side_by_side": ("draw_prediction", "draw_side_by_side", "save_side_by_side"),
        "visualizer": ("PanopticVisualizer",),
    },
)
