"""An independently written subset of Detectron2's API; not Detectron2. Draw masks, boxes and names on pictures."""

import colorsys
import itertools
from enum import Enum
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image
from scipy import ndimage

from detectron2.data import MetadataCatalog
from detectron2.structures import BoxMode, Instances

_OFF_WHITE = (1.0, 1.0, 0.94)


class ColorMode(Enum):
    """IMAGE: a colour an instance; SEGMENTATION: the class's colours; IMAGE_BW: as IMAGE, grey where nothing is."""

    IMAGE, SEGMENTATION, IMAGE_BW = range(3)


class VisImage:
    """An RGB picture (H, W, 3) to draw on, ``scale`` times as large."""

    def __init__(self, img: np.ndarray, scale: float = 1.0) -> None:
        self.scale, (self.height, self.width) = scale, img.shape[:2]
        self.fig = Figure(frameon=False)
        # A hundredth of a pixel more keeps matplotlib from rounding down.
        self.fig.set_size_inches(*((side * scale + 1e-2) / self.fig.dpi for side in (self.width, self.height)))
        self.canvas = FigureCanvasAgg(self.fig)
        self.ax = self.fig.add_axes((0, 0, 1, 1))
        self.ax.axis("off")
        extent = (0, self.width, self.height, 0)
        self.pixels = self.ax.imshow(img, extent=extent, interpolation="nearest", aspect="auto")

    def save(self, filepath: str) -> None:
        self.fig.savefig(filepath)

    def get_image(self) -> np.ndarray:
        """(H * scale, W * scale, 3) RGB, uint8."""
        self.canvas.draw()
        return np.asarray(self.canvas.buffer_rgba())[..., :3].copy()


