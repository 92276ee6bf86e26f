"""An independently written subset of Detectron2's API; not Detectron2. Draw masks, boxes and names on pictures."""

from enum import Enum
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image
from scipy import ndimage

from detectron2.structures import BoxMode, Instances


class ColorMode(Enum):
    """IMAGE: a colour an instance; SEGMENTATION: the class's colours; IMAGE_BW: as IMAGE, grey where nothing is."""

    IMAGE, SEGMENTATION, IMAGE_BW = range(3)


class VisImage:
    """An RGB picture (H, W, 3) to draw on, ``scale`` times as large."""

    def __init__(self, img: np.ndarray, scale: float) -> None:
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
        self, img_rgb: Any, metadata: Any, scale: float = 1.0, instance_mode: ColorMode = ColorMode.IMAGE
    ) -> None:
        self.img = np.asarray(img_rgb).clip(0, 255).astype(np.uint8)
        self.metadata, self._mode = metadata, instance_mode
        self.output = VisImage(self.img, scale)
        self._font_size = max(np.sqrt(self.img[..., 0].size) // 90, 10 // scale)

    def get_output(self) -> VisImage:
        return self.output

    def draw_instance_predictions(self, predictions: Instances) -> VisImage:
        """Boxes, masks if there are any, names and scores."""
        found = predictions.to("cpu").get_fields()
        boxes, masks = found["pred_boxes"].tensor.numpy(), found.get("pred_masks")
        self._grey_outside(masks.any(dim=0).numpy() if masks is not None else np.zeros(self.img.shape[:2], bool))
        for i in np.argsort(-(boxes[:, 2:] - boxes[:, :2]).prod(axis=1)).tolist():
            color = self._color(int(found["pred_classes"][i]), self._mode != ColorMode.SEGMENTATION)
            if masks is not None:
                self.draw_binary_mask(masks[i], color, edge_color=color, alpha=(0.5, 0.8, 0.3)[self._mode.value])
            self.draw_box(boxes[i], edge_color=color)
            name = f"{self.metadata.thing_classes[found['pred_classes'][i]]} {found['scores'][i]:.0%}"
            self.draw_text(name, boxes[i, :2], color=color, horizontal_alignment="left")
        return self.output

    def draw_panoptic_seg(self, panoptic_seg: Any, segments_info: list[dict], alpha: float = 0.7) -> VisImage:
        """A map (H, W) of segment ids: stuff below, things above; what has no entry stays undrawn."""
        ids = np.asarray(panoptic_seg)
        self._grey_outside(np.isin(ids, [s["id"] for s in segments_info]))
        for s in sorted(segments_info, key=lambda s: (s["isthing"], -(ids == s["id"]).sum())):
            color = self._color(s["category_id"], False)
            name = self.metadata.stuff_classes[s["category_id"]] + (f" {s['score']:.0%}" if s.get("score") else "")
            self.draw_binary_mask(ids == s["id"], color, edge_color="ivory", text=name, alpha=alpha)
        return self.output

    draw_panoptic_seg_predictions = draw_panoptic_seg

    def draw_dataset_dict(self, dic: dict[str, Any]) -> VisImage:
        """The annotations' boxes, or the panoptic PNG, of one picture in Detectron2's dataset format."""
        for annotation in dic.get("annotations", []):
            box = BoxMode.convert(annotation["bbox"], annotation["bbox_mode"], BoxMode.XYXY_ABS)
            color = self._color(annotation["category_id"], False)
            self.draw_box(box, edge_color=color)
            self.draw_text(self.metadata.thing_classes[annotation["category_id"]], box[:2], color=color)
        if "pan_seg_file_name" in dic:
            rgb = np.array(Image.open(dic["pan_seg_file_name"]).convert("RGB"), dtype=np.int64)
            self.draw_panoptic_seg(rgb @ [1, 256, 256**2], dic["segments_info"], alpha=0.5)
        return self.output

    def draw_text(
        self, text: str, position: Any, *, font_size: Any = None, color: Any = "g", horizontal_alignment: str = "center"
    ) -> VisImage:
        """Light text on a dark plate, its top at ``position`` (x, y)."""
        plate = {"fc": "black", "alpha": 0.8, "pad": 0.7, "ec": "none"}
        light, size = [0.4 + 0.6 * c for c in to_rgb(color)], (font_size or self._font_size) * self.output.scale
        style: dict[str, Any] = {"ha": horizontal_alignment, "va": "top", "zorder": 10}
        self.output.ax.text(position[0], position[1], text, color=light, size=size, bbox=plate, **style)
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
        text: str = "",
        alpha: float = 0.5,
        area_threshold: int = 0,
    ) -> VisImage:
        """Blend a mask (H, W) into the picture, with an outline; ``text`` stands on its largest connected part."""
        mask = np.asarray(binary_mask) != 0
        if mask.sum() > area_threshold:
            self.img[mask] = (1 - alpha) * self.img[mask] + alpha * 255 * np.array(to_rgb(color))
            self.output.pixels.set_data(self.img)
            if edge_color is not None and not mask.all():
                x, y = (np.arange(side) + 0.5 for side in mask.shape[::-1])
                width = max(self._font_size // 15 * self.output.scale, 1)
                self.output.ax.contour(x, y, mask, [0.5], colors=[to_rgb(edge_color)], linewidths=width)
            if text:
                parts, _ = ndimage.label(mask, np.ones((3, 3)))
                largest = np.nonzero(parts == np.bincount(parts[mask]).argmax())
                self.draw_text(text, np.median(largest, axis=1)[::-1], color=color)
        return self.output

    def _color(self, category: int, at_random: bool) -> Any:
        return np.random.rand(3) if at_random else np.array(self.metadata.thing_colors[category]) / 255

    def _grey_outside(self, mask: np.ndarray) -> None:
        if self._mode == ColorMode.IMAGE_BW:
            self.img[~mask] = self.img[~mask].mean(axis=1, keepdims=True)
            self.output.pixels.set_data(self.img)
