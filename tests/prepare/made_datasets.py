"""Exports that were never files, and datasets prepared of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from detr_d2.labels.records import Box, ClassRecord, Export, FileRef, ImageRecord, Label
from detr_d2.prepare.options import PrepareOptions
from detr_d2.prepare.pipeline import prepare
from detr_d2.prepare.stuff import build_policy

NAMES = ("pipe", "drum")
WIDTH, HEIGHT = 48, 40


def make_export(folder: Path, name: str, count: int = 6, seed: int = 0) -> Export:
    """An export of pictures that all look different, each with a label or two."""
    chance = np.random.default_rng(seed)
    (folder / name).mkdir(parents=True, exist_ok=True)
    pictures = []
    for number in range(count):
        path = folder / name / f"{number}.jpg"
        if not path.exists():
            rough = Image.fromarray(chance.integers(0, 256, (5, 6, 3), np.uint8))
            rough.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC).save(path)
        labels = [Label(NAMES[number % 2], Box(4, 4, 20 + number % 7, 24), id=number + 1)]
        if number % 3 == 0:
            labels.append(Label(NAMES[0], Box(30, 10, 44, 36), id=1000 + number))
        pictures.append(ImageRecord(FileRef(path), f"{number}.jpg", WIDTH, HEIGHT, tuple(labels), number))
    classes = tuple(map(ClassRecord, NAMES))
    return Export(name, "coco-instances", FileRef(folder / name / "coco.json"), classes, tuple(pictures))


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def prepare_in(folder: Path, export: Export, **options: Any) -> Any:
    return prepare([export], build_policy(["misc"]), PrepareOptions(out=folder / "site", **options))
