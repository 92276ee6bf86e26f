"""The dataset's JSON and yaml files, written picture by picture."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import yaml

from detr_d2.data.categories import Category

from .results import PictureResult

SPLITS = ("train", "val")
_DESCRIPTION = "made by detr-d2 prepare"

Results = Callable[[], Iterable[tuple[int, PictureResult]]]
"""Goes through the pictures of a split: image id and picture."""


def write_split(folder: Path, split: str, results: Results, ids: Sequence[int], categories: Sequence[Category]) -> None:
    """Write ``panoptic_<split>.json`` and ``instances_<split>.json``.

    Args:
        folder: of the dataset.
        split: ``train`` or ``val``.
        results: gives the pictures of the split anew each time.
        ids: for each place in the class table the category's id, or 0 where it has no segment.
        categories: in the order of their ids.
    """
    told = [_category(category) for category in categories]
    annotations = (_annotation(image_id, result, ids) for image_id, result in results())
    _write(folder / f"panoptic_{split}.json", _images(results), annotations, told)
    things = [entry for entry in told if entry["isthing"]]
    _write(folder / f"instances_{split}.json", _images(results), _instances(results(), ids), things)


def _images(results: Results) -> Iterator[dict[str, Any]]:
    for image_id, result in results():
        yield {"id": image_id, "file_name": result.file_name, "width": result.width, "height": result.height}


def _category(category: Category) -> dict[str, Any]:
    name, color = category.name, list(category.color)
    return {"id": category.id, "name": name, "supercategory": name, "isthing": int(category.is_thing), "color": color}


def _annotation(image_id: int, result: PictureResult, ids: Sequence[int]) -> dict[str, Any]:
    segments = []
    for segment in result.segments:
        told: dict[str, Any] = {
            "id": segment.id,
            "category_id": ids[segment.class_number],
            "iscrowd": int(segment.is_crowd),
            "area": segment.area,
            "bbox": list(segment.bbox),
            "source": segment.source,
        }
        segments.append(told if segment.score is None else {**told, "score": segment.score})
    return {"image_id": image_id, "file_name": result.png, "segments_info": segments}


def _instances(results: Iterable[tuple[int, PictureResult]], ids: Sequence[int]) -> Iterator[dict[str, Any]]:
    """The things as COCO instances; their ids count from 1 on."""
    number = 0
    for image_id, result in results:
        for segment in result.segments:
            if segment.runs:
                number += 1
                yield {
                    "id": number,
                    "image_id": image_id,
                    "category_id": ids[segment.class_number],
                    "iscrowd": int(segment.is_crowd),
                    "area": segment.area,
                    "bbox": list(segment.bbox),
                    "segmentation": {"size": [result.height, result.width], "counts": segment.runs},
                }


def _write(
    path: Path, images: Iterable[dict[str, Any]], annotations: Iterable[dict[str, Any]], categories: Any
) -> None:
    """A COCO JSON, an entry a line."""
    with path.open("w", encoding="utf-8") as file:
        file.write(f'{{"info": {json.dumps({"description": _DESCRIPTION})},\n"licenses": [],\n"images": [')
        _write_entries(file, images)
        file.write('],\n"annotations": [')
        _write_entries(file, annotations)
        file.write('],\n"categories": [')
        _write_entries(file, categories)
        file.write("]}\n")


def _write_entries(file: IO[str], entries: Iterable[dict[str, Any]]) -> None:
    for number, entry in enumerate(entries):
        file.write((",\n" if number else "\n") + json.dumps(entry, ensure_ascii=False))


def write_categories(folder: Path, categories: Iterable[Category]) -> None:
    """Write ``categories.yaml``, which ``--categories`` reads."""
    lines = [
        yaml.safe_dump(
            {"id": c.id, "name": c.name, "isthing": int(c.is_thing), "color": list(c.color)},
            default_flow_style=True,
            sort_keys=False,
            allow_unicode=True,
            width=10_000,
        )
        for c in categories
    ]
    (folder / "categories.yaml").write_text("".join(f"- {line}" for line in lines), encoding="utf-8")
