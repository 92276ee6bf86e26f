"""An independently written subset of Detectron2's API; not Detectron2. Draw masks, boxes and names on images."""

from enum import Enum
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from scipy import ndimage


class ColorMode(Enum):
    """Styles of Detectron2; here all of them are drawn as SEGMENTATION: in the classes' colours."""

    IMAGE, SEGMENTATION, IMAGE_BW = range(3)


class VisImage:
    """An RGB image (H, W, 3) to draw on, ``scale`` times as large."""

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
    """Draws strokes and panoptic maps, with ``metadata``'s names and colours, on an RGB image (H, W, 3)."""

    def __init__(
        self, img_rgb: Any, metadata: Any, scale: float = 1.0, instance_mode: ColorMode = ColorMode.IMAGE
    ) -> None:
        self.img = np.asarray(img_rgb).clip(0, 255).astype(np.uint8)
        self.metadata, self.output = metadata, VisImage(self.img, scale)
        self._font_size = max(np.sqrt(self.img[..., 0].size) // 90, 10 // scale)

    def get_output(self) -> VisImage:
        return self.output

    def draw_panoptic_seg(self, panoptic_seg: Any, segments_info: list[dict], alpha: float = 0.7) -> VisImage:
        """A map (H, W) of segment ids: stuff below, things above; what has no entry stays undrawn."""
        ids = np.asarray(panoptic_seg)
        for s in sorted(segments_info, key=lambda s: (s["isthing"], -(ids == s["id"]).sum())):
            color = np.array(self.metadata.stuff_colors[s["category_id"]]) / 255
            name = self.metadata.stuff_classes[s["category_id"]] + (f" {s['score']:.0%}" if s.get("score") else "")
            self.draw_binary_mask(ids == s["id"], color, edge_color="ivory", text=name, alpha=alpha)
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
        self, binary_mask: Any, color: Any, *, edge_color: Any = None, text: str = "", alpha: float = 0.5, **_: Any
    ) -> VisImage:
        """Blend a mask (H, W) into the image, with an outline; ``text`` stands on its largest connected part."""
        mask = np.asarray(binary_mask) != 0
        self.img[mask] = (1 - alpha) * self.img[mask] + alpha * 255 * np.array(to_rgb(color))
        self.output.pixels.set_data(self.img)
        if edge_color is not None and mask.any() and not mask.all():
            x, y = (np.arange(side) + 0.5 for side in mask.shape[::-1])
            width = max(self._font_size // 15 * self.output.scale, 1)
            self.output.ax.contour(x, y, mask, [0.5], colors=[to_rgb(edge_color)], linewidths=width)
        if text and mask.any():
            parts = ndimage.label(mask, np.ones((3, 3)))[0]
            largest = np.nonzero(parts == np.bincount(parts[mask]).argmax())
            self.draw_text(text, np.median(largest, axis=1)[::-1], color=color)
        return self.output
