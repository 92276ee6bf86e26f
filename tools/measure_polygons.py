#!/usr/bin/env python
"""What masks lose when they become polygons for CVAT: IoU by tolerance, on the yard's scenes."""

from __future__ import annotations

import argparse

import numpy as np

import detr_d2  # noqa: F401
from detr_d2.arguments import whole_number
from detr_d2.labels.polygons import outlines_of, polygons_mask
from detr_d2.yard.scene import make_scene

EXAMPLE = "example: python tools/measure_polygons.py --scenes 50 --width 320 --height 256"


def losses(scenes: int, width: int, height: int, tolerance: float) -> tuple[float, float, float]:
    """Mean and least IoU of the segments with what their polygons show, and the mean number of points of a segment."""
    ious, points = list[float](), list[float]()
    for index in range(scenes):
        scene = make_scene(index, width=width, height=height)
        masks = [scene.segments == number for number in range(len(scene.names))]
        masks = [mask for mask in masks if mask.any()]
        outlines = outlines_of(masks, tolerance)
        painted = np.full(scene.segments.shape, -1)
        for outline in outlines:
            painted[polygons_mask([outline.ring], height, width)] = outline.segment
        for segment, mask in enumerate(masks):
            shown = painted == segment
            ious.append(float((mask & shown).sum() / (mask | shown).sum()))
            points.append(sum(len(one.ring) for one in outlines if one.segment == segment) / 2)
    return float(np.mean(ious)), min(ious), float(np.mean(points))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLE)
    for name, default in (("scenes", 50), ("width", 320), ("height", 256)):
        parser.add_argument(f"--{name}", type=whole_number(1, 100_000), default=default, metavar="N")
    args = parser.parse_args()
    print("| tolerance, pixels | mean IoU | least IoU | points a segment |\n|---|---|---|---|")
    for tolerance in (0, 0.5, 1, 2, 4):
        mean, least, points = losses(args.scenes, args.width, args.height, tolerance)
        print(f"| {tolerance:g} | {mean:.4f} | {least:.3f} | {points:.0f} |", flush=True)


if __name__ == "__main__":
    main()
