"""What is fuzzed: examples, which of their files are changed, and the commands that read them."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from detr_d2 import cli
from detr_d2.prediction.app.session import Choices, Limits, SeenPhoto
from detr_d2.prediction.predictor import Predictor

#: Stands in a command for the folder of the inputs, and for that of the outputs.
IN, OUT = "{in}", "{out}"
_TRAINING = (
    *("SOLVER.MAX_ITER", "1", "SOLVER.IMS_PER_BATCH", "1", "DATALOADER.NUM_WORKERS", "0", "MODEL.DEVICE", "cpu"),
    *("OUTPUT_DIR", OUT),
)
_MODEL, _RUN = f"{IN}/model/model_final.pth", f"{IN}/run"
_CPU = ("--device", "cpu")


@dataclass(frozen=True)
class Target:
    """Commands that read the same files.

    Args:
        examples: folders and files of the examples that a case gets a copy of.
        changed: patterns of the files that are changed, below the copy.
        commands: each a program's name, its arguments, and perhaps more arguments, of which some are left out.
        weight: how often it has its turn.
        patience: how many times as long as others it may take.
        reads_outside: the files may name any other file, which is then read, as configs and lists do.
    """

    examples: tuple[str, ...]
    changed: tuple[str, ...]
    commands: tuple[tuple[str, ...], ...]
    weight: int = 4
    patience: int = 1
    reads_outside: bool = False


def _check(*words: str) -> tuple[str, ...]:
    return ("detr-d2", "check", *words, "--workers", "1")


def _prepare(*words: str) -> tuple[str, ...]:
    return ("detr-d2", "prepare", *words, "--out", f"{OUT}/made", "--workers", "1", "--val", "0.5")


def _predict(*words: str) -> tuple[str, ...]:
    return ("detr-d2", "predict", _MODEL, *words, "--out", f"{OUT}/results", *_CPU)


TARGETS: dict[str, Target] = {
    "check": Target(
        ("yard",),
        ("yard/**/*.*",),
        (
            _check(f"{IN}/yard"),
            _check(f"{IN}/yard", "--quick"),
            _check(f"{IN}/yard/register.yaml", "--json", f"{OUT}/faults.json"),
            _check(f"{IN}/yard/panoptic_val.json", "--json", "-"),
            _check(f"{IN}/yard/instances_train.json"),
        ),
        12,
    ),
    "fix": Target(("yard",), ("yard/**/*.*",), (_check(f"{IN}/yard", "--fix", f"{OUT}/fixed"),), 6),
    "check-exports": Target(
        ("exports", "xml", "masks", "zips"),
        ("exports/cvat/**/*.*", "xml/**/*.*", "masks/**/*.*", "zips/*"),
        (
            _check(f"{IN}/exports/cvat"),
            _check(f"{IN}/xml"),
            _check(f"{IN}/masks"),
            _check(f"{IN}/zips"),
            _check(f"{IN}/zips/coco.zip", "--fix", f"{OUT}/fixed"),
            _check(f"{IN}/xml/annotations.xml"),
        ),
        10,
    ),
    "prepare": Target(
        ("exports", "xml", "masks", "zips"),
        ("exports/cvat/**/*.*", "exports/stuff/**/*.*", "xml/**/*.*", "masks/**/*.*", "zips/*"),
        (
            _prepare("--cvat", f"{IN}/exports/cvat", "--stuff", "masks", f"{IN}/exports/stuff"),
            _prepare("--cvat", f"{IN}/exports/cvat", "--overlap", "last", "--jpeg"),
            _prepare("--cvat", f"{IN}/xml"),
            _prepare("--cvat", f"{IN}/masks", "--stuff", "misc"),
            _prepare("--cvat", f"{IN}/zips"),
            _prepare("--cvat", f"{IN}/zips/coco.zip", "--link"),
        ),
        10,
    ),
    "prepare-lists": Target(
        ("exports", "configs", "predicted", "yard"),
        ("configs/classes.yaml", "configs/categories.json", "predicted/**/*.*", "yard/*.json"),
        (
            _prepare("--cvat", f"{IN}/exports/cvat", "--classes", f"{IN}/configs/classes.yaml"),
            _prepare("--cvat", f"{IN}/exports/cvat", "--categories", f"{IN}/configs/categories.json"),
            _prepare("--cvat", f"{IN}/exports/cvat", "--only-changed", f"{IN}/predicted"),
            _prepare("--coco", f"{IN}/yard", "--coco-things", "keep"),
        ),
        3,
    ),
    "pq": Target(
        ("yard", "exports"),
        ("yard/panoptic_*.json", "yard/panoptic/*.png"),
        (
            ("detr-d2", "pq", "--gt", f"{IN}/yard/panoptic_val.json", "--pred", f"{IN}/yard/panoptic_val.json")
            + ("--gt-folder", f"{IN}/yard/panoptic", "--pred-folder", f"{IN}/yard/panoptic", "--per-class")
            + ("--json", f"{OUT}/pq.json", "--csv", f"{OUT}/pq.csv", "--bootstrap", "10"),
            ("detr-d2", "pq", "--gt", f"{IN}/yard/panoptic_val.json", "--pred", f"{IN}/yard/panoptic_train.json")
            + ("--gt-folder", f"{IN}/yard/panoptic", "--pred-folder", f"{IN}/yard/panoptic", "--allow-missing"),
        ),
        8,
    ),
    "browse": Target(
        ("yard",),
        ("yard/**/*.*",),
        (
            ("detr-d2", "browse", f"{IN}/yard", "--out", f"{OUT}/page", "--opts", "MODEL.DEVICE", "cpu"),
            ("detr-d2", "browse", f"{IN}/yard/register.yaml", "--augmented", "--limit", "2", "--out", f"{OUT}/page"),
        ),
        5,
    ),
    "report": Target(
        ("run", "yard"),
        ("run/inference/yard_val/*.*", "run/inference/yard_val/records.jsonl", "run/inference/yard_val/run.json"),
        (
            ("detr-d2", "report", _RUN, "--output", f"{OUT}/report", "--resamples", "10"),
            ("detr-d2", "compare", _RUN, f"again={IN}/run/inference/yard_val", "--page", f"{OUT}/compare.html")
            + ("--json", f"{OUT}/compare.json", "--resamples", "10"),
        ),
        8,
    ),
    "plot": Target(
        ("run",),
        ("run/metrics.json", "run/evaluations.jsonl", "run/config.yaml"),
        (
            ("detr-d2", "plot", _RUN, "--out", f"{OUT}/curves.html"),
            ("detr-d2", "plot", f"a={_RUN}/metrics.json", f"b={_RUN}", "--out", f"{OUT}/curves.png", "--smooth", "3"),
        ),
        5,
    ),
    "weights": Target(
        ("weights",),
        ("weights/**/*.*", "weights/*.pth"),
        (
            ("detr-d2", "convert-weights", f"{IN}/weights/ours.pth", f"{OUT}/made.pth"),
            *(
                ("detr-d2", "weights", f"{IN}/weights/{name}", "--json")
                for name in ("ours.pth", "old.pth", "arrays.pkl", "huggingface", "huggingface/model.safetensors")
            ),
            ("detr-d2", "weights", f"{IN}/weights/huggingface/model.safetensors.index.json"),
        ),
        12,
    ),
    "model": Target(
        ("model", "inputs", "yard"),
        ("model/model_final.pth",),
        (
            ("detr-d2", "predict", _MODEL, f"{IN}/inputs/photos/0.jpg", "--out", f"{OUT}/results", *_CPU),
            ("detr-d2", "sweep", _MODEL, "--register", f"{IN}/yard/register.yaml", "--dataset", "yard_val")
            + (
                "--store",
                f"{OUT}/tuned.pth",
                "--scores",
                "0.5",
                "--overlaps",
                "0.5",
                "--opts",
                "DATALOADER.NUM_WORKERS",
                "0",
            ),
            ("demo.py", "--weights", _MODEL, "--input", f"{IN}/inputs/photos/0.jpg", "--output", f"{OUT}/drawn"),
        ),
        6,
    ),
    "export": Target(
        ("model", "run", "yard"),
        ("model/model_final.pth", "run/config.yaml"),
        (
            ("detr-d2", "export", _MODEL, f"{OUT}/model.pt2"),
            ("detr-d2", "export", _MODEL, f"{OUT}/model.onnx", "--config-file", f"{IN}/run/config.yaml"),
        ),
        1,
        patience=12,
        reads_outside=True,
    ),
    "predict": Target(
        ("model", "inputs"),
        ("inputs/photos/*.*", "inputs/photos.zip"),
        (
            _predict(f"{IN}/inputs/photos", "--write", "all"),
            _predict(f"{IN}/inputs/photos.zip"),
            _predict(f"{IN}/inputs/photos", "--tile", "32"),
            _predict(f"{IN}/inputs/photos", "--rank"),
            ("app", _MODEL, f"{IN}/inputs/photos"),
            ("detr-d2", "explain", _MODEL, f"{IN}/inputs/photos/0.jpg", "--out", f"{OUT}/why", "--most", "2"),
        ),
        10,
    ),
    "lists": Target(
        ("model", "inputs"),
        ("inputs/list.txt",),
        (_predict(f"@{IN}/inputs/list.txt"), _predict(f"{IN}/inputs/list.txt")),
        3,
        reads_outside=True,
    ),
    "video": Target(("model", "inputs"), ("inputs/video.mp4",), (_predict(f"{IN}/inputs/video.mp4"),), 4),
    "journal": Target(
        ("model", "inputs", "predicted"),
        ("predicted/journal.jsonl",),
        (
            ("detr-d2", "predict", _MODEL, f"{IN}/inputs/photos", "--out", f"{IN}/predicted", "--write", "all", *_CPU),
            ("detr-d2", "predict", _MODEL, f"{IN}/inputs/photos", "--out", f"{IN}/predicted", "--overwrite", *_CPU),
        ),
        5,
    ),
    "config": Target(
        ("configs",),
        ("configs/config.yaml", "configs/base.yaml", "configs/yard/register.yaml"),
        (
            ("train_net.py", "--config-file", f"{IN}/configs/config.yaml", *_TRAINING),
            ("detr-d2", "browse", f"{IN}/configs/yard", "--config-file", f"{IN}/configs/config.yaml", "--augmented")
            + ("--out", f"{OUT}/page", "--limit", "1"),
        ),
        8,
        reads_outside=True,
    ),
    "train": Target(
        ("configs",),
        ("configs/yard/**/*.*",),
        (("train_net.py", "--config-file", f"{IN}/configs/config.yaml", *_TRAINING),),
        4,
    ),
    "resume": Target(
        ("run", "yard"),
        ("run/last_checkpoint", "run/model_0000001.pth", "run/model_final.pth", "run/metrics.json", "run/config.yaml"),
        (
            ("train_net.py", "--config-file", f"{IN}/run/config.yaml", "--resume", *_TRAINING[:-1], _RUN),
            (
                "train_net.py",
                "--config-file",
                f"{IN}/run/config.yaml",
                "--eval-only",
                "--resume",
                *_TRAINING[:-1],
                _RUN,
            ),
        ),
        3,
        reads_outside=True,
    ),
    "replay": Target(
        ("diverged",),
        ("diverged/step.pth",),
        (
            ("detr-d2", "replay", f"{IN}/diverged/step.pth", *_CPU),
            ("detr-d2", "replay", f"{IN}/diverged/step.pth", "--json", *_CPU),
        ),
        4,
    ),
}


def choose_target(rng: random.Random, only: str | None = None) -> str:
    """The name of a target, each as often as it weighs."""
    return only or rng.choices(list(TARGETS), [target.weight for target in TARGETS.values()])[0]


def run_program(program: str, words: list[str]) -> int:
    """Runs one of the programs in this process, as from a shell.

    Args:
        program: ``detr-d2``, ``train_net.py``, ``demo.py`` or ``app``, which stands for a visit to its page.
        words: its arguments.

    Returns:
        Its exit code.
    """
    sys.argv = [program, *words]
    return _PROGRAMS[program](words)


def _train(words: list[str]) -> int:
    import train_net

    return train_net.invoke_main()


def _demo(words: list[str]) -> int:
    import demo

    return demo.main()


def _visit(words: list[str]) -> int:
    """Uploads each image of a folder, chooses, points and downloads."""
    model, folder = words
    predictor = Predictor(model, device="cpu")
    for path in sorted(Path(folder).iterdir()):
        seen = SeenPhoto(predictor, path, Limits(megabytes=1, megapixels=1))
        prediction = seen.choose(Choices(0.1, 0.0, 1, tuple(category.name for category in predictor.categories)))
        seen.shown()
        if prediction.segments:
            seen.attention(0)
        for made in seen.files():
            os.stat(made)
    return 0


_PROGRAMS: dict[str, Callable[[list[str]], int]] = {
    "detr-d2": cli.main,
    "train_net.py": _train,
    "demo.py": _demo,
    "app": _visit,
}
