"""``detr-d2 replay``: a training step whose losses weren't finite, run again."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping

EPILOG = """\
examples:
  detr-d2 replay output/detr_R50/diverged/iteration_0001234_process_0.pth
  detr-d2 replay output/detr_R50/diverged/iteration_0001234_process_0.pth --device cpu --json

A training that diverges writes the file: the batch, the weights, the random numbers of dropout. Shown are the losses
and the gradients' norms by part of the model, as they were and as they are now, and the first module whose output isn't
finite. The losses are those of the process's own batch. Exit code 1: they aren't what they were, as may be on another
device or with another version of torch. The file also is a checkpoint, which 'detr-d2 weights' describes.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.description = "Run a training step again whose losses weren't finite."
    parser.epilog = EPILOG
    parser.add_argument("file", metavar="FILE", help="that the training has written to OUTPUT_DIR/diverged")
    parser.add_argument("--device", default="", help="cpu, cuda, cuda:1 (default: a GPU if there is one)")
    parser.add_argument("--json", action="store_true", help="write JSON; numbers that aren't finite are texts")


def run(args: argparse.Namespace) -> int:
    """Runs the step and prints what came."""
    from detr_d2.training.saved_step import diagnose, read_step

    model, step = read_step(args.file, args.device)
    then, now = step.diagnosis, diagnose(model, step.batch, step.random_state, step.autocast)
    names = [str(item.get("file_name", "?")) for item in step.batch]
    is_same = _same(then.losses, now.losses) and then.first == now.first and then.problem == now.problem
    is_same = is_same and _not_finite(then.gradient_norms) == _not_finite(now.gradient_norms)
    if args.json:
        runs = {
            when: {
                "losses": {name: _json(value) for name, value in each.losses.items()},
                "gradient_norms": {name: _json(value) for name, value in each.gradient_norms.items()},
                "first_module": each.first,
                "problem": each.problem,
            }
            for when, each in (("then", then), ("now", now))
        }
        head = {"iteration": step.iteration, "process": step.process, "images": names, "same": is_same}
        print(json.dumps(head | runs, indent=1, allow_nan=False))
        return 0 if is_same else 1
    print(f"iteration {step.iteration}, process {step.process}, images: {', '.join(names)}")
    for text in dict.fromkeys(filter(None, (then.problem, now.problem))):
        print(f"{text}.")
    _print_table("loss", then.losses, now.losses)
    _print_table("norm of the gradients", then.gradient_norms, now.gradient_norms)
    print(f"first module whose output isn't finite: {now.first or 'none'}")
    print(
        "the same as in the training" if is_same else f"NOT the same as in the training (then: {then.first or 'none'})"
    )
    return 0 if is_same else 1


def _same(then: Mapping[str, float], now: Mapping[str, float]) -> bool:
    """Whether the same numbers are finite, and those are equal but for rounding."""
    return then.keys() == now.keys() and all(
        math.isclose(value, now[name], rel_tol=1e-3, abs_tol=1e-6)
        or (not math.isfinite(value) and str(value) == str(now[name]))
        for name, value in then.items()
    )


def _not_finite(norms: Mapping[str, float]) -> list[str]:
    """Parts of the model whose gradients aren't finite; other norms round differently from one machine to the next."""
    return [part for part, norm in norms.items() if not math.isfinite(norm)]


def _json(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)


def _print_table(title: str, then: Mapping[str, float], now: Mapping[str, float]) -> None:
    from tabulate import tabulate

    rows = [[name, then.get(name), now.get(name)] for name in {**then, **now}]
    if rows:
        print(tabulate(rows, headers=[title, "then", "now"], floatfmt=".6g"), end="\n\n")
