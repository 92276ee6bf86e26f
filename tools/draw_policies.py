#!/usr/bin/env python
"""Draw what each choice of ``detr-d2 prepare`` makes of the same labels, for docs/prepare.md."""

from __future__ import annotations

import argparse
import io
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import matplotlib

matplotlib.use("Agg")
import numpy as np
from matplotlib import pyplot as plt
from PIL import Image
from scipy import ndimage

import detr_d2  # noqa: F401  chooses the detectron2
from detr_d2.data import read_panoptic_png
from detr_d2.files import write_whole
from detr_d2.labels.records import ClassRecord, Export, FileRef, ImageRecord, Label, Runs
from detr_d2.prepare.options import CocoThings, PrepareOptions
from detr_d2.prepare.pipeline import prepare
from detr_d2.prepare.selecting import mix_in
from detr_d2.prepare.stuff import StuffPolicy, StuffSettings, build_policy
from detr_d2.visualization import draw_panoptic
from detr_d2.yard import STUFF, Scene, make_scene
from detr_d2.yard.scene import COLORS

from detectron2.data import MetadataCatalog

EXAMPLE = """\
example:
  python tools/draw_policies.py --output docs/images/policies.png
"""

WIDTH, HEIGHT = 320, 256
#: The scene, and what the model is made to say of its stuff; plants have lower scores.
SCENE = 116
AS_COCO = {
    "sky": "sky-other-merged",
    "ground": "dirt-merged",
    "building": "building-other-merged",
    "plant": "tree-merged",
}
#: Pixels by which the model draws people's things too large.
LEAK = 3


@dataclass(frozen=True)
class Panel:
    """One image: what was chosen, and what it makes of the labels."""

    title: str
    image: np.ndarray


def model_of_scene(scene: Scene):  # type: ignore[no-untyped-def]
    """A function as ``--stuff model module:function`` takes it, which knows the scene."""

    def label(pixels: np.ndarray) -> tuple[np.ndarray, list[dict[str, object]]]:
        ids = scene.segments.astype(np.int64) + 1
        segments: list[dict[str, object]] = []
        for index, name in enumerate(scene.names):
            if name in STUFF:
                score = 0.7 if name == "plant" else 0.95
                segments.append({"id": index + 1, "name": AS_COCO[name], "score": score})
            else:
                segments.append({"id": index + 1, "name": "truck", "isthing": True, "score": 0.9})
                ids[ndimage.binary_dilation(scene.segments == index, iterations=LEAK)] = index + 1
        return ids, segments

    return label


def things_of(scene: Scene) -> list[int]:
    """Places of the scene's things, the farthest first."""
    return [index for index, name in enumerate(scene.names) if name not in STUFF]


def label_of(scene: Scene, index: int, z_order: int = 0, is_crowd: bool = False) -> Label:
    """A thing as a person draws it: whole, even where something nearer hides it."""
    flat = scene.outlines[index].ravel()
    changes = np.flatnonzero(np.diff(flat)) + 1
    counts = np.diff(np.concatenate([[0], changes, [flat.size]])).tolist()
    counts = [0, *counts] if flat[0] else counts
    shape = Runs((HEIGHT, WIDTH), tuple(counts), by_rows=True)
    return Label(scene.names[index], shape, is_crowd, z_order, id=index)


