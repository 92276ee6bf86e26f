"""What the page does with an image, without the page: predict once, then change thresholds, point, and download."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
import weakref
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from detr_d2.errors import UserError
from detr_d2.files import write_text, write_whole
from detr_d2.labels.image_reading import open_image
from detr_d2.labels.values import MOST_PIXELS
from detr_d2.prediction.explain.maps import attention_of
from detr_d2.prediction.images import ImageError, read_image
from detr_d2.prediction.prediction import Prediction, Segment
from detr_d2.prediction.predictor import ForwardPass, Predictor
from detr_d2.prediction.video import shade
from detr_d2.prediction.writers import XML_TAIL, xml_head, xml_image, xml_shapes

_SHOWN_SIDE = 1280
"""Long side at which a page shows an image, in pixels."""


@dataclass(frozen=True)
class Limits:
    """What a page takes.

    Args:
        megabytes: of an image's file.
        megapixels: of an image.
    """

    megabytes: int = 25
    megapixels: int = 50


@dataclass(frozen=True)
class Choices:
    """What a person has set.

    Args:
        score, overlap: thresholds, 0 to 1.
        min_area: least pixels of a segment.
        classes: names of those shown.
    """

    score: float
    overlap: float
    min_area: int
    classes: tuple[str, ...]


class SeenPhoto:
    """A photo of a visitor's, its forward pass, and the map for what is set now.

    Args:
        predictor: with a mask head.
        path: of the file that was uploaded.
        limits: of its size.

    Raises:
        ImageError: it isn't an image, is cut off or too large.
    """

    def __init__(self, predictor: Predictor, path: str | Path, limits: Limits) -> None:
        refuse_large(Path(path), limits)
        name = re.sub(r"[^\w.-]", "_", Path(path).name) or "photo"
        self._predictor, self._seen = predictor, ForwardPass(predictor, read_image(path), name)
        self.choices: Choices | None = None
        self.prediction: Prediction | None = None
        self._folder = Path(tempfile.mkdtemp(prefix="detr_d2_"))
        weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)

    def choose(self, choices: Choices) -> Prediction:
        """The map with other thresholds and classes; the network doesn't run again."""
        if choices != self.choices or self.prediction is None:
            found = self._seen.prediction(choices.score, choices.overlap, choices.min_area)
            self.choices, self.prediction = choices, found.only(choices.classes)
        return self.prediction

    def shown(self) -> tuple[np.ndarray, list[tuple[np.ndarray, str]], dict[str, str]]:
        """The image at the page's size, each segment's mask with its name and score, and the colours of these names."""
        prediction = self._chosen()
        step = max(-(-max(prediction.size) // _SHOWN_SIDE), 1)
        masks = [
            (prediction.mask(segment)[::step, ::step].astype(np.float32), label_of(segment))
            for segment in prediction.segments
        ]
        colors = {label_of(segment): _color_of(prediction, segment) for segment in prediction.segments}
        return np.ascontiguousarray(prediction.image[::step, ::step]), masks, colors

    def attention(self, place: int) -> tuple[np.ndarray, str]:
        """Where the queries of a segment look, over the image, and a sentence about the segment.

        Args:
            place: of the segment among those shown.
        """
        prediction = self._chosen()
        segment = prediction.segments[place]
        heat = attention_of(self._predictor.model, self._seen.outputs, segment["queries"], self._seen.sizes)
        share = f"{100 * segment['area'] / prediction.image[..., 0].size:.1f} % of the image"
        queries = ", ".join(map(str, segment["queries"]))
        facts = f"{segment['area']:,} pixels, {share}; query {queries} in the decoder's last layer"
        return overlaid(prediction.image, heat), f"{label_of(segment)}: {facts}."

    def files(self) -> list[str]:
        """The map as a drawing, COCO panoptic (PNG and JSON) and CVAT's XML, in a folder that goes with this object."""
        prediction = self._chosen()
        folder, stem = self._folder, Path(prediction.name).stem
        drawing, content = folder / f"{stem}_drawing.png", prediction.panoptic_png()
        prediction.draw().save(drawing)
        png = write_whole(folder / f"{stem}.png", lambda file: file.write(content))
        panoptic = write_text(folder / f"{stem}_panoptic.json", json.dumps(prediction.to_coco()))
        height, width = prediction.size
        image = {"id": 1, "file_name": prediction.name, "width": width, "height": height}
        xml = xml_head(prediction.categories) + xml_image(image, xml_shapes(prediction)) + XML_TAIL
        return [str(path) for path in (drawing, png, panoptic, write_text(folder / f"{stem}_cvat.xml", xml))]

    def _chosen(self) -> Prediction:
        if self.prediction is None:
            raise ValueError("choose() comes first.")
        return self.prediction


def refuse_large(path: Path, limits: Limits) -> None:
    """Raises an :class:`ImageError` for a file that is no image or beyond the limits, before its pixels are read."""
    size = path.stat().st_size
    if size > limits.megabytes * 1_000_000:
        raise ImageError(f"{path.name} has {size / 1e6:.0f} MB; at most {limits.megabytes} are taken.")
    try:
        with path.open("rb") as file, open_image(file) as image:
            pixels = image.width * image.height
    except Image.DecompressionBombError as error:
        most = min(limits.megapixels, MOST_PIXELS // 1_000_000)
        raise ImageError(
            f"{path.name} has more than {MOST_PIXELS:,} pixels; at most {most} megapixels are taken."
        ) from error
    except Exception as error:  # decoders raise whatever they like on broken files
        raise ImageError(f"{path.name} isn't an image that can be read.") from error
    if pixels > limits.megapixels * 1_000_000:
        raise ImageError(f"{path.name} has {pixels / 1e6:.0f} megapixels; at most {limits.megapixels} are taken.")


def label_of(segment: Segment) -> str:
    """A segment's name and score; its number tells those of one class apart."""
    score = "" if segment["score"] is None else f" {100 * segment['score']:.0f} %"
    return f"{segment['category']} {segment['id']}{score}"


def _color_of(prediction: Prediction, segment: Segment) -> str:
    """The class's colour as ``#rrggbb``; a shade of it for each thing, to tell neighbours of one class apart."""
    color = prediction.categories[prediction.class_index(segment)].color
    return f"#{bytes(shade(color, segment['id']) if segment['isthing'] else color).hex()}"


def overlaid(image: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """The image in grey under a heat map (H, W) in 0..1; (H, W, 3) uint8, at most as large as a page shows it."""
    from matplotlib import colormaps

    step = max(-(-max(heat.shape) // _SHOWN_SIDE), 1)
    grey = np.asarray(Image.fromarray(image[::step, ::step]).convert("L"), dtype=np.float32)[..., None] / 255
    small = heat[::step, ::step]
    mixed = 0.45 * grey + 0.55 * colormaps["inferno"](small)[..., :3]
    return np.asarray((255 * mixed).astype(np.uint8))


def sentence_of(error: Exception) -> str:
    """What a page says of an error; of those that aren't the visitor's no more than that there was one."""
    return str(error) if isinstance(error, UserError) else "Something went wrong with this photo; try another one."
