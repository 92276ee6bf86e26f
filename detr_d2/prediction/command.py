"""``detr-d2 predict``: what a model sees in images, folders and lists of them."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from tqdm import tqdm

from detr_d2.arguments import add_opts, number, whole_number
from detr_d2.errors import USER_ERROR_EXIT_CODE, MissingFileError
from detr_d2.prediction.image_files import find_images, result_paths
from detr_d2.prediction.images import ImageError
from detr_d2.prediction.predictor import Predictor
from detr_d2.visualization import save_picture

_EPILOG = """\
examples:
  detr-d2 predict model_final.pth photos/ --out results
  detr-d2 predict model_final.pth 'site/**/*.jpg' --out results --score-threshold 0.7 --classes brick,sand
  detr-d2 predict detr-r50-panoptic street.jpg --out results --device cpu

The checkpoint alone is enough: it knows its classes, colours and thresholds. What can't be read is named and skipped;
the exit code is then 2.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command and its arguments to ``parser``."""
    parser.description = "Predict images with a trained model; write drawings and files for other programs."
    parser.epilog = _EPILOG
    parser.add_argument("model", metavar="CHECKPOINT", help="a model_final.pth, or a name such as detr-r50-panoptic")
    parser.add_argument("inputs", nargs="*", metavar="INPUT", help="images, folders, patterns such as 'site/**/*.jpg'")
    parser.add_argument("--out", default="results", metavar="DIR", help="folder of the results (default: results)")
    probability = number(0, 1, "a number between 0 and 1")
    parser.add_argument("--score-threshold", type=probability, metavar="P", help="least score, default: the model's")
    parser.add_argument("--overlap-threshold", type=probability, metavar="P", help="default: the model's")
    parser.add_argument("--classes", default="", metavar="A,B", help="only these classes (default: all)")
    parser.add_argument(
        "--max-size", type=whole_number(32, 100_000), metavar="N", help="pixels of the long side for the network"
    )
    parser.add_argument("--device", metavar="NAME", help="such as cpu or cuda:1 (default: a GPU if there is one)")
    add_opts(parser, "changes to the model's config")


def run(args: argparse.Namespace) -> int:
    """Predict what ``args`` name and say what was written."""
    logging.getLogger("fvcore").setLevel(logging.WARNING)
    found = find_images(args.inputs)
    for complaint in found.complaints:
        print(f"skipped: {complaint}", file=sys.stderr)
    if not found.paths:
        raise MissingFileError(f"{' '.join(args.inputs)} names no image; see above.")
    results = result_paths(found.paths, Path(args.out))
    skipped = predict_files(build_predictor(args), found.paths, results)
    print(f"{len(results) - skipped} of {len(results)} images predicted: {args.out}")
    return USER_ERROR_EXIT_CODE if skipped or found.complaints else 0


def build_predictor(args: argparse.Namespace) -> Predictor:
    """The predictor that the arguments describe."""
    return Predictor(
        args.model,
        device=args.device,
        score_threshold=args.score_threshold,
        overlap_threshold=args.overlap_threshold,
        classes=[name for name in args.classes.split(",") if name],
        max_size=args.max_size,
        opts=args.opts,
    )


def predict_files(predictor: Predictor, images: list[Path], results: list[Path]) -> int:
    """Predicts, draws and writes image by image; returns how many couldn't be read."""
    skipped = 0
    for image, result in zip(tqdm(images, unit="image", disable=None), results):
        try:
            prediction = predictor(image)
        except ImageError as error:
            tqdm.write(f"skipped: {error}", file=sys.stderr)
            skipped += 1
            continue
        save_picture(prediction.draw(), result)
    return skipped
