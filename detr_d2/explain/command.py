"""``detr-d2 explain``: how a model comes to its result for an image, as a page and single figures."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from detr_d2.arguments import add_opts, number, whole_number
from detr_d2.checkpoint import load_model
from detr_d2.data import dataset_metadata
from detr_d2.data.augmentation import ResizeShortestEdge
from detr_d2.errors import USER_ERROR_EXIT_CODE, ConfigError, MissingFileError
from detr_d2.meta_arch import DetrPanoptic
from detr_d2.picture_files import PictureError, find_pictures, numbered_names, read_picture
from detr_d2.progress import progress

from detectron2.config import CfgNode

from .canvas import Drawn
from .explaining import explain
from .page import write_explanation
from .query_places import collect_boxes, places_figure

_EPILOG = """\
examples:
  detr-d2 explain output/detr_panoptic_R50/model_final.pth site.jpg --out explain
  detr-d2 explain detr-r50-panoptic street.jpg --point 320,200 --point 80,410 --layer 4 --opts MODEL.DEVICE cpu
  detr-d2 explain model_final.pth site.jpg photos/ --out explain   # and where each query finds things in all of photos/

Each image gets a folder in --out with explain.html, which needs no other file, and every figure as a PNG. A folder of
images adds where each query's boxes lie over all of them; with a folder alone its first image is explained.
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
    found = find_pictures([entry for entry in args.images if not Path(entry).is_dir()])
    folders = find_pictures([entry for entry in args.images if Path(entry).is_dir()])
    complaints = [*found.complaints, *folders.complaints]
    for complaint in complaints:
        print(f"skipped: {complaint}", file=sys.stderr)
    explained = found.paths or folders.paths[:1]
    if not explained:
        raise MissingFileError(f"{' '.join(args.images)} names no image; see above.")
    if args.out.exists() and not args.out.is_dir():
        raise ConfigError(f"--out {args.out} is a file; name a folder.")
    model, cfg = load_model(args.checkpoint, _overrides(args))
    layer = _layer_index(model, args.layer)
    skipped: list[str] = []
    places = _places(model, cfg, folders.paths, skipped) if folders.paths else None
    metadata = dataset_metadata(cfg.DATASETS.TEST[0])
    for path, name in zip(explained, numbered_names([path.stem for path in explained]), strict=True):
        try:
            original = read_picture(path)
        except PictureError as error:
            skipped.append(str(error))
            continue
        points = [_scaled(point, original, cfg, path) for point in args.point]
        explanation = explain(model, *network_image(original, cfg), layer=layer, most=args.most)
        page = write_explanation(explanation, metadata, args.out / name, points, places)
        print(f"{page}: {len(explanation.queries)} queries of {path}")
    for complaint in skipped:
        print(f"skipped: {complaint}", file=sys.stderr)
    return USER_ERROR_EXIT_CODE if skipped or complaints else 0


def network_image(image_bgr: np.ndarray, cfg: CfgNode) -> tuple[Tensor, np.ndarray]:
    """An image as the model takes it, (3, H, W) float32 in 0..255, and the same as (H, W, 3) uint8 RGB.

    Args:
        image_bgr: (H', W', 3) uint8.
        cfg: the model's config.
    """
    resize = ResizeShortestEdge([cfg.INPUT.MIN_SIZE_TEST] * 2, cfg.INPUT.MAX_SIZE_TEST)
    resized = resize.get_transform(image_bgr).apply_image(image_bgr)
    rgb = np.ascontiguousarray(resized[:, :, ::-1])
    given = rgb if cfg.INPUT.FORMAT == "RGB" else resized
    return torch.as_tensor(np.ascontiguousarray(given.transpose(2, 0, 1)).astype(np.float32)), rgb


def _places(model: DetrPanoptic, cfg: CfgNode, paths: Sequence[Path], skipped: list[str]) -> Drawn | None:
    """The queries over a folder; None where none of its images can be read."""

    def images() -> Iterator[Tensor]:
        for path in progress(paths, len(paths), "image"):
            try:
                yield network_image(read_picture(path), cfg)[0]
            except PictureError as error:
                skipped.append(str(error))

    boxes = collect_boxes(model, images())
    return places_figure(boxes) if len(boxes) else None


def _overrides(args: argparse.Namespace) -> list[str]:
    overrides = list(args.opts)
    if args.score_threshold is not None:
        overrides += [
            "MODEL.DETR.SCORE_THRESHOLD",
            str(args.score_threshold),
            "MODEL.DETR.CLASS_SCORE_THRESHOLDS",
            "()",
        ]
    if args.max_size is not None:
        overrides += ["INPUT.MAX_SIZE_TEST", str(args.max_size)]
    return overrides


def _layer_index(model: DetrPanoptic, layer: int | None) -> int | None:
    layers = len(model.detr.transformer.decoder.layers)
    if layer is not None and layer > layers:
        raise ConfigError(f"--layer {layer}: this model has {layers} decoder layers; allowed are 1 to {layers}.")
    return None if layer is None else layer - 1


def _point(text: str) -> tuple[int, int]:
    """The ``type`` of ``--point``."""
    found = _POINT.fullmatch(text.replace(" ", ""))
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} isn't X,Y in pixels of the image, such as 320,200")
    return int(found[1]), int(found[2])


def _scaled(point: tuple[int, int], image: np.ndarray, cfg: CfgNode, path: Path) -> tuple[float, float]:
    """A point of the original image at network size."""
    height, width = image.shape[:2]
    if point[0] >= width or point[1] >= height:
        raise ConfigError(
            f"--point {point[0]},{point[1]} lies outside of {path}, which is {width} pixels wide and {height} high; "
            f"allowed are 0 to {width - 1} and 0 to {height - 1}."
        )
    resize = ResizeShortestEdge([cfg.INPUT.MIN_SIZE_TEST] * 2, cfg.INPUT.MAX_SIZE_TEST).get_transform(image)
    x, y = resize.apply_coords(np.array([[point[0] + 0.5, point[1] + 0.5]]))[0]
    return float(x), float(y)