class Drawer:
    """Prepares the scene one way after the other and draws the results."""

    def __init__(self, scene: Scene, folder: Path) -> None:
        self._scene = scene
        self._folder = folder
        self._file = FileRef(folder / "1.png")
        self._count = 0
        Image.fromarray(scene.image).save(self._file.path)

    def draw(
        self,
        labels: Sequence[Label],
        words: Sequence[str] = ("none",),
        stuff: StuffSettings | None = None,
        **options: Any,
    ) -> np.ndarray:
        """The scene with these labels of people's, prepared in one way."""
        classes = tuple(ClassRecord(name, True, COLORS[name]) for name in sorted({one.class_name for one in labels}))
        record = ImageRecord(self._file, "1.png", WIDTH, HEIGHT, tuple(labels))
        export = Export("site", "coco-instances", self._file, classes, (record,))
        return self.prepared(export, build_policy(words, stuff), **options)

    def prepared(self, export: Export, policy: StuffPolicy, **options: Any) -> np.ndarray:
        """The scene as a dataset of one image has it."""
        self._count += 1
        folder = prepare([export], policy, PrepareOptions(self._folder / f"way_{self._count}", val=0, **options)).folder
        content = json.loads((folder / "panoptic_train.json").read_text(encoding="utf-8"))
        (annotation,) = content["annotations"]
        ids = read_panoptic_png(str(folder / "panoptic" / annotation["file_name"]))
        return self._paint(ids, annotation["segments_info"], content["categories"])

    def _paint(self, ids: np.ndarray, segments: list[dict[str, Any]], categories: list[dict[str, Any]]) -> np.ndarray:
        metadata = MetadataCatalog.get(f"policies_{self._count}")
        names, colors = [one["name"] for one in categories], [one["color"] for one in categories]
        metadata.set(thing_classes=names, stuff_classes=names, thing_colors=colors, stuff_colors=colors)
        indices = {one["id"]: (index, bool(one["isthing"])) for index, one in enumerate(categories)}
        shown = []
        for one in segments:
            index, is_thing = indices[one["category_id"]]
            shown.append({**one, "category_id": index, "isthing": is_thing})
        drawn = draw_panoptic(self._scene.image, ids, shown, metadata, 2.0)
        is_void = np.kron(ids == 0, np.ones((2, 2), bool))
        stripes = (np.add.outer(np.arange(2 * HEIGHT), np.arange(2 * WIDTH)) // 7) % 2 == 0
        grey = np.where(stripes, 70, 40)[:, :, None]
        return np.where(is_void[:, :, None], (0.3 * drawn + 0.7 * grey).astype(np.uint8), drawn)


def panels(folder: Path) -> dict[str, list[Panel]]:
    """All images, by row."""
    scene = make_scene(SCENE, width=WIDTH, height=HEIGHT)
    drawer = Drawer(scene, folder)
    indices = things_of(scene)
    shuffled = indices[::2] + indices[1::2]
    layered = [label_of(scene, index, z_order=indices.index(index)) for index in shuffled]
    module = sys.modules[__name__]
    module.labelled_by_model = model_of_scene(scene)  # type: ignore[attr-defined]
    sys.modules["policies_model"] = module
    model = ["model", "policies_model:labelled_by_model"]
    masks = folder / "masks"
    masks.mkdir()
    numbers = np.array([STUFF.index(name) + 1 if name in STUFF else 0 for name in scene.names], np.uint8)
    Image.fromarray(numbers[scene.segments]).save(masks / "1.png")
    (masks / "classes.yaml").write_text("".join(f"{n}: {name}\n" for n, name in enumerate(STUFF, 1)))
    few = [label_of(scene, index) for index in indices[-2:]]
    brushed = [label_of(scene, index, is_crowd=True) for index in indices]
    photo = np.asarray(Image.fromarray(scene.image).resize((2 * WIDTH, 2 * HEIGHT), Image.Resampling.LANCZOS))
    return {
        "overlaps": [
            Panel(f"--overlap {policy}", drawer.draw(layered, overlap=policy))
            for policy in ("small-on-top", "z-order", "file-order", "last")
        ],
        "stuff": [
            Panel("the image", photo),
            Panel("--stuff none", drawer.draw(few)),
            Panel("--stuff misc", drawer.draw(few, words=["misc"])),
            Panel("--stuff masks DIR", drawer.draw(few, words=["masks", str(masks)])),
        ],
        "model": [
            Panel("--stuff model WEIGHTS", drawer.draw(few, words=model)),
            Panel("… --stuff-things void", drawer.draw(few, words=model, stuff=StuffSettings(things="void"))),
            Panel("… --stuff-score 0.6", drawer.draw(few, words=model, stuff=StuffSettings(score=0.6))),
            Panel(
                "… --stuff-classes coco --margin 0",
                drawer.draw(few, words=model, stuff=StuffSettings("coco", margin=0, score=0.6)),
            ),
        ],
        "crowds": [
            Panel("--crowd keep", drawer.draw(brushed, crowds="keep")),
            Panel("--crowd clear", drawer.draw(brushed, crowds="clear")),
            *(mixed_panel(drawer, scene, folder, things) for things in get_args(CocoThings)),
        ],
    }


def mixed_panel(drawer: Drawer, scene: Scene, folder: Path, things: CocoThings) -> Panel:
    """The scene as if it were one of COCO's."""
    names = [AS_COCO.get(name, "truck") for name in scene.names]
    labels = tuple(Label(name, _visible(scene, index), id=index) for index, name in enumerate(names))
    classes = tuple(ClassRecord(name, name == "truck") for name in dict.fromkeys(names))
    record = ImageRecord(FileRef(folder / "1.png"), "1.png", WIDTH, HEIGHT, labels)
    export = Export("coco", "coco-panoptic", FileRef(Path("panoptic.json")), classes, (record,), is_cvat=False)
    (mixed,) = mix_in([export], 1, things=things)
    image = drawer.prepared(mixed, build_policy(["none"]))
    return Panel(f"--coco-things {things}", image)


def _visible(scene: Scene, index: int) -> Runs:
    outline = np.zeros_like(scene.outlines)
    outline[index] = scene.segments == index
    return label_of(Scene(scene.image, scene.segments, scene.names, outline), index).shape  # type: ignore[return-value]


def compose(rows: dict[str, list[Panel]]) -> bytes:
    """All panels as one PNG."""
    columns = max(len(row) for row in rows.values())
    figure, axes = plt.subplots(len(rows), columns, figsize=(4.1 * columns, 3.55 * len(rows)), squeeze=False)
    for line, row in zip(axes, rows.values()):
        for axis in line:
            axis.axis("off")
        for axis, panel in zip(line, row):
            axis.imshow(panel.image, interpolation="lanczos")
            axis.set_title(panel.title, fontsize=12, family="monospace" if "--" in panel.title else None)
    figure.tight_layout(pad=0.6)
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=84)
    plt.close(figure)
    image = Image.open(buffer).convert("RGB").quantize(160, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True, metavar="PNG", help="the image to write")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        content = compose(panels(Path(folder)))
    print(write_whole(args.output, lambda file: file.write(content)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
