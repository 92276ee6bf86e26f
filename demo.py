#!/usr/bin/env python
"""Draw what a trained model sees in any photo: the panoptic map, or boxes where the model has no mask head."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from detr_d2.arguments import add_opts, number
from detr_d2.checkpoint import config_of, read_weights
from detr_d2.config import load_config
from detr_d2.data import register_from_config
from detr_d2.errors import USER_ERROR_EXIT_CODE, ConfigError, MissingFileError, run_command
from detr_d2.files import real_path
from detr_d2.prediction import Predictor
from detr_d2.prediction.image_files import drawing_paths, find_inputs
from detr_d2.prediction.predictor import config_changes
from detr_d2.prediction.running import WholeImages, predict_each
from detr_d2.prediction.tracking import MEMORY
from detr_d2.prediction.video import predict_camera, predict_video
from detr_d2.prediction.video_files import open_video, result_suffix
from detr_d2.visualization import save_image

from detectron2.config import CfgNode
from detectron2.utils.logger import setup_logger

EXAMPLE = """\
examples:
  python demo.py --weights output/detr_panoptic_R50/model_final.pth --input site.jpg 'photos/*.jpg' --output drawn
  python demo.py --weights detr-r50-panoptic --input street.jpg --output drawn --opts MODEL.DEVICE cpu
  python demo.py --config-file runs/quickstart/stage2/config.yaml --input photos --output drawn \\
      --confidence-threshold 0.7 --opts MODEL.WEIGHTS runs/quickstart/stage2/model_final.pth
  python demo.py --weights model_final.pth --video-input site.mp4 --output drawn

--weights alone is enough: a checkpoint says what it is. With --config-file names and colours are those of the config's
DATASETS.TEST. What can't be read is named and skipped; the exit code is then 2. 'detr-d2 predict' writes more than
drawings.
"""


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--weights",
        metavar="FILE",
        help="the model: a checkpoint, a folder of Hugging Face, an address or a short name such as detr-r50-panoptic",
    )
    parser.add_argument("--config-file", metavar="FILE", help="the config it was trained with, if not the weights' own")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--input", nargs="+", metavar="PATH", help="images, folders, patterns such as 'folder/*.jpg'")
    source.add_argument("--video-input", type=Path, metavar="FILE", help="a video, whose result is a drawn video")
    source.add_argument("--webcam", action="store_true", help="what the first camera sees, until Ctrl-C")
    parser.add_argument(
        "--output",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder for the results, made if it isn't there; or, for one image or video, a new .jpg, .png or .mp4",
    )
    parser.add_argument(
        "--confidence-threshold",
        type=number(0, 1, "a number between 0 and 1"),
        metavar="P",
        help="least score of a segment or box to be shown, 0 to 1 (default: the config's MODEL.DETR.SCORE_THRESHOLD)",
    )
    add_opts(parser, "changes to the config")
    return parser


def setup_cfg(args: argparse.Namespace) -> CfgNode:
    """The config with the command line's changes, its datasets registered; without one, the weights' own."""
    opts = [*args.opts, *config_changes(score_threshold=args.confidence_threshold)]
    if args.config_file:
        weights = ["MODEL.WEIGHTS", args.weights] if args.weights else []
        cfg = load_config(args.config_file, [*weights, *opts])
    elif args.weights:
        cfg = config_of(read_weights(args.weights), opts)
    else:
        raise ConfigError("Nothing says which model to use. Give --weights FILE, or --config-file FILE.")
    cfg.freeze()
    register_from_config(cfg)
    return cfg


def draw_images(args: argparse.Namespace) -> int:
    """Draws what ``--input`` names, and returns the exit code."""
    found = find_inputs(args.input)
    for complaint in found.complaints:
        print(f"skipped: {complaint}", file=sys.stderr)
    if not found.images:
        raise MissingFileError(f"--input {' '.join(args.input)} names no image; see above.")
    paths = dict(zip(found.images, drawing_paths(found.images, args.output)))
    engine = WholeImages(Predictor.from_config(setup_cfg(args)))
    written = [path for _, path in predict_each(engine, found.images, lambda i, p: save_image(p.draw(), paths[i]))]
    drawn = sum(path is not None for path in written)
    print(f"{drawn} of {len(written)} images drawn: {args.output}")
    return USER_ERROR_EXIT_CODE if drawn < len(written) or found.complaints else 0


def draw_video(args: argparse.Namespace) -> int:
    """Draws what ``--video-input`` names, and returns the exit code."""
    with open_video(args.video_input) as video:
        is_file = args.output.suffix.lower() in (".mp4", ".mkv") and not args.output.is_dir()
        target = args.output if is_file else args.output / f"{args.video_input.stem}{result_suffix(video)}"
        if real_path(target) == real_path(args.video_input):
            raise ConfigError(f"{target} is the video itself and would be replaced; name another --output.")
        found = predict_video(Predictor.from_config(setup_cfg(args)), video, target)
    print(f"{found.frames} frames drawn, {found.frames / max(found.seconds, 1e-9):.1f} a second: {target}")
    return 0


def main() -> int:
    args = get_parser().parse_args()
    setup_logger(name="fvcore")
    setup_logger(name="detr_d2", abbrev_name="detr_d2")
    logging.getLogger("fvcore").setLevel(logging.WARNING)
    if args.webcam:
        predict_camera(Predictor.from_config(setup_cfg(args)), "0", args.output, [], MEMORY)
        return 0
    return draw_video(args) if args.video_input else draw_images(args)


if __name__ == "__main__":
    sys.exit(run_command(main))
