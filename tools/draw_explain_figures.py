#!/usr/bin/env python
"""Draws the figures of docs/explain.md from the quickstart's model: 'make quickstart' first, then this."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from PIL import Image

from detr_d2.errors import run_command
from detr_d2.files import write_whole
from detr_d2.prediction import Predictor
from detr_d2.prediction.explain import detector_figures as detector
from detr_d2.prediction.explain import explain
from detr_d2.prediction.explain import mask_figures as mask
from detr_d2.prediction.explain.canvas import Drawn
from detr_d2.prediction.explain.command import network_image
from detr_d2.prediction.explain.explaining import Explanation, won_and_lost
from detr_d2.prediction.explain.query_figures import collect_boxes, match_result, matching_figure, places_figure
from detr_d2.prediction.images import read_image

QUICKSTART = Path("runs/quickstart")
WIDTH, COLORS = 880, 256  # so that all of them together stay small in the repository


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", default=str(QUICKSTART / "stage2" / "model_final.pth"), metavar="FILE")
    parser.add_argument("--image", type=Path, default=QUICKSTART / "yard/images/north_gate/0002.jpg", metavar="FILE")
    parser.add_argument("--images", type=Path, default=QUICKSTART / "yard" / "images", metavar="DIR", help="for places")
    parser.add_argument("--object", default="brick_stack", metavar="CLASS", help="whose way is shown")
    parser.add_argument("--out", type=Path, default=Path("docs/images"), metavar="DIR", help="(default: docs/images)")
    args = parser.parse_args()
    predictor = Predictor(args.weights, device="cpu")
    explanation = explain(predictor.model, *network_image(predictor, read_image(args.image)))
    paths = sorted(args.images.rglob("*.jpg"))[:200]
    boxes = collect_boxes(predictor.model, (network_image(predictor, read_image(path))[0] for path in paths))
    for name, drawn in (figures(explanation, args.object) | {"places": places_figure(boxes)}).items():
        path = args.out / f"explain_{name}.png"
        print(f"{save(drawn, path)}: {path.stat().st_size // 1024} KiB. {drawn.alt}")
    return 0


def figures(explanation: Explanation, class_name: str) -> dict[str, Drawn]:
    """Those that the document shows; where they are of one query, of the first of a class that is in the map."""
    queries = explanation.queries
    number = next(n for n, query in enumerate(queries) if query.category.name == class_name and query.segment)
    return {
        "backbone": detector.backbone_figure(explanation),
        "query": detector.query_figure(explanation, number),
        "active": detector.active_figure(explanation),
        "steps": mask.fpn_figure(explanation, number),
        "argmax": mask.argmax_figure(explanation, won_and_lost(explanation)),
        "matching": matching_figure(match_result(explanation)),
    }


def save(drawn: Drawn, path: Path) -> Path:
    """A figure of few colours and moderate width, as PNG."""
    image = Image.fromarray(drawn.image)
    image = image.resize((WIDTH, round(image.height * WIDTH / image.width)), Image.Resampling.LANCZOS)
    few = image.quantize(COLORS, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    return write_whole(path, lambda file: few.save(file, "PNG", optimize=True))


if __name__ == "__main__":
    sys.exit(run_command(main))