class Visualizer:
    """Draws predictions or annotations, with ``metadata``'s names and colours, on an RGB picture (H, W, 3)."""

    def __init__(
        self, img_rgb: Any, metadata: Any = None, scale: float = 1.0, instance_mode: ColorMode = ColorMode.IMAGE
    ) -> None:
        self.img = np.asarray(img_rgb).clip(0, 255).astype(np.uint8)
        self.metadata = MetadataCatalog.get("__nonexist__") if metadata is None else metadata
        self._mode = instance_mode
        self.output = VisImage(self.img, scale)
        self._font_size = max(np.sqrt(self.img[..., 0].size) // 90, 10 // scale)

    def get_output(self) -> VisImage:
        return self.output

    def draw_instance_predictions(self, predictions: Instances) -> VisImage:
        """Boxes, masks, names and scores, as far as ``predictions`` has them."""
        fields = predictions.to("cpu").get_fields()
        masks = np.asarray(fields["pred_masks"]) if "pred_masks" in fields else None
        self._grey_outside(np.zeros(self.img.shape[:2], bool) if masks is None else masks.any(axis=0))
        boxes = fields["pred_boxes"].tensor.tolist() if "pred_boxes" in fields else None
        labels = self._labels(fields["pred_classes"].tolist(), fields["scores"].tolist())
        colors = self._colors(fields["pred_classes"].tolist()) if self._mode == ColorMode.SEGMENTATION else None
        alpha = {ColorMode.IMAGE: 0.5, ColorMode.SEGMENTATION: 0.8, ColorMode.IMAGE_BW: 0.3}[self._mode]
        return self.overlay_instances(boxes=boxes, labels=labels, masks=masks, assigned_colors=colors, alpha=alpha)

    def draw_panoptic_seg(
        self, panoptic_seg: Any, segments_info: list[dict], area_threshold: int | None = None, alpha: float = 0.7
    ) -> VisImage:
        """A map (H, W) of segment ids: stuff below, things above; what has no entry stays undrawn."""
        ids = np.asarray(panoptic_seg)
        self._grey_outside(np.isin(ids, [s["id"] for s in segments_info]))
        for s in (s for s in segments_info if not s["isthing"]):
            color = np.array(self.metadata.stuff_colors[s["category_id"]]) / 255
            name = self.metadata.stuff_classes[s["category_id"]]
            mask, least = ids == s["id"], area_threshold or 0
            self.draw_binary_mask(mask, color, edge_color=_OFF_WHITE, text=name, alpha=alpha, area_threshold=least)
        things = [s for s in segments_info if s["isthing"]]
        classes, masks = [s["category_id"] for s in things], [ids == s["id"] for s in things]
        labels = self._labels(classes, [s.get("score") for s in things], [s.get("iscrowd") for s in things])
        return self.overlay_instances(labels=labels, masks=masks, assigned_colors=self._colors(classes), alpha=alpha)

    draw_panoptic_seg_predictions = draw_panoptic_seg

    def draw_dataset_dict(self, dic: dict[str, Any]) -> VisImage:
        """The annotations' boxes, or the panoptic PNG, of one picture in Detectron2's dataset format."""
        if annos := dic.get("annotations"):
            boxes = [BoxMode.convert(a["bbox"], a["bbox_mode"], BoxMode.XYXY_ABS) for a in annos]
            labels = self._labels([a["category_id"] for a in annos], [], [a.get("iscrowd") for a in annos])
            self.overlay_instances(boxes=boxes, labels=labels)
        if "pan_seg_file_name" in dic:
            rgb = np.array(Image.open(dic["pan_seg_file_name"]).convert("RGB"), dtype=np.int64)
            self.draw_panoptic_seg(rgb @ [1, 256, 256**2], dic["segments_info"], alpha=0.5)
        return self.output

    def overlay_instances(
        self,
        *,
        boxes: Any = None,
        labels: Any = None,
        masks: Any = None,
        assigned_colors: Any = None,
        alpha: float = 0.5,
    ) -> VisImage:
        """N instances, large ones first: boxes (N, 4) xyxy, masks (N, H, W), names; each of them may be missing."""
        around = np.array([_box_around(mask) for mask in masks] if boxes is None else boxes, float).reshape(-1, 4)
        for i in np.argsort(-(around[:, 2:] - around[:, :2]).prod(1)).tolist():
            # Steps of the golden ratio give neighbours different hues.
            color = assigned_colors[i] if assigned_colors else colorsys.hsv_to_rgb(i * 0.618 % 1, 0.8, 1.0)
            if masks is not None:
                self.draw_binary_mask(masks[i], color, edge_color=color, alpha=alpha, area_threshold=0)
            if boxes is not None:
                self.draw_box(around[i], edge_color=color)
            if labels and around[i].any():
                self._name_instance(labels[i], around[i], None if boxes is not None else masks[i], color)
        return self.output

    def _name_instance(self, text: str, box: np.ndarray, mask: Any, color: Any) -> None:
        """At the box's corner or in the middle of the mask; beside what is small."""
        (x0, y0, x1, y1), scale = box, self.output.scale
        position, side = ((x0, y0), "left") if mask is None else (np.median(np.nonzero(mask), axis=1)[::-1], "center")
        if (x1 - x0) * (y1 - y0) < 1000 * scale or y1 - y0 < 40 * scale:
            position = (x1, y0) if y1 >= self.output.height - 5 else (x0, y1)
        growth = np.clip(((y1 - y0) / np.sqrt(self.img[..., 0].size) - 0.02) / 0.08 + 1, 1.2, 2)
        self.draw_text(text, position, font_size=growth / 2 * self._font_size, color=color, horizontal_alignment=side)

    def draw_text(
        self, text: str, position: Any, *, font_size: Any = None, color: Any = "g", horizontal_alignment: str = "center"
    ) -> VisImage:
        """Light text on a dark plate, its top at ``position`` (x, y)."""
        style: dict[str, Any] = {
            "bbox": {"fc": "black", "alpha": 0.8, "pad": 0.7, "ec": "none"},
            "va": "top",
            "zorder": 10,
        }
        style |= {"size": (font_size or self._font_size) * self.output.scale, "ha": horizontal_alignment}
        self.output.ax.text(position[0], position[1], text, color=[0.2 + 0.8 * c for c in to_rgb(color)], **style)
        return self.output

    def draw_box(self, box_coord: Any, alpha: float = 0.5, edge_color: Any = "g") -> VisImage:
        x0, y0, x1, y1 = box_coord
        style = {"lw": max(self._font_size / 4, 1) * self.output.scale, "ec": edge_color, "alpha": alpha}
        self.output.ax.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, **style))
        return self.output

    def draw_binary_mask(
        self,
        binary_mask: Any,
        color: Any,
        *,
        edge_color: Any = None,
        text: Any = None,
        alpha: float = 0.5,
        area_threshold: int = 10,
    ) -> VisImage:
        """Blend a mask (H, W) into the picture, with an outline; ``text`` stands on its largest connected part."""
        mask = np.asarray(binary_mask) != 0
        if mask.sum() <= area_threshold:
            return self.output
        self.img[mask] = (1 - alpha) * self.img[mask] + alpha * 255 * np.array(to_rgb(color))
        self.output.pixels.set_data(self.img)
        if edge_color is not None and not mask.all():
            centers, width = [np.arange(n) + 0.5 for n in mask.shape[::-1]], self._font_size // 15 * self.output.scale
            self.output.ax.contour(*centers, mask, [0.5], colors=[to_rgb(edge_color)], linewidths=max(width, 1))
        if text is not None:
            parts, _ = ndimage.label(mask, np.ones((3, 3)))
            largest = np.nonzero(parts == np.bincount(parts[mask]).argmax())
            self.draw_text(text, np.median(largest, axis=1)[::-1], color=color)
        return self.output

    def _labels(self, classes: list[int], scores: list, crowds: Any = ()) -> list[str]:
        names = self.metadata.get("thing_classes") or range(max(classes, default=0) + 1)
        rows = itertools.zip_longest(classes, scores, crowds)
        return [
            f"{names[c]}" + (f" {s:.0%}" if s is not None else "") + ("|crowd" if crowd else "") for c, s, crowd in rows
        ]

    def _colors(self, classes: list[int]) -> list | None:
        """The classes' colours, each moved a little so that neighbours differ; None if they have none."""
        steps = np.random.rand(len(classes), 3)
        steps *= 0.5 / np.linalg.norm(steps, axis=1, keepdims=True)
        colors = self.metadata.get("thing_colors")
        return list(np.clip(np.array([colors[c] for c in classes]) / 255 + steps, 0, 1)) if colors and classes else None

    def _grey_outside(self, mask: Any) -> None:
        if self._mode == ColorMode.IMAGE_BW:
            self.img[~mask] = self.img[~mask].mean(axis=1, keepdims=True)
            self.output.pixels.set_data(self.img)


def _box_around(mask: Any) -> list[int]:
    """(x0, y0, x1, y1), the latter two one past the last pixel; zeros for an empty mask."""
    rows, columns = np.nonzero(np.asarray(mask))
    return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1] if len(rows) else [0, 0, 0, 0]
