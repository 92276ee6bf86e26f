"""``detr-d2 explain``: how a model comes to its result for an image, as a page and single figures."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from detr_d2.arguments import add_opts, number, whole_number
from detr_d2.data import dataset_metadata
from detr_d2.errors import USER_ERROR_EXIT_CODE, ConfigError, MissingFileError
from detr_d2.files import real_path
from detr_d2.progress import progress
from detr_d2.wording import counted

from ..image_files import FoundImage, find_inputs
from ..images import ImageError
from ..predictor import Predictor
from ..running import read_found
from .canvas import Drawn
from .explaining import explain
from .page import write_explanation
from .query_figures import collect_boxes, places_figure

_EPILOG = """\
examples:
  detr-d2 explain output/detr_panoptic_R50/model_final.pth site.jpg --out explain
  detr-d2 explain detr-r50-panoptic street.jpg --point 320,200 --point 80,410 --layer 4 --opts MODEL.DEVICE cpu
  detr-d2 explain model_final.pth site.jpg photos/ --out explain   # and where each query finds things in all of photos/

Each image gets a folder in --out with explain.html, which needs no other file, and every figure as a PNG. A folder, a
zip or a list of images adds where each query's boxes lie over all of them; with a folder alone its first image is
explained.
docs/explain.md tells the whole way, from the encoded image to the argmax.
"""
_POINT = re.compile(r"(\d{1,6}),(\d{1,6})")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command and its arguments to ``parser``."""
    parser.description = "Show how a model comes to its result for an image: features, attention, queries, masks."
    parser.epilog = _EPILOG
    parser.add_argument(
        "checkpoint", metavar="CHECKPOINT", help="a model_final.pth, a folder of Hugging Face, or a published name"
    )
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="images to explain; folders for the queries' places")
    parser.add_argument("--out", type=Path, default=Path("explain"), metavar="DIR", help="(default: explain)")
    parser.add_argument(
        "--point",
        type=_point,
        action="append",
        default=[],
        metavar="X,Y",
        help="a pixel of the image from which the encoder looks; may be given again (default: centres of objects)",
    )
    parser.add_argument(
        "--layer",
        type=whole_number(1, 99),
        metavar="N",
        help="decoder layer whose attention is shown (default: the last)",
    )
    parser.add_argument(
        "--most", type=whole_number(1, 999), default=30, metavar="N", help="explain at most N queries (default: 30)"
    )
    parser.add_argument(
        "--score-threshold",
        type=number(0, 1, "a number between 0 and 1"),
        metavar="P",
        help="least score of a query (default: the checkpoint's)",
    )
    parser.add_argument(
        "--max-size",
        type=whole_number(32, 9999),
        metavar="N",
        help="most pixels of the longer side; less takes less memory (default: the checkpoint's)",
    )
    add_opts(parser, "changes to the model's config")


def run(args: argparse.Namespace) -> int:
    """Explain the images and say where the pages are."""
    explained, folder, complaints = _inputs(args)
    if args.out.exists() and not args.out.is_dir():
        raise ConfigError(f"--out {args.out} is a file; name a folder.")
    predictor = Predictor(args.checkpoint, score_threshold=args.score_threshold, max_size=args.max_size, opts=args.opts)
    layer = _layer_index(predictor, args.layer)
    skipped: list[str] = []
    places = _places(predictor, folder, skipped) if folder else None
    for image in explained:
        try:
            original, _ = read_found(image)
        except ImageError as error:
            skipped.append(str(error))
            continue
        tensor, shown = network_image(predictor, original)
        points = [_scaled(point, original, shown, str(image)) for point in args.point]
        explanation = explain(predictor.model, tensor, shown, layer=layer, most=args.most)
        metadata = dataset_metadata(predictor.cfg.DATASETS.TEST[0])
        page = write_explanation(explanation, metadata, args.out / image.stem, points, places)
        print(f"{page}: {counted(len(explanation.queries), 'query', 'queries')} of {image}", flush=True)
    for complaint in dict.fromkeys(skipped):
        print(f"skipped: {complaint}", file=sys.stderr)
    return USER_ERROR_EXIT_CODE if skipped or complaints else 0


def _inputs(args: argparse.Namespace) -> tuple[list[FoundImage], list[FoundImage], list[str]]:
    """The images to explain; those of folders, zips and lists; and what can't be used, which is said at once."""
    many = [entry for entry in args.images if Path(entry).is_dir() or entry.lower().endswith((".zip", ".txt"))]
    out = real_path(args.out)
    # Figures of an earlier run are no photos; but --out may also be the folder around the photos.
    leave_out = [] if any(real_path(entry).is_relative_to(out) for entry in many) else [out]
    single = find_inputs([entry for entry in args.images if entry not in many])
    folders = find_inputs(many, leave_out)
    complaints = [*single.complaints, *folders.complaints]
    complaints += [f"{path}: a video; 'detr-d2 predict' takes it." for path in [*single.videos, *folders.videos]]
    for complaint in complaints:
        print(f"skipped: {complaint}", file=sys.stderr)
    explained = single.images or folders.images[:1]
    if not explained:
        raise MissingFileError(f"{' '.join(args.images)} names no image; see above.")
    return explained, folders.images, complaints


def network_image(predictor: Predictor, image: np.ndarray) -> tuple[Tensor, np.ndarray]:
    """An image as the model takes it, (3, H, W), and the same to be looked at, (H, W, 3) uint8 RGB.

    Args:
        predictor: that knows the model's size and order of channels.
        image: (H', W', 3) uint8 RGB.
    """
    given: Tensor = predictor.model_input(image)["image"]
    shown = given.permute(1, 2, 0).numpy()
    return given, np.ascontiguousarray(shown if predictor.cfg.INPUT.FORMAT == "RGB" else shown[:, :, ::-1])


def _places(predictor: Predictor, images: Sequence[FoundImage], skipped: list[str]) -> Drawn | None:
    """The queries over a folder; None where none of its images can be read."""

    def tensors() -> Iterator[Tensor]:
        for image in progress(images, len(images), "image"):
            try:
                yield network_image(predictor, read_found(image)[0])[0]
            except ImageError as error:
                skipped.append(str(error))

    boxes = collect_boxes(predictor.model, tensors())
    return places_figure(boxes) if len(boxes) else None


def _layer_index(predictor: Predictor, layer: int | None) -> int | None:
    layers = len(predictor.model.detr.transformer.decoder.layers)
    if layer is not None and layer > layers:
        raise ConfigError(f"--layer {layer}: this model has {layers} decoder layers; allowed are 1 to {layers}.")
    return None if layer is None else layer - 1


def _point(text: str) -> tuple[int, int]:
    """The ``type`` of ``--point``."""
    found = _POINT.fullmatch(text.replace(" ", ""))
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} isn't X,Y in pixels of the image, such as 320,200")
    return int(found[1]), int(found[2])


def _scaled(point: tuple[int, int], image: np.ndarray, shown: np.ndarray, name: str) -> tuple[float, float]:
    """The middle of a pixel of the original image, in pixels of the image at network size."""
    height, width = image.shape[:2]
    if point[0] >= width or point[1] >= height:
        raise ConfigError(
            f"--point {point[0]},{point[1]} lies outside of {name}, which is {width} pixels wide and {height} high; "
            f"allowed are 0 to {width - 1} and 0 to {height - 1}."
        )
    return (point[0] + 0.5) * shown.shape[1] / width, (point[1] + 0.5) * shown.shape[0] / height
