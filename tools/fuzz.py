#!/usr/bin/env python
"""Gives every command damaged files, thousands of them, and looks at what it does.

Right is: exit code 0, 1 or 2 with a sentence; no traceback, no hang, no more memory or disk than allowed, nothing
written outside of the output folder, nothing in a file run, nobody called.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import os
import pkgutil
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MPLBACKEND="Agg", CUDA_VISIBLE_DEVICES="")
sys.path.insert(1, str(Path(__file__).resolve().parents[1]))  # train_net.py and demo.py

from fuzzing.cases import Case, Result, Running, make_case, make_whole_case
from fuzzing.examples import make_examples
from fuzzing.guard import Limits
from fuzzing.targets import TARGETS
from tqdm import tqdm

import detr_d2
from detr_d2.arguments import whole_number
from detr_d2.errors import USER_ERROR_EXIT_CODE, run_command
from detr_d2.files import write_json
from detr_d2.training.stopping import terminated_by_signal

EXAMPLES = """\
examples:
  python tools/fuzz.py                                  # 10,000 cases
  python tools/fuzz.py --cases 500 --target weights
  python tools/fuzz.py --seed 3 --case 1234 --keep found   # one case again, with all that it says

Ctrl-C and SIGTERM end it with the figures of the cases so far.
Exit code: 1 where something was found. The files of what was found are in --keep, a folder for each case.
"""
_BUSY = 0.002
#: So many cases of one finding are kept.
_KEPT = 3


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    number, limits = whole_number(0, 10**9), Limits()
    parser.add_argument("--cases", type=number, default=10_000, metavar="N", help="how many (default: %(default)s)")
    parser.add_argument("--first", type=number, default=0, metavar="N", help="number of the first (default: 0)")
    parser.add_argument("--case", type=number, metavar="N", help="only this one, with all that it says")
    parser.add_argument("--whole", action="store_true", help="each command once, on whole files; all have to succeed")
    parser.add_argument("--seed", type=number, default=0, metavar="N", help="another seed, other cases (default: 0)")
    parser.add_argument("--target", choices=list(TARGETS), help="only these files and commands")
    parser.add_argument("--workers", type=whole_number(1, 64), default=2, metavar="N", help="processes (default: 2)")
    parser.add_argument("--keep", type=Path, default=Path("fuzz_found"), metavar="DIR", help="(default: fuzz_found)")
    parser.add_argument(
        "--cpu-seconds", type=whole_number(1, 3600), default=limits.cpu_seconds, metavar="N", help="a case may take"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    return parser


def main() -> int:
    args = get_parser().parse_args()
    started = time.monotonic()
    import_everything()
    with tempfile.TemporaryDirectory(prefix="fuzz_") as name:
        folder = Path(name).resolve()
        make_examples(folder / "examples")
        gc.collect()
        gc.freeze()
        results = list[Result]()
        try:
            with terminated_by_signal():
                for result in run_cases(chosen_cases(args, folder / "examples"), folder, args):
                    results.append(result)
        except KeyboardInterrupt:
            if not results:
                raise
            print(f"Stopped after {len(results)} cases.", file=sys.stderr)
    for result in results if args.whole else ():
        result.kind = result.kind or ("refused" if result.code == USER_ERROR_EXIT_CODE else "")
    found = [result for result in results if result.kind]
    print(summary(results, time.monotonic() - started))
    if args.case is not None or found:
        print(describe(found if args.case is None else results))
    if args.json:
        write_json(args.json, figures(results))
    return 1 if found else 0


def chosen_cases(args: argparse.Namespace, examples: Path) -> list[Callable[[Path], Case]]:
    """What makes each case in its folder."""
    if args.whole:
        targets = [args.target] if args.target else list(TARGETS)
        commands = [(target, index) for target in targets for index in range(len(TARGETS[target].commands))]
        return [partial(make_whole_case, examples=examples, target=name, command=index) for name, index in commands]
    numbers = range(args.first, args.first + args.cases) if args.case is None else [args.case]
    return [partial(make_case, examples=examples, seed=args.seed, number=n, only=args.target) for n in numbers]


def import_everything() -> None:
    """What the cases' processes then needn't import one by one."""
    for module in pkgutil.walk_packages(detr_d2.__path__, "detr_d2."):
        if "fallback" not in module.name and not module.name.endswith("__main__"):
            try:
                importlib.import_module(module.name)
            except ImportError:  # of an extra that isn't installed
                continue
    for name in ("matplotlib.pyplot", "matplotlib.backends.backend_agg", "av", "train_net", "demo"):
        importlib.import_module(name)


def run_cases(cases: Sequence[Callable[[Path], Case]], folder: Path, args: argparse.Namespace) -> Iterator[Result]:
    """Runs the cases, so many at once, and keeps the files of those where something was found."""
    kept: Counter[tuple[str, str, str]] = Counter()
    for result, place in in_order(cases, folder, args):
        kind = (result.kind, result.case.target, result.place)
        kept[kind] += 1
        if (result.kind and kept[kind] <= _KEPT) or args.case is not None:
            target = args.keep / str(result.case.number)
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(place, target, symlinks=True, ignore=_special)
            write_json(target / "case.json", result.as_json())
        shutil.rmtree(place)
        yield result


def in_order(
    cases: Sequence[Callable[[Path], Case]], folder: Path, args: argparse.Namespace
) -> Iterator[tuple[Result, Path]]:
    """Each case's result and folder, as they finish."""
    limits = Limits(cpu_seconds=args.cpu_seconds)
    waiting, running = list(enumerate(cases))[::-1], list[Running]()
    try:
        with tqdm(total=len(cases), unit="case", disable=None) as bar:
            while waiting or running:
                while waiting and len(running) < args.workers:
                    place, make = waiting.pop()
                    running.append(Running(folder / "cases" / str(place), limits, make))
                for one in list(running):
                    result = one.finished()
                    if result is not None:
                        running.remove(one)
                        bar.update()
                        yield result, one.folder
                time.sleep(_BUSY)
    finally:
        for one in running:
            os.kill(one.process, signal.SIGKILL)
            os.waitpid(one.process, 0)


