#!/usr/bin/env python
"""Draw the rooms of detr_d2 and what they import, from the code and the layers of pyproject.toml.

python tools/draw_architecture.py --output docs/images/architecture.png
"""

from __future__ import annotations

import argparse
import ast
import io
import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.patches import FancyBboxPatch

from detr_d2.errors import run_command
from detr_d2.files import write_whole

PROJECT = Path(__file__).resolve().parents[1]
PACKAGE = "detr_d2"
WIDTH = 10.0
SWINGS = (0.0, 3.0, -3.0, 1.5, -1.5)
#: The two hops from the command to the maths.
TRAIN_NET = "train_net.py"
HOPS = {(TRAIN_NET, "meta_arch"), ("meta_arch", "modeling")}
#: Nearly all import them, so that arrows to them would say nothing.
BELOW_ALL = {"config", "files", "errors"}


def layers(pyproject: Path) -> list[list[str]]:
    """Rooms from the top to the bottom, as import-linter's contract has them; those of one layer together."""
    found = re.search(r"^layers = \[(.*?)^\]", pyproject.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    if found is None:
        raise ValueError(f"{pyproject} has no contract with layers.")
    return [re.split(r"\s*:\s*", line) for line in re.findall(r'"([^"]+)"', found[1])]


def imports(folder: Path, rooms: Sequence[str]) -> Counter[tuple[str, str]]:
    """How many imports there are from one room to another."""
    found: Counter[tuple[str, str]] = Counter()
    for path in sorted(folder.rglob("*.py")):
        module = (folder.name, *path.relative_to(folder).with_suffix("").parts)
        for target in _imported(path, module):
            if len(target) > 1 and target[0] == folder.name and module[1] != target[1]:
                found[module[1], target[1]] += 1
    shown = {room for room in rooms if room not in BELOW_ALL}
    return Counter({pair: count for pair, count in found.items() if set(pair) <= shown}) + Counter(HOPS)


def _imported(path: Path, module: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Modules that a file imports from, as parts of their names."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            name = tuple(node.module.split(".")) if node.module else ()
            yield (*module[: -node.level], *name) if node.level else name


def lines_of(folder: Path, room: str) -> int:
    """Lines of Python in a room."""
    if room == TRAIN_NET:
        paths = [folder.parent / room]
    else:
        paths = [*(folder / room).rglob("*.py")] or [folder / f"{room}.py"]
    return sum(len(path.read_text(encoding="utf-8").splitlines()) for path in paths)


def draw(found: list[list[str]], arrows: Counter[tuple[str, str]], folder: Path) -> bytes:
    """A PNG: a row for each layer, a box for each room, an arrow for each pair of rooms with imports."""
    figure, axes = plt.subplots(figsize=(WIDTH, 0.85 * len(found) + 0.8), dpi=110)
    points: dict[str, tuple[float, float]] = {}
    for row, rooms in enumerate(found):
        # Rows with one room swing to and fro, so that arrows past them are seen.
        swing = SWINGS[row % len(SWINGS)] if len(rooms) == 1 else 0.0
        for column, room in enumerate(rooms):
            points[room] = (WIDTH * (column + 0.5) / len(rooms) + swing, -float(row))
    most = max(arrows.values(), default=1)
    for (source, target), count in sorted(arrows.items()):
        (x, y), (to_x, to_y) = points[source], points[target]
        is_hop = (source, target) in HOPS
        look = {"color": "#c0392b", "lw": 2.0} if is_hop else {"color": "#aab4bd", "lw": 0.8 + 2.4 * count / most}
        style = {"arrowstyle": "-|>", "connectionstyle": "arc3,rad=0.12", **look}
        axes.annotate("", (to_x, to_y + 0.27), (x, y - 0.27), arrowprops=style, zorder=1)
    for room, (x, y) in points.items():
        box = FancyBboxPatch((x - 0.82, y - 0.25), 1.64, 0.5, "round,pad=0.02", fc="#eaf2f8", ec="#1b4f72", zorder=2)
        axes.add_patch(box)
        axes.text(x, y + 0.06, room, ha="center", va="center", fontsize=9, weight="bold", zorder=3)
        axes.text(x, y - 0.14, f"{lines_of(folder, room):,} lines", ha="center", va="center", fontsize=6.5, zorder=3)
    axes.set(xlim=(-0.2, WIDTH + 0.2), ylim=(-len(found) + 0.4, 0.6))
    axes.axis("off")
    buffer = io.BytesIO()
    figure.savefig(buffer, bbox_inches="tight")
    plt.close(figure)
    return buffer.getvalue()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=PROJECT / "docs" / "images" / "architecture.png", metavar="PNG")
    args = parser.parse_args(arguments)
    folder, found = PROJECT / PACKAGE, layers(PROJECT / "pyproject.toml")
    found[0].append(TRAIN_NET)
    drawn = draw(found, imports(folder, [room for row in found for room in row]), folder)
    write_whole(args.output, lambda file: file.write(drawn))
    print(f"drawn: {args.output}")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
