"""What the tests of ``detr-d2 prepare`` share: exports of a few images, and the command as users call it."""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from detr_d2.cli import main
from detr_d2.errors import run_command

WIDTH, HEIGHT = 48, 40
_ROOT = Path(__file__).resolve().parent.parent.parent
#: Of prctl, and the two capabilities by which root reads what it has no permission for.
_DROP, _OVERRIDES = 24, (1, 2)
#: Seconds that a process may take; far more than it needs.
_LONGEST = 300
#: Bytes that what is tested may take.
_MEMORY = 3 * 2**30


def prepare(*words: str | Path, workers: int = 1) -> int:
    """Runs ``detr-d2 prepare`` in this process; its exit code."""
    return run_command(lambda: main(["prepare", *map(str, words), "--workers", str(workers)]))


def check(*words: str | Path) -> int:
    """Runs ``detr-d2 check`` in this process; its exit code."""
    return run_command(lambda: main(["check", *map(str, words), "--workers", "1"]))


def command(*words: str | Path) -> list[str]:
    """``detr-d2`` as a process of its own."""
    code = (
        "import sys; from detr_d2.cli import main; from detr_d2.errors import run_command; sys.exit(run_command(main))"
    )
    return [sys.executable, "-c", code, *map(str, words)]


def environment() -> dict[str, str]:
    """What such a process needs."""
    paths = os.pathsep.join([str(_ROOT), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}


def run_without_privileges(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """Runs ``detr-d2`` as a process that permissions hold for, even where the tests are root's."""
    drop = _drop_overrides if os.geteuid() == 0 else None
    return _run(words, drop)


def _run(words: Sequence[str | Path], begin: Callable[[], None] | None) -> subprocess.CompletedProcess[str]:
    """``begin`` runs first in the process, which is ended where it would wait for ever."""
    return subprocess.run(
        command(*words),
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=begin,
        timeout=_LONGEST,
    )


def _drop_overrides() -> None:
    libc = ctypes.CDLL(None)
    for capability in _OVERRIDES:
        libc.prctl(_DROP, capability, 0, 0, 0)


def box_ring(left: float, top: float, right: float, bottom: float) -> list[float]:
    """A rectangle as a polygon."""
    return [left, top, right, top, right, bottom, left, bottom]


def annotation(number: int, image_id: int, rings: Sequence[list[float]], **changed: Any) -> dict[str, Any]:
    """An object of the first class whose area is that of its first ring."""
    x, y = rings[0][::2], rings[0][1::2]
    width, height = max(x) - min(x), max(y) - min(y)
    entry: dict[str, Any] = {"id": number, "image_id": image_id, "category_id": 1, "iscrowd": 0}
    box = {"segmentation": list(rings), "area": width * height, "bbox": [min(x), min(y), width, height]}
    return {**entry, **box, **changed}


def coco(names: Sequence[str], annotations: Sequence[dict[str, Any]], classes: Sequence[str] = ("brick",)) -> Any:
    """The content of a COCO JSON of images of the usual size, whose ids count from 1."""
    images = [
        {"id": number, "file_name": name, "width": WIDTH, "height": HEIGHT} for number, name in enumerate(names, 1)
    ]
    categories = [{"id": number, "name": name} for number, name in enumerate(classes, 1)]
    return {"images": images, "annotations": list(annotations), "categories": categories}


def write_image(path: Path, seed: int = 0) -> Path:
    """An image that looks like no other one of another seed."""
    rough = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rough).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC).save(path)
    return path


def write_export(folder: Path, count: int = 3, seed: int = 0, **changed: Any) -> Path:
    """An export "COCO 1.0" of images ``0.jpg`` and so on with an object each; ``changed`` is for its JSON."""
    names = [f"{number}.jpg" for number in range(count)]
    objects = [annotation(number, number, [box_ring(4, 4, 20 + number % 7, 24)]) for number in range(1, count + 1)]
    for number, name in enumerate(names):
        write_image(folder / "images" / name, 1000 * seed + number)
    (folder / "coco.json").write_text(json.dumps({**coco(names, objects), **changed}))
    return folder


def read_json(path: Path) -> Any:
    """The content of a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def leftovers(folder: Path) -> list[str]:
    """Names of the hidden files and folders that are in a folder."""
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("."))


@contextmanager
def within(seconds: int) -> Iterator[None]:
    """Ends what would wait for ever, or read until memory ends, so that a test of that fails."""

    def too_long(*_: object) -> None:
        raise AssertionError(f"it took more than {seconds} seconds")

    before = signal.signal(signal.SIGALRM, too_long)
    limits = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + _MEMORY, limits[1]))
    signal.alarm(seconds)
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def prepare_until_disk_is_full(*words: str | Path, most_bytes: int) -> subprocess.CompletedProcess[str]:
    """Runs ``detr-d2 prepare`` where no file can have more than so many bytes, as on a disk that is full."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))

    return _run(("prepare", *words, "--workers", "1"), limit)
