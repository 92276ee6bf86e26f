"""The dataset's JSON and yaml files, written image by image."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import yaml

from detr_d2.data.categories import Category

from .results import ImageResult, Segment

SPLITS = ("train", "val")

Entries = Iterable[dict[str, Any]]
Results = Callable[[], Iterable[tuple[int, ImageResult]]]
"""Goes through the images of a split: image id and image."""


def write_split(folder: Path, split: str, results: Results, ids: Sequence[int], categories: Sequence[Category]) -> None:
    """Write ``panoptic_<split>.json`` and, where there are classes of things, ``instances_<split>.json``.

    Args:
        folder: of the dataset.
        split: ``train`` or ``val``.
        results: gives the images of the split anew each time.
        ids: for each index in the class table the category's id, or 0 where it has no segment.
        categories: in the order of their ids.
    """

    def images() -> Entries:
        for image_id, result in results():
            yield {"id": image_id, "file_name": result.file_name, "width": result.width, "height": result.height}

    entries = [{**one.to_json(), "supercategory": one.name} for one in categories]
    annotations = (_annotation(image_id, result, ids) for image_id, result in results())
    _write(folder / f"panoptic_{split}.json", images(), annotations, entries)
    things = [entry for entry in entries if entry["isthing"]]
    if things:
        _write(folder / f"instances_{split}.json", images(), _instances(results(), ids), things)


def _measured(segment: Segment, ids: Sequence[int]) -> dict[str, Any]:
    """What both files say of a segment, but its id."""
    return {
        "category_id": ids[segment.class_number],
        "iscrowd": int(segment.is_crowd),
        "area": segment.area,
        "bbox": list(segment.bbox),
    }


def _annotation(image_id: int, result: ImageResult, ids: Sequence[int]) -> dict[str, Any]:
    segments = []
    for segment in result.segments:
        score = {} if segment.score is None else {"score": segment.score}
        segments.append({"id": segment.id, **_measured(segment, ids), "source": segment.source, **score})
    return {"image_id": image_id, "file_name": result.png, "segments_info": segments}


def _instances(results: Iterable[tuple[int, ImageResult]], ids: Sequence[int]) -> Iterator[dict[str, Any]]:
    """The things as COCO instances; their ids count from 1 on."""
    things = ((image_id, result, one) for image_id, result in results for one in result.segments if one.runs)
    for number, (image_id, result, segment) in enumerate(things, 1):
        runs = {"size": [result.height, result.width], "counts": segment.runs}
        yield {"id": number, "image_id": image_id, **_measured(segment, ids), "segmentation": runs}


def _write(path: Path, images: Entries, annotations: Entries, categories: Entries) -> None:
    """A COCO JSON, an entry a line."""
    with path.open("w", encoding="utf-8") as file:
        file.write('{"info": {"description": "made by detr-d2 prepare"},\n"licenses": [],\n"images": [')
        _write_entries(file, images)
        file.write('],\n"annotations": [')
        _write_entries(file, annotations)
        file.write('],\n"categories": [')
        _write_entries(file, categories)
        file.write("]}\n")


def _write_entries(file: IO[str], entries: Entries) -> None:
    for number, entry in enumerate(entries):
        file.write((",\n" if number else "\n") + json.dumps(entry, ensure_ascii=False))


def write_categories(folder: Path, categories: Iterable[Category]) -> None:
    """Write ``categories.yaml``, which ``--categories`` reads; a category a line."""
    style: dict[str, Any] = {"default_flow_style": True, "sort_keys": False, "allow_unicode": True, "width": 10_000}
    lines = [f"- {yaml.safe_dump(category.to_json(), **style)}" for category in categories]
    (folder / "categories.yaml").write_text("".join(lines), encoding="utf-8")
