"""What the figures share: panels as large as the image's shape asks, heat over the image, colours of queries."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import hsv_to_rgb, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.patheffects import withStroke
from PIL import Image
from torch import Tensor

from detr_d2.files import write_whole
from detr_d2.visualization.label_layout import Rectangle as Area
from detr_d2.visualization.label_layout import figure_text, text_size

from .explaining import Explanation
from .maps import over_image, relative
from .recording import shown_shape

#: One colour map for everything that is heat, so that figures can be compared: dark is little, light is much.
HEAT = "inferno"
DPI = 110
_TITLE_SIZE, _TEXT_SIZE = 10, 9
_WIDTH = 12.0
_TITLE_INCHES = 0.34
#: Very thin images get panels with empty room beside them, or a figure would have no end.
_MOST_ASPECT = 3.0
_OUTLINE = [withStroke(linewidth=2.5, foreground="black")]


class Drawn(NamedTuple):
    """A finished figure.

    Args:
        name: of its file, without a suffix.
        image: (H, W, 3) uint8 RGB.
        alt: what it shows, for those who don't see it.
        caption: what to look at.
    """

    name: str
    image: np.ndarray
    alt: str
    caption: str

    def save(self, folder: Path) -> Path:
        """Writes ``folder/name.png``."""
        drawing = Image.fromarray(self.image)
        return write_whole(folder / f"{self.name}.png", lambda file: drawing.save(file, "PNG"))


def panels(
    count: int, aspect: float, columns: int, width: float = _WIDTH, title_lines: float = 1.0
) -> tuple[Figure, list[Axes]]:
    """A figure of equal panels for images.

    Args:
        count: how many; the last row may have fewer.
        aspect: height / width of what they show.
        columns: at most so many in a row.
        width: of ``columns`` panels, in inches; fewer make a narrower figure.
        title_lines: lines above each panel.

    Returns:
        The figure and ``count`` axes without ticks.
    """
    is_thin = not 1 / _MOST_ASPECT <= aspect <= _MOST_ASPECT
    aspect = min(max(aspect, 1 / _MOST_ASPECT), _MOST_ASPECT)
    panel = width / columns
    columns = min(columns, count)
    rows = math.ceil(count / columns)
    size = (panel * columns, rows * (panel * aspect + _TITLE_INCHES * title_lines))
    figure = Figure(figsize=size, dpi=DPI, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.03, h_pad=0.03, wspace=0.01, hspace=0.01)  # type: ignore[union-attr, call-arg]
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axis in axes:
        axis.set_xticks([])
        axis.set_yticks([])
        if not is_thin:
            axis.set_box_aspect(aspect)
    for axis in axes[count:]:
        axis.set_axis_off()
    return figure, axes[:count]


def finish(figure: Figure, name: str, alt: str, caption: str) -> Drawn:
    """The figure as pixels."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return Drawn(name, np.array(canvas.buffer_rgba())[..., :3], alt, caption)


def show(axis: Axes, image: np.ndarray, title: str = "", **options: Any) -> None:
    """An image without ticks, its title above it; values of places (H, W) keep their edges, photos are smooth."""
    axis.imshow(image, **{"interpolation": "nearest" if image.ndim == 2 else "bilinear", **options})
    axis.set_autoscale_on(False)  # boxes may reach out of the image
    axis.set_title(title, fontsize=_TITLE_SIZE)


def heat_over(image: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """Heat laid over the image, which stays visible in grey beneath it.

    Args:
        image: (H, W, 3) uint8 RGB.
        heat: (H, W) in 0..1.

    Returns:
        (H, W, 3) float32 in 0..1.
    """
    grey = image.astype(np.float32).mean(2, keepdims=True) / 255
    colors = colormaps[HEAT](heat)[..., :3].astype(np.float32)
    alpha = (0.45 + 0.4 * np.sqrt(heat))[..., None].astype(np.float32)
    return np.asarray(np.clip((1 - alpha) * (0.15 + 0.75 * grey) + alpha * colors, 0, 1))


def show_heat(axis: Axes, explanation: Explanation, heat: Tensor, title: str, largest: float | None = None) -> None:
    """The image beneath heat of the memory's places, (h, w); lightest is its largest value, or ``largest``."""
    smooth = over_image(heat, explanation.sizes)
    shown = relative(smooth) if largest is None else (smooth / largest).clamp(0, 1).cpu().numpy()
    show(axis, heat_over(explanation.image, shown), title)


def show_features(axis: Axes, features: Tensor, title: str) -> None:
    """How strongly each place of features (C, h, w) answers: the length of its vector."""
    strength = relative(features.detach().float().norm(dim=0))
    show(axis, strength, f"{title}\n{shown_shape(features.shape)}", cmap=HEAT, aspect="auto")


def query_color(number: int) -> tuple[float, float, float]:
    """A colour of its own for the explained query of this number; neighbours differ most."""
    hue = (0.58 + number * 0.618034) % 1
    red, green, blue = hsv_to_rgb((hue, 0.75 if number % 2 else 0.6, 0.95))
    return float(red), float(green), float(blue)


def draw_box(axis: Axes, box: Sequence[float], color: Any, width: float = 1.8) -> None:
    """A box x0, y0, x1, y1 that can be seen on light and on dark."""
    x0, y0, x1, y1 = box
    for line, shade in ((width + 1.6, "black"), (width, color)):
        axis.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, ec=shade, lw=line))


