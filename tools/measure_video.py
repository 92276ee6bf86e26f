#!/usr/bin/env python
"""What tracking gives on videos of the yard: VPQ and id switches with ids that stay beside ids of single frames.

Window 1 is the panoptic quality of single frames, which tracking doesn't change; a window of 15 frames is right only
where an object has one id through all of them. A switch is a thing that is found under another id than before.
"""

from __future__ import annotations

import sys
import time
from typing import Any

from benchmarking.measure import machine
from benchmarking.report import deliver, get_parser, table, use_threads
from tqdm import tqdm

from detr_d2.arguments import whole_number
from detr_d2.errors import run_command
from detr_d2.evaluation.video_quality import VideoQuality, video_quality
from detr_d2.prediction import Predictor
from detr_d2.prediction.tiling import Segmented
from detr_d2.prediction.tracking import track
from detr_d2.yard import yard_video

EXAMPLES = """\
example, after the quickstart:
  python tools/measure_video.py runs/quickstart/stage2/model_final.pth --write docs/predict.md
"""
WINDOWS = (1, 5, 10, 15)


def main() -> int:
    parser = get_parser(__doc__, EXAMPLES)
    parser.add_argument("model", metavar="CHECKPOINT", help="a panoptic model of the yard, such as the quickstart's")
    parser.add_argument("--videos", type=whole_number(1, 100), default=4, metavar="N", help="(default: 4)")
    parser.add_argument("--frames", type=whole_number(1, 100_000), default=200, metavar="N", help="(default: 200)")
    args = parser.parse_args()
    use_threads(args.threads)
    predictor = Predictor(args.model, device="cpu")

    rows = [row for seed in range(args.videos) for row in measure(predictor, seed, args.frames)]
    title = f"Videos of {args.frames} frames of 160x128, {args.model}. {machine(args.threads)}."
    deliver("video", f"{title}\n\n{table(rows)}", {"machine": machine(args.threads), "rows": rows}, args)
    return 0


def measure(predictor: Predictor, seed: int, frames: int) -> list[dict[str, Any]]:
    """One row with ids of single frames, one with ids that stay, of the same predictions."""
    predictions: list[Segmented] = []
    for image, _, _ in tqdm(yard_video(frames, seed=seed), f"video {seed}", frames, unit="frame", disable=None):
        prediction = predictor(image)
        assert prediction.panoptic is not None
        predictions.append((prediction.panoptic, prediction.segments))
    start = time.perf_counter()
    tracked = list(track(predictions))
    seconds = time.perf_counter() - start
    kinds = {"of single frames": _judged(predictor, seed, predictions), "that stay": _judged(predictor, seed, tracked)}
    return [
        {
            "video": seed,
            "ids": ids,
            **{f"VPQ {window}, things": 100 * means["Things"].pq for window, means in quality.vpq.items()},
            "VPQ, all": 100 * quality.mean(),
            "switches": quality.id_switches,
            "of matches": quality.thing_matches,
            "tracking, ms a frame": 1000 * seconds / frames if ids == "that stay" else 0.0,
        }
        for ids, quality in kinds.items()
    ]


def _judged(predictor: Predictor, seed: int, labels: list[Segmented]) -> VideoQuality:
    true = ((ids, segments) for _, ids, segments in yard_video(len(labels), seed=seed))
    return video_quality(true, iter(labels), predictor.categories, WINDOWS)


if __name__ == "__main__":
    sys.exit(run_command(main))
