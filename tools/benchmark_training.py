#!/usr/bin/env python
"""A training step of the mask head alone, and of everything: ours and its peers in one process, with the same weights.

The peers compute the masks of all queries, ours those of the matched ones. Prints seconds and peak memory of each, how
many times those of ours they are, and how far its mask losses are from those of ours.
"""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarking.accelerations import Built, compare_accelerations
from benchmarking.measure import in_fresh_process, machine, peak_above_now, seconds_interleaved, synchronizer
from benchmarking.models import Setting, share_weights
from benchmarking.report import HUGGINGFACE, OURS, REFERENCE, compared, comparison_parser, deliver, table, use_threads
from benchmarking.training import Step, huggingface, ours, reference

from detr_d2.errors import run_command

VARIANTS = {
    "detr_d2, masks recomputed": ("MODEL.DETR.MASK_CHECKPOINT", "True"),
    "detr_d2, masks at 12,544 points": ("MODEL.DETR.MASK_POINTS", "12544"),
    "detr_d2, bfloat16": ("MODEL.DETR.TRAINING_DTYPE", "bfloat16"),
    "detr_d2, compiled backbone": ("MODEL.DETR.COMPILE_BACKBONE", "True"),
}
STAGES = {"stage 2: the mask head on a frozen detector": True, "joint: detector and mask head": False}


def main() -> int:
    parser = comparison_parser(__doc__, "benchmark_training.py", (480, 640))
    parser.add_argument("--targets", type=int, default=10, metavar="N", help="segments an image (default: 10)")
    parser.add_argument("--batch", type=int, default=1, metavar="N", help="images (default: 1)")
    args = parser.parse_args()
    setting, targets = Setting(*args.size, batch=args.batch, device=args.device), args.targets
    if args.short:
        setting, targets = Setting(96, 130, classes=20, queries=10, small=True, device=args.device), 3
    names = compared(args, VARIANTS)
    use_threads(args.threads)

    parts, figures = [], {}
    for stage, frozen in STAGES.items():
        if args.accelerations:
            figures[stage] = accelerations(setting, targets, frozen, args.repeats)
            parts.append(f"{stage.capitalize()}:\n\n{table(figures[stage])}")
            continue
        rows = compare(names, setting, targets, frozen, args.repeats, args.reference)
        for row in rows:
            arguments = (row["name"], setting, targets, frozen, args.threads, args.reference)
            row["MiB"] = in_fresh_process(peak_memory, *arguments)
        figures[stage] = rows
        parts.append(table([_in_words(stage, row, rows[0]) for row in rows]))
    title = (
        f"A step of {setting.batch}×3×{setting.height}×{setting.width}, ResNet-50, {targets} targets an image, "
        f"{setting.queries} queries, fp32, AdamW, no dropout, the same random weights; "
        f"median of {args.repeats} rounds. {machine(args.threads, args.device)}."
    )
    all_figures = {
        "setting": vars(setting),
        "targets": targets,
        "machine": machine(args.threads, args.device),
        "stages": figures,
    }
    name = "benchmark_training_accelerations" if args.accelerations else "benchmark_training"
    deliver(name, "\n\n".join([title, *parts]), all_figures, args)
    return 0


def build(name: str, setting: Setting, targets: int, frozen: bool, clone: Path | None) -> Step:
    """The implementation of that name, with random weights."""
    if name == HUGGINGFACE:
        return huggingface(setting, targets, frozen)
    if name == REFERENCE:
        assert clone is not None
        return reference(clone, setting, targets, frozen)
    return ours(setting, targets, frozen, *VARIANTS.get(name, ()))


def accelerations(setting: Setting, targets: int, frozen: bool, repeats: int) -> list[dict]:
    """Processor seconds of a step of ours with each acceleration off."""

    def build(chosen: tuple[str, ...]) -> Built:
        step = ours(setting, targets, frozen, accelerations=chosen)
        return step.model, step.run

    return compare_accelerations(build, repeats)


def compare(
    names: list[str], setting: Setting, targets: int, frozen: bool, repeats: int, clone: Path | None
) -> list[dict]:
    """Seconds of each, taking turns, and what its first losses differ from those of ours."""
    steps = {name: build(name, setting, targets, frozen, clone) for name in names}
    for name in names:
        if name != HUGGINGFACE:
            share_weights(steps[HUGGINGFACE].model, steps[name].model)
    losses = {name: step.run() for name, step in steps.items()}
    runs = {name: step.run for name, step in steps.items()}
    seconds = seconds_interleaved(runs, repeats, synchronize=synchronizer(setting.device))
    return [
        {
            "name": name,
            "seconds": seconds[name],
            "losses": losses[name],
            "difference": max(abs(losses[name][key] / losses[OURS][key] - 1) for key in losses[OURS]),
        }
        for name in names
    ]


def peak_memory(name: str, setting: Setting, targets: int, frozen: bool, threads: int, clone: Path | None) -> float:
    """MiB above the loaded model at the peak of two steps, in this process; gradients and optimizer included."""
    use_threads(threads)
    step = build(name, setting, targets, frozen, clone)
    return peak_above_now(lambda: (step.run(), step.run()), setting.device)


def _in_words(stage: str, row: dict, first: dict) -> dict:
    """A row of the table; ``first`` is ours."""
    return {
        stage: row["name"],
        "seconds": row["seconds"],
        "× ours": row["seconds"] / first["seconds"],
        "peak MiB above the model": round(row["MiB"]),
        "× ours ": row["MiB"] / first["MiB"],
        "mask losses, relative difference": row["difference"],
    }


if __name__ == "__main__":
    sys.exit(run_command(main))