def _special(folder: str, names: list[str]) -> list[str]:
    """Pipes, sockets and devices, which can't be copied."""
    paths = {name: os.path.join(folder, name) for name in names}
    return [
        name
        for name, path in paths.items()
        if not (os.path.islink(path) or os.path.isfile(path) or os.path.isdir(path))
    ]


def summary(results: list[Result], seconds: float) -> str:
    """What was done and found, in some lines."""
    codes = Counter("none" if result.code is None else str(result.code) for result in results)
    found = Counter(result.kind for result in results if result.kind)
    slowest, largest = max(results, key=lambda one: one.seconds), max(results, key=lambda one: one.memory)
    return "\n".join(
        [
            f"{len(results)} cases in {seconds / 60:.1f} minutes, {sum(found.values())} with a finding "
            f"({', '.join(f'{kind}: {count}' for kind, count in found.items()) or 'none'})",
            f"exit codes: {', '.join(f'{code}: {count}' for code, count in sorted(codes.items()))}",
            f"processor time: {sum(result.seconds for result in results) / len(results):.2f} s a case",
            f"slowest: case {slowest.case.number} ({slowest.case.target}), {slowest.seconds:.1f} s of processor time",
            f"largest: case {largest.case.number} ({largest.case.target}), {largest.memory / 2**20:.0f} MiB",
        ]
    )


def describe(results: list[Result]) -> str:
    """The findings, each kind once, the most frequent first."""
    groups: dict[tuple[str, str], list[Result]] = {}
    for result in results:
        groups.setdefault((result.kind, result.place), []).append(result)
    parts = []
    for (kind, place), members in sorted(groups.items(), key=lambda item: -len(item[1])):
        first = members[0]
        numbers = ", ".join(str(member.case.number) for member in members[:5])
        text = f"\n{kind or 'fine'} at {place}: {len(members)} (cases {numbers})\n  {' '.join(first.case.command)}"
        parts.append("\n  ".join([text, *first.case.changes, *first.details.splitlines()]))
    return "\n".join(parts)


def figures(results: list[Result]) -> dict[str, object]:
    """Plain data: per target how many cases, findings, exit codes, and the largest of time and memory."""
    by_target: dict[str, list[Result]] = {}
    for result in results:
        by_target.setdefault(result.case.target, []).append(result)
    return {
        target: {
            "cases": len(members),
            "findings": dict(Counter(member.kind for member in members if member.kind)),
            "exit_codes": dict(Counter(str(member.code) for member in members)),
            "seconds_in_all": round(sum(member.seconds for member in members), 1),
            "seconds": round(max(member.seconds for member in members), 2),
            "memory": max(member.memory for member in members),
        }
        for target, members in sorted(by_target.items())
    }


if __name__ == "__main__":
    sys.exit(run_command(main))
