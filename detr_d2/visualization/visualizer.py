"""Detectron2's ``Visualizer``, its panoptic maps and instances painted by :mod:`detr_d2.visualization.strokes`.

What else a ``Visualizer`` draws (texts, polygons, keypoints) is Detectron2's own, over what was painted before. Only
that needs OpenCV: an installed Detectron2 without it has no ``Visualizer`` to import, and maps, instances and dataset
dicts are painted all the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from detr_d2.errors import ConfigError
from detr_d2.visualization.files import save_image
from detr_d2.visualization.ground_truth import id_map, read_ground_truth
from detr_d2.visualization.panoptic import (
    MASK_OPACITY,
    as_array,
    paint_instances,
    paint_panoptic,
    resize_image,
    resize_map,
)

from detectron2.data import MetadataCatalog
from detectron2.structures import Instances

if TYPE_CHECKING:
    from detectron2.utils.visualizer import VisImage, Visualizer
else:
    try:
        from detectron2.utils.visualizer import VisImage, Visualizer
    except ImportError:

        class Visualizer:
            """Stands in for Detectron2's, and says what is missing."""

            def __init__(self, *_: Any, **__: Any) -> None: ...

            def __getattr__(self, name: str) -> Any:
                raise AttributeError(name) if name.startswith("_") else _needs_opencv(name)

        class VisImage(Visualizer):
            """The same for Detectron2's image."""


#: What of Detectron2's ``VisImage`` exists only once something is drawn with matplotlib.
_FIGURE_PARTS = frozenset({"fig", "ax", "canvas", "dpi", "pixels"})


class PaintedImage(VisImage):
    """An image that is painted pixel by pixel; matplotlib's figure is made when something else is drawn on it.

    Args:
        img: (H, W, 3) uint8, RGB.
        scale: the result's size in relation to the image's.
    """

    def __init__(self, img: np.ndarray, scale: float = 1.0) -> None:
        self.img, self.scale = img, scale
        self.height, self.width = img.shape[:2]
        self._painted: np.ndarray | None = None

    def __getattr__(self, name: str) -> Any:
        if name not in _FIGURE_PARTS:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        if not self._has_figure():
            painted = self.get_image()
            super().__init__(self.img, self.scale)
            if not self._has_figure():
                raise _needs_opencv("drawing with matplotlib")
            self.paint(painted)
        return self.__getattribute__(name)

    def paint(self, pixels: np.ndarray) -> None:
        """Show ``pixels``, (round(H * scale), round(W * scale), 3) uint8, over all that was drawn before."""
        self._painted = pixels
        if self._has_figure():
            # The figure is a hundredth of a pixel larger than the image, which would be resampled if it covered all of
            # it; releases of matplotlib before 3.8 shift pixels by one then.
            height, width = (length - 1e-6 for length in pixels.shape[:2])
            right = self.width * width / self.ax.bbox.width
            top = self.height * (1 - height / self.ax.bbox.height)
            extent = (0, right, self.height, top)
            self.ax.imshow(pixels, extent=extent, interpolation="nearest", aspect="auto")
            self.ax.set(xlim=(0, self.width), ylim=(self.height, 0))

    def get_image(self) -> np.ndarray:
        """(H, W, 3) uint8, RGB, at the scaled size."""
        if self._has_figure():
            return super().get_image()
        return resize_image(self.img, self.scale) if self._painted is None else self._painted

    def save(self, filepath: str | Path) -> None:
        """Write the image, whole or not at all; the name ends in .png, .jpg or .jpeg."""
        save_image(self.get_image(), filepath)

    def _has_figure(self) -> bool:
        return "fig" in self.__dict__


