"""The datasets that golden results are of: broken in every way, real, and made up."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.check import broken_files, broken_json
from tests.check.breaking import segments_of
from tests.check.conftest import Built

SEED = 11

#: Each way to break a dataset, by its name: the way, and whether the dataset is panoptic.
BREAKS: dict[str, tuple[Callable[[Any, Any, Any], None], bool]] = {
    str(case.id): (case.values[0], case.values[3]) for case in [*broken_json.WAYS.cases, *broken_files.WAYS.cases]
}

#: Real datasets below the folder of shared data, by name, with the options of ``check``.
REAL: dict[str, tuple[str, dict[str, str]]] = {
    "coco128-train": ("coco128_panoptic/train/panoptic.json", {}),
    "coco128-val": ("coco128_panoptic/val/panoptic.json", {}),
    "coco-sample": ("coco_sample/panoptic.json", {}),
    "coco-sample-detection": ("coco_sample/panoptic_coco_detection_format.json", {"--images": "coco_sample/images"}),
    "tiny-things": ("tiny_coco_things/instances.json", {}),
    "construction-cvat": ("construction_sample/cvat", {}),
    "construction-instances": ("construction_sample/annotations/coco_val_small.json", {}),
    "construction-panoptic": ("construction_sample/annotations/panoptic_val_small.json", {}),
}


def break_dataset(name: str, folder: Path, number: int = 0, which: int = 0) -> list[str]:
    """Writes a dataset into ``folder``, breaks it, and returns the arguments that name it to ``check``."""
    broken, is_panoptic = BREAKS[name]
    folder.mkdir()
    built = Built(folder, SEED, is_panoptic)
    image = built.content["images"][number]
    broken(built, image, segments_of(built, image)[which])
    built.json_file.write_text(json.dumps(built.content))
    masks = ["--panoptic", str(folder / "panoptic")] if is_panoptic else []
    return [str(built.json_file), "--images", str(folder / "images"), *masks]


def real_arguments(name: str, shared_data: Path, folder: Path) -> list[str]:
    """Arguments that name a copy of a real dataset, in ``folder``, to ``check``."""
    path, options = REAL[name]
    source = shared_data / path
    top = shared_data / Path(path).parts[0]
    copy = folder / top.name
    shutil.copytree(top, copy)
    words = [word for key, value in options.items() for word in (key, str(folder / value))]
    return [str(folder / source.relative_to(shared_data)), *words]
