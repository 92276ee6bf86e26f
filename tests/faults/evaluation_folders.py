"""Files that the evaluation's commands read, written without detr_d2, and the command as a process of its own."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from detr_d2.cli import main
from detr_d2.errors import run_command as run_to_exit_code

PROJECT = Path(__file__).resolve().parents[2]
HEIGHT, WIDTH = 40, 60
CATEGORIES = [
    {"id": 7, "name": "cone", "isthing": 1},
    {"id": 5, "name": "drum", "isthing": 1},
    {"id": 3, "name": "sky", "isthing": 0},
    {"id": 9, "name": "ground", "isthing": 0},
]
#: Panoptic id of each class, in the order of the categories.
IDS = (2, 4, 1, 300)


def segment_map(shift: int) -> np.ndarray:
    """(H, W) int64: sky (1), ground (300), a cone (2) and a drum (4), the things moved to the right."""
    ids = np.ones((HEIGHT, WIDTH), dtype=np.int64)
    ids[20:] = 300
    ids[10:26, 5 + shift : 17 + shift] = 2
    ids[12:30, 25 + shift : 40 + shift] = 4
    return ids


def write_panoptic(folder: Path, name: str, images: int = 3, shift: int = 0, categories: Any = CATEGORIES) -> Path:
    """``NAME.json`` and its PNGs in ``NAME/``; returns the JSON's path."""
    (folder / name).mkdir(parents=True)
    annotations = []
    for number in range(images):
        ids = segment_map(number + shift)
        rgb = np.stack([ids % 256, ids // 256 % 256, ids // 256**2], axis=-1).astype(np.uint8)
        Image.fromarray(rgb).save(folder / name / f"{number}.png")
        segments = [
            {"id": i, "category_id": category["id"], "area": int((ids == i).sum()), "iscrowd": 0}
            for i, category in zip(IDS, categories)
        ]
        annotations.append({"image_id": number, "file_name": f"{number}.png", "segments_info": segments})
    sizes = [{"id": number, "file_name": f"{number}.jpg", "height": HEIGHT, "width": WIDTH} for number in range(images)]
    path = folder / f"{name}.json"
    path.write_text(json.dumps({"images": sizes, "annotations": annotations, "categories": categories}))
    return path


def write_evaluation(folder: Path, images: int = 3, shift: int = 2, **changes: Any) -> Path:
    """What ``--eval-only`` leaves of one dataset: ``records.jsonl`` and ``run.json``; returns the folder.

    Args:
        folder: to be made.
        images: how many.
        shift: pixels by which the prediction is off.
        changes: keys of ``run.json``.
    """
    folder.mkdir(parents=True)
    lines = [json.dumps(evaluation_record(number, shift)) for number in range(images)]
    (folder / "records.jsonl").write_text("\n".join(lines) + "\n")
    known = [{"id": c["id"], "name": c["name"], "is_thing": bool(c["isthing"]), "color": [9, 9, 9]} for c in CATEGORIES]
    run = {"dataset": "made_val", "weights": "model.pth", "categories": known, **changes}
    (folder / "run.json").write_text(json.dumps(run))
    return folder


def evaluation_record(number: int, shift: int) -> dict[str, Any]:
    """One line of ``records.jsonl``: everything is found, some pixels off."""
    return record_of_maps(number, segment_map(number), segment_map(number + shift))


def record_of_maps(number: int, ground_truth: np.ndarray, predicted: np.ndarray, score: float = 0.9) -> dict[str, Any]:
    """One line of ``records.jsonl``.

    Args:
        number: image id.
        ground_truth, predicted: (H, W) ids out of ``IDS``, or 0; an id's class is its place there.
        score: of every predicted segment.
    """
    pairs, pixels = np.unique(np.stack([ground_truth.ravel(), predicted.ravel()]), axis=1, return_counts=True)
    segments = [
        [{"id": i, "class": label, "area": int((ids == i).sum())} for label, i in enumerate(IDS) if (ids == i).any()]
        for ids in (ground_truth, predicted)
    ]
    return {
        **{"image_id": number, "file_name": f"{number}.jpg", "pan_seg_file_name": f"{number}.png"},
        **{"height": ground_truth.shape[0], "width": ground_truth.shape[1], "boundary_overlaps": None},
        "true": [segment | {"iscrowd": 0} for segment in segments[0]],
        "predicted": [segment | {"score": score} for segment in segments[1]],
        "overlaps": [[*pair, int(count)] for pair, count in zip(pairs.T.tolist(), pixels)],
    }


def write_metrics(folder: Path, lines: list[str] | None = None) -> Path:
    """A run's folder with a ``metrics.json`` of the lines, by default of a short training."""
    folder.mkdir(parents=True)
    default = [json.dumps({"iteration": i, "total_loss": 8 / (i + 1), "lr": 1e-4}) for i in range(0, 100, 20)]
    (folder / "metrics.json").write_text("\n".join(default if lines is None else lines) + "\n")
    return folder


def run_command(
    *words: str | os.PathLike[str],
    cwd: Path,
    environment: Mapping[str, str] | None = None,
    options: tuple[str, ...] = (),
    shell_prefix: str = "",
) -> subprocess.CompletedProcess[str]:
    """``detr-d2 WORDS`` as a process of its own.

    Args:
        words: of the command line.
        cwd: the working directory.
        environment: added to this process's.
        options: of the interpreter.
        shell_prefix: what a shell does first, such as ``ulimit -f 8``.
    """
    command = [sys.executable, *options, "-m", "detr_d2", *map(os.fspath, words)]
    if shell_prefix:
        command = ["sh", "-c", f'{shell_prefix}; exec "$@"', "sh", *command]
    known = {**os.environ, "PYTHONPATH": str(PROJECT), "MPLBACKEND": "Agg", **(environment or {})}
    return subprocess.run(command, cwd=cwd, env=known, capture_output=True, text=True, errors="replace")


def run_here(*words: str | os.PathLike[str], cwd: Path) -> subprocess.CompletedProcess[str]:
    """``detr-d2 WORDS`` in this process, which is faster; what no user may see is raised."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
    err.reconfigure(errors="backslashreplace")
    before = os.getcwd()
    os.chdir(cwd)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = run_to_exit_code(lambda: main([os.fspath(word) for word in words]))
    finally:
        os.chdir(before)
    texts = [stream.buffer.getvalue().decode() for stream in (out, err)]  # type: ignore[attr-defined]
    return subprocess.CompletedProcess(list(words), code, *texts)


def assert_one_sentence(done: subprocess.CompletedProcess[str], *parts: str) -> None:
    """Exit code 2, one message and no traceback; the message has these parts."""
    assert done.returncode == 2, f"exit code {done.returncode}: {done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr, done.stderr
    assert done.stderr.count("error:") == 1, done.stderr
    for part in parts:
        assert part in done.stderr, f"{part!r} isn't in: {done.stderr}"