def draw_text(axis: Axes, x: float, y: float, text: str, color: Any = "white", **options: Any) -> None:
    """A text with a dark rim."""
    axis.text(x, y, text, color=color, path_effects=_OUTLINE, **{"fontsize": _TEXT_SIZE, "clip_on": True, **options})


def draw_apart(
    axis: Axes,
    texts: Sequence[tuple[str, Any]],
    anchors: Sequence[Sequence[tuple[float, float, str, str]]],
    taken: Sequence[Area] = (),
) -> None:
    """Light texts with a dark rim, each at the first of its places where it covers no other, or where it covers least.

    Args:
        axis: with an image on it.
        texts: each with its colour.
        anchors: for each text the places to try: x, y in pixels of the image, and matplotlib's ``ha`` and ``va``.
        taken: what isn't to be covered either.
    """
    columns = axis.get_subplotspec().get_gridspec().ncols  # type: ignore[union-attr]
    left, right = axis.get_xlim()
    scale = (right - left) * columns / (axis.get_figure().get_figwidth() * DPI)  # type: ignore[union-attr]
    covered = list(taken)
    for (text, color), places in zip(texts, anchors, strict=True):
        width, height = (scale * length for length in text_size(text, _TEXT_SIZE * DPI / 72))
        areas = [_text_area(width, height, *place) for place in places]
        overlaps = [sum(area.overlap(other) for other in covered) for area in areas]
        best = overlaps.index(min(overlaps))
        x, y, ha, va = places[best]
        draw_text(axis, x, y, text, [0.5 + part / 2 for part in to_rgb(color)], ha=ha, va=va)
        covered.append(areas[best])


def _text_area(width: float, height: float, x: float, y: float, ha: str, va: str) -> Area:
    left = x - {"left": 0.0, "center": width / 2, "right": width}[ha]
    top = y - {"top": 0.0, "center": height / 2, "bottom": height}[va]
    return Area(left, top, left + width, top + height)


def draw_query_boxes(axis: Axes, explanation: Explanation) -> None:
    """The explained queries' boxes, each in its colour, with its number at a corner; small boxes lie on top."""
    ordered = sorted(enumerate(explanation.queries), key=lambda pair: -pair[1].area)
    for number, query in ordered:
        draw_box(axis, query.box, query_color(number), 1.6)
    ground = {"edgecolor": "none", "boxstyle": "square,pad=0.15"}
    for number, query in ordered:
        x, y = max(query.box[0], 0), max(query.box[1], 0)
        box = ground | {"facecolor": query_color(number)}
        axis.text(x, y, str(query.index), fontsize=8, va="top", color="black", bbox=box, clip_on=True)


def draw_query_names(figure: Figure, explanation: Explanation) -> None:
    """A legend below the panels: the explained queries' numbers, classes and scores."""
    keys = [
        Patch(color=query_color(number), label=figure_text(f"{query.index}: {query.name}"))
        for number, query in enumerate(explanation.queries)
    ]
    figure.legend(handles=keys, loc="outside lower center", ncols=6, frameon=False, fontsize=9, handlelength=1)


def draw_outline(axis: Axes, mask: np.ndarray, color: Any) -> None:
    """The border of a mask (H, W) bool; nothing where it has none, or is a single line of pixels."""
    if min(mask.shape) > 1 and mask.any() and not mask.all():
        axis.contour(mask.astype(np.float32), levels=[0.5], colors=["black"], linewidths=2.6)
        axis.contour(mask.astype(np.float32), levels=[0.5], colors=[color], linewidths=1.3)


def draw_point(axis: Axes, x: float, y: float, color: Any = "#30d5ff", size: float = 70) -> None:
    """A cross at a point."""
    axis.scatter([x], [y], marker="+", c="black", s=size * 1.6, linewidths=4.5)
    axis.scatter([x], [y], marker="+", c=[color], s=size, linewidths=2.2)
