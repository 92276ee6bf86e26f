"""``detr-d2 app``: a page on which anybody can try a model."""

from __future__ import annotations

import argparse
import sys

from detr_d2.arguments import whole_number
from detr_d2.errors import ConfigError
from detr_d2.prediction.app.page import build_page, gradio, serve
from detr_d2.prediction.app.session import Limits
from detr_d2.prediction.image_files import find_inputs
from detr_d2.prediction.predictor import Predictor

_EPILOG = """\
examples:
  detr-d2 app model_final.pth --examples photos/
  detr-d2 app model_final.pth --address 0.0.0.0 --port 8080 --max-megapixels 20    # for everybody in the network

Needs Gradio: pip install 'detr_d2[app]'. The page is for this machine only (127.0.0.1) unless --address says otherwise;
nothing is sent to anybody else, and what is uploaded is deleted within an hour or two.
"""
_MOST_EXAMPLES = 8


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command and its arguments to ``parser``."""
    parser.description = "Serve a page on which photos can be dropped and what the model sees in them be looked at."
    parser.epilog = _EPILOG
    parser.add_argument(
        "model", metavar="CHECKPOINT", help="a panoptic model_final.pth, or a name of published weights"
    )
    parser.add_argument("--examples", nargs="+", default=[], metavar="PATH", help="images or folders to choose from")
    parser.add_argument("--address", default="127.0.0.1", help="on which it listens (default: 127.0.0.1)")
    parser.add_argument(
        "--port", type=whole_number(1, 65535), metavar="N", help="(default: the first free one from 7860)"
    )
    parser.add_argument("--device", metavar="NAME", help="such as cpu or cuda:1 (default: a GPU if there is one)")
    limits, size = Limits(), whole_number(1, 10_000)
    parser.add_argument(
        "--max-megabytes", type=size, default=limits.megabytes, metavar="N", help="of a file (default: %(default)s)"
    )
    parser.add_argument(
        "--max-megapixels", type=size, default=limits.megapixels, metavar="N", help="of an image (default: %(default)s)"
    )


def run(args: argparse.Namespace) -> int:
    """Serves until Ctrl-C."""
    gradio()  # or the model is loaded for nothing
    predictor = Predictor(args.model, device=args.device)
    if not predictor.has_masks:
        raise ConfigError(f"{args.model} has no mask head, only boxes; the page needs a panoptic model (stage 2).")
    found = find_inputs(args.examples)
    for complaint in found.complaints:
        print(f"skipped: {complaint}", file=sys.stderr)
    examples = [image.file.path for image in found.images if image.file.member is None][:_MOST_EXAMPLES]
    limits = Limits(args.max_megabytes, args.max_megapixels)
    page = build_page(predictor, limits, examples)
    serve(page, args.address, args.port, limits, examples)
    return 0