class PanopticVisualizer(Visualizer):
    """Draws as Detectron2's ``Visualizer``: same calls, exact colours, names that don't run over each other, faster.

    Args:
        img_rgb: (H, W, 3), RGB, 0 to 255.
        metadata: of the dataset: names and colours.
        scale: the result's size in relation to the image's.
        more: as Detectron2's ``Visualizer`` takes it, for what it draws itself.
    """

    def __init__(self, img_rgb: Any, metadata: Any = None, scale: float = 1.0, *more: Any, **options: Any) -> None:
        metadata = MetadataCatalog.get("__nonexist__") if metadata is None else metadata
        image = np.asarray(img_rgb).clip(0, 255).astype(np.uint8)
        self.img, self.metadata = image, metadata
        self.output = self._canvas = PaintedImage(image, scale)
        self._base_options: tuple[Any, Any] | None = (more, options)

    def __getattr__(self, name: str) -> Any:
        """What Detectron2's class has beside is made when it is asked for: its figure takes as long as painting."""
        waiting = self.__dict__.get("_base_options")
        if waiting is not None:
            (more, options), self._base_options = waiting, None
            super().__init__(self.img, self.metadata, self._canvas.scale, *more, **options)
            self.output = self._canvas
            return getattr(self, name)
        inherited = getattr(super(), "__getattr__", object.__getattribute__.__get__(self))
        return inherited(name)

    def draw_panoptic_seg(  # type: ignore[override]  # as Detectron2's; the fallback's has less
        self,
        panoptic_seg: Any,
        segments_info: Sequence[Mapping[str, Any]] | None,
        area_threshold: int | None = None,
        alpha: float = MASK_OPACITY,
    ) -> PaintedImage:
        """Colour each segment as its class, with borders, names and scores.

        Args:
            panoptic_seg: (H, W) integers, a tensor or an array; ids that ``segments_info`` doesn't have stay bare.
            segments_info: "id", "category_id" and "isthing" of each; None: an id is category times ``label_divisor``
                of the metadata, and more.
            area_threshold: stuff segments with fewer pixels aren't drawn.
            alpha: opacity of the colours.

        Raises:
            ValueError: image and map differ in size.
        """
        ids = as_array(panoptic_seg)
        if ids.shape != self.img.shape[:2]:
            raise ValueError(f"the panoptic map is {ids.shape}, its image {self.img.shape[:2]}; sizes must be equal.")
        segments = self._segments_of(ids) if segments_info is None else segments_info
        if area_threshold:
            segments = [s for s in segments if s["isthing"] or (ids == s["id"]).sum() >= area_threshold]
        scaled = resize_map(ids, self._canvas.scale)
        self._canvas.paint(paint_panoptic(self._canvas.get_image(), scaled, segments, self.metadata, alpha))
        return self._canvas

    draw_panoptic_seg_predictions = draw_panoptic_seg

    def draw_instance_predictions(self, predictions: Instances, jittering: bool = True) -> PaintedImage:
        """Draw boxes, or masks where there are any, with names and scores.

        Args:
            predictions: "pred_classes" and "pred_boxes" or "pred_masks"; "scores" if known.
            jittering: as Detectron2's; colours always are the classes' own.
        """
        if predictions.has("pred_boxes"):
            shown = paint_instances(self._canvas.get_image(), predictions, self.metadata, self._canvas.scale)
            self._canvas.paint(shown)
        if predictions.has("pred_masks"):
            self._draw_masks(predictions)
        return self._canvas

    def draw_dataset_dict(self, dic: Mapping[str, Any]) -> PaintedImage:
        """Draw the panoptic map of a dataset's dict; where it has none, the boxes of its annotations.

        Raises:
            MissingFileError, DatasetError: see :func:`detr_d2.visualization.ground_truth.read_ground_truth`.
        """
        found = read_ground_truth(dic, (self.img.shape[0], self.img.shape[1]))
        if isinstance(found, Instances):
            return self.draw_instance_predictions(found)
        return self.draw_panoptic_seg(*found)

    def _draw_masks(self, predictions: Instances) -> None:
        """The largest masks first, so that small ones are seen."""
        masks = as_array(predictions.pred_masks).astype(bool)
        order = np.argsort(-masks.sum((1, 2)), kind="stable").tolist()
        classes = as_array(predictions.pred_classes).tolist()
        scores = as_array(predictions.scores).tolist() if predictions.has("scores") else [None] * len(masks)
        segments = [
            {"id": number, "category_id": classes[index], "isthing": True, "score": scores[index]}
            for number, index in enumerate(order, start=1)
        ]
        self.draw_panoptic_seg(id_map(masks[order], self.img.shape[:2]), segments)

    def _segments_of(self, ids: np.ndarray) -> list[dict[str, Any]]:
        """The segments of a map whose ids tell their category."""
        divisor = self.metadata.label_divisor
        things = set(self.metadata.thing_dataset_id_to_contiguous_id.values())
        found = [int(value) for value in np.unique(ids) if value >= 0]
        return [
            {"id": value, "category_id": value // divisor, "isthing": value // divisor in things} for value in found
        ]


def _needs_opencv(what: str) -> ConfigError:
    return ConfigError(
        f"{what}: Detectron2's Visualizer can't be imported, as it needs OpenCV, which Detectron2 doesn't install. "
        "Install it: pip install opencv-python-headless"
    )
