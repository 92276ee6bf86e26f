#!/usr/bin/env python
"""Panoptic inference, image in and panoptic map out: ours and its peers in one process, with the same weights.

Prints seconds and peak memory of each, how many times those of ours they are, and how far ours is from their masks;
and how near ours is to the time that its convolutions and matrix products take alone on this machine.
"""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarking.accelerations import Built, compare_accelerations
from benchmarking.floor import floor_seconds
from benchmarking.inference import Implementation, changed_pixels, huggingface, mask_difference, ours, reference
from benchmarking.measure import in_fresh_process, machine, peak_above_now, seconds_interleaved, synchronizer
from benchmarking.models import Setting, share_weights
from benchmarking.report import HUGGINGFACE, OURS, REFERENCE, compared, comparison_parser, deliver, table, use_threads

from detr_d2.errors import run_command

VARIANTS = {
    "detr_d2, bfloat16": ("MODEL.DETR.INFERENCE_DTYPE", "bfloat16"),
    "detr_d2, compiled backbone": ("MODEL.DETR.COMPILE_BACKBONE", "True"),
}


def main() -> int:
    parser = comparison_parser(__doc__, "benchmark_inference.py", (800, 1066))
    parser.add_argument("--kept", type=int, default=15, metavar="N", help="segments in the map (default: 15)")
    parser.add_argument("--queries", type=int, default=100, metavar="N", help="(default: 100)")
    args = parser.parse_args()
    setting = Setting(*args.size, queries=args.queries, kept=args.kept, device=args.device)
    if args.short:
        setting = Setting(96, 130, classes=20, queries=10, kept=3, small=True, device=args.device)
    title = (
        f"One image of {setting.height}×{setting.width}, ResNet-50, {setting.queries} queries, {setting.kept} kept, "
        f"fp32, the same random weights; median of {args.repeats} rounds. {machine(args.threads, args.device)}."
    )
    if args.accelerations:
        use_threads(args.threads)
        rows = accelerations(setting, args.repeats)
        figures = {"setting": vars(setting), "machine": machine(args.threads, args.device), "rows": rows}
        deliver("benchmark_inference_accelerations", f"{title}\n\n{table(rows)}", figures, args)
        return 0
    names = compared(args, VARIANTS)
    use_threads(args.threads)

    rows = compare(names, setting, args.repeats, args.reference)
    for row in rows:
        row["MiB"] = in_fresh_process(peak_memory, row["name"], setting, args.threads, args.reference)
    figures = {"setting": vars(setting), "machine": machine(args.threads, args.device), "rows": rows}
    words = table([_in_words(row, rows[0]) for row in rows])
    deliver("benchmark_inference", f"{title}\n\n{words}\n\n{_floor_in_words(rows[0])}", figures, args)
    return 0


def build(name: str, setting: Setting, clone: Path | None) -> Implementation:
    """The implementation of that name, with random weights."""
    if name == HUGGINGFACE:
        return huggingface(setting)
    if name == REFERENCE:
        assert clone is not None
        return reference(clone, setting)
    return ours(setting, *VARIANTS.get(name, ()))


def accelerations(setting: Setting, repeats: int) -> list[dict]:
    """Processor seconds of ours with each acceleration off."""

    def build(chosen: tuple[str, ...]) -> Built:
        implementation = ours(setting, accelerations=chosen)
        return implementation.model, implementation.panoptic

    return compare_accelerations(build, repeats)


def compare(names: list[str], setting: Setting, repeats: int, clone: Path | None) -> list[dict]:
    """Seconds of each, taking turns, and what its masks differ from those of ours; the first row has ours' floor."""
    built = {name: build(name, setting, clone) for name in names}
    for name in names:
        if name != HUGGINGFACE:
            share_weights(built[HUGGINGFACE].model, built[name].model)
    synchronize = synchronizer(setting.device)
    runs = {name: each.panoptic for name, each in built.items()}
    seconds = seconds_interleaved(runs, repeats, synchronize=synchronize)
    floor, products = floor_seconds(built[OURS].panoptic, repeats, synchronize)
    masks = built[OURS].masks()
    rows = []
    for name in names:
        others = built[name].masks()
        changed = changed_pixels(masks, others, setting)
        rows.append(
            {"name": name, "seconds": seconds[name], "difference": mask_difference(masks, others), "changed": changed}
        )
    rows[0] |= {"floor": floor, "products": products}
    return rows


def peak_memory(name: str, setting: Setting, threads: int, clone: Path | None) -> float:
    """MiB above the loaded model at the peak of one run, in this process."""
    use_threads(threads)
    return peak_above_now(build(name, setting, clone).panoptic, setting.device)


def _floor_in_words(row: dict) -> str:
    """How near ``row`` is to what its convolutions and products take."""
    return (
        f"The {row['products']} convolutions and matrix products of {row['name']}, each measured alone in the same "
        f"process, take {row['floor']:.3g} s together; all takes {row['seconds'] / row['floor']:.3g} times as long."
    )


def _in_words(row: dict, first: dict) -> dict:
    """A row of the table; ``first`` is ours."""
    return {
        "panoptic inference": row["name"],
        "seconds": row["seconds"],
        "× ours": row["seconds"] / first["seconds"],
        "peak MiB above the model": round(row["MiB"]),
        "× ours ": row["MiB"] / first["MiB"],
        "largest difference of mask logits, per their spread": row["difference"],
        "pixels of another segment, ties aside": row["changed"],
    }


if __name__ == "__main__":
    sys.exit(run_command(main))
