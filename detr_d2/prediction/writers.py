"""What ``detr-d2 predict`` writes: one kind of result each, a part with every image and a file of all at the end.

A writer's ``add`` is called in another thread with each prediction; it writes the image's own files and returns plain
data, which the journal keeps. ``finish`` is given those of all images, one at a time, and writes the file that they
share. So nothing grows with the number of images.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from detr_d2.data import Category
from detr_d2.files import write_whole
from detr_d2.prediction.cvat_files import XML_TAIL, coco_annotations, xml_head, xml_image, xml_shapes
from detr_d2.prediction.image_files import FoundImage, drawing_name
from detr_d2.prediction.prediction import Prediction
from detr_d2.visualization import save_image

Data = Any
#: The entry of an image, as COCO has it, and what a writer's ``add`` returned for it.
Row = tuple[dict[str, Any], Data]


class Writer(NamedTuple):
    """A kind of result.

    Args:
        meaning: for the help.
        needs_masks: it can't be made of boxes.
        files: the image's own files, by its name, below the folder.
        add: writes the image's own files in the folder, and returns plain data.
        shared: the file that all images share, below the folder; empty: there is none.
        finish: writes that file, whose path it is given.
    """

    meaning: str
    needs_masks: bool
    files: Callable[[FoundImage], list[str]]
    add: Callable[[Path, FoundImage, Prediction], Data]
    shared: str = ""
    finish: Callable[[Path, Iterable[Row], Sequence[Category]], object] | None = None


def add_all(kinds: Sequence[str], folder: Path, image: FoundImage, prediction: Prediction) -> dict[str, Any]:
    """Writes an image's own files of some kinds, and returns its entry for the journal."""
    height, width = prediction.size
    data = {kind: WRITERS[kind].add(folder, image, prediction) for kind in kinds}
    files = [name for kind in kinds for name in WRITERS[kind].files(image)]
    return {"file_name": image.name, "height": height, "width": width, "files": files, "data": data}


def finish_all(
    kinds: Sequence[str], folder: Path, entries: Callable[[], Iterable[dict[str, Any]]], categories: Sequence[Category]
) -> list[str]:
    """Writes the files that all images share, and returns what there is of each kind, below the folder.

    Where no image is finished nothing is written.

    Args:
        kinds: of results.
        folder: of the results.
        entries: gives what :func:`add_all` returned for each image; called once a kind.
        categories: of the model.
    """
    if next(iter(entries()), None) is None:
        return []
    for kind in kinds:
        writer = WRITERS[kind]
        if writer.finish is not None:
            writer.finish(folder / writer.shared, _rows(entries(), kind), categories)
    return [WRITERS[kind].shared or f"{_DRAWINGS}/" for kind in kinds]


def _rows(entries: Iterable[dict[str, Any]], kind: str) -> Iterator[Row]:
    for number, entry in enumerate(entries, start=1):
        image = {"id": number, **{key: entry[key] for key in ("file_name", "height", "width")}}
        yield image, entry["data"][kind]


#: Folders of images among the results.
RESULT_FOLDERS = _DRAWINGS, _PANOPTIC = "drawings", "panoptic"


def _add_drawing(folder: Path, image: FoundImage, prediction: Prediction) -> Data:
    save_image(prediction.draw(), folder / _DRAWINGS / drawing_name(image))


def _add_panoptic(folder: Path, image: FoundImage, prediction: Prediction) -> Data:
    content = prediction.panoptic_png()
    write_whole(folder / _PANOPTIC / f"{image.stem}.png", lambda file: file.write(content))
    annotation = prediction.to_coco("panoptic")["annotations"][0]
    return {**annotation, "file_name": f"{image.stem}.png"}


def _finish_panoptic(path: Path, rows: Iterable[Row], categories: Sequence[Category]) -> None:
    annotated = ((image, [{**annotation, "image_id": image["id"]}]) for image, annotation in rows)
    _write_coco(path, annotated, categories)


def _add_instances(folder: Path, image: FoundImage, prediction: Prediction) -> Data:
    return prediction.to_coco("instances")["annotations"]


def _finish_annotations(path: Path, rows: Iterable[Row], categories: Sequence[Category]) -> None:
    _write_coco(path, _numbered(rows), categories)


def _add_cvat_coco(folder: Path, image: FoundImage, prediction: Prediction) -> Data:
    return coco_annotations(prediction)


def _add_cvat_xml(folder: Path, image: FoundImage, prediction: Prediction) -> Data:
    return xml_shapes(prediction)


def _finish_cvat_xml(path: Path, rows: Iterable[Row], categories: Sequence[Category]) -> None:
    def write(file: BinaryIO) -> None:
        file.write(xml_head(categories).encode())
        for image, shapes in rows:
            file.write(xml_image(image, shapes).encode())
        file.write(XML_TAIL.encode())

    write_whole(path, write)


def _add_quantities(folder: Path, image: FoundImage, prediction: Prediction) -> Data:
    return prediction.quantities()


def _finish_quantities(path: Path, rows: Iterable[Row], categories: Sequence[Category]) -> None:
    def write(file: BinaryIO) -> None:
        text = io.TextIOWrapper(file, "utf-8", "backslashreplace", newline="", write_through=True)
        table = csv.writer(text)
        table.writerow(["image", "class", "count", "pixels", "share"])
        for image, quantities in rows:
            for row in quantities:
                share = "" if row["share"] is None else f"{row['share']:.6f}"
                table.writerow([image["file_name"], row["category"], row["count"], row["pixels"], share])
        text.detach()

    write_whole(path, write)


def _numbered(rows: Iterable[Row]) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Annotations with ids that go on from image to image."""
    number = 0
    for image, own in rows:
        numbered = []
        for annotation in own:
            number += 1
            numbered.append({**annotation, "id": number, "image_id": image["id"]})
        yield image, numbered


def _write_coco(
    path: Path, rows: Iterable[tuple[dict[str, Any], list[dict[str, Any]]]], categories: Sequence[Category]
) -> None:
    """A COCO file with a list of images and one of annotations, which is never in memory as a whole."""

    def write(file: BinaryIO) -> None:
        images = io.BytesIO()  # a line an image: small beside what its annotations are
        file.write(b'{"annotations": [\n')
        is_first = True
        for image, own in rows:
            images.write((",\n" if images.tell() else "").encode() + _dumped(image))
            for annotation in own:
                file.write((b"" if is_first else b",\n") + _dumped(annotation))
                is_first = False
        file.write(b'],\n"images": [\n' + images.getvalue() + b"],\n")
        file.write(b'"categories": ' + _dumped([category.to_json() for category in categories]) + b"}\n")

    write_whole(path, write)


def _dumped(content: Any) -> bytes:
    return json.dumps(content, allow_nan=False).encode()


def _none(image: FoundImage) -> list[str]:
    return []


#: The kinds of results by their names on the command line.
WRITERS = {
    "drawing": Writer(
        "the image with its segments in colours, in drawings/",
        False,
        lambda image: [f"{_DRAWINGS}/{drawing_name(image)}"],
        _add_drawing,
    ),
    "panoptic": Writer(
        "COCO panoptic: panoptic.json with a PNG an image in panoptic/",
        True,
        lambda image: [f"{_PANOPTIC}/{image.stem}.png"],
        _add_panoptic,
        f"{_PANOPTIC}.json",
        _finish_panoptic,
    ),
    "instances": Writer(
        "COCO instances: instances.json", False, _none, _add_instances, "instances.json", _finish_annotations
    ),
    "cvat-xml": Writer(
        "'CVAT for images 1.1': cvat-xml/annotations.xml",
        False,
        _none,
        _add_cvat_xml,
        "cvat-xml/annotations.xml",
        _finish_cvat_xml,
    ),
    "cvat-coco": Writer(
        "CVAT's 'COCO 1.0': cvat-coco/annotations/instances_default.json",
        False,
        _none,
        _add_cvat_coco,
        "cvat-coco/annotations/instances_default.json",
        _finish_annotations,
    ),
    "quantities": Writer(
        "quantities.csv: count, pixels and share of each class in each image",
        False,
        _none,
        _add_quantities,
        "quantities.csv",
        _finish_quantities,
    ),
}
DEFAULT_KINDS = ("drawing", "panoptic", "quantities")
#: Files and folders of each kind, below the folder.
OWN_PATHS = {
    "drawing": [_DRAWINGS],
    **{name: [writer.shared] for name, writer in WRITERS.items() if writer.shared},
    "panoptic": [_PANOPTIC, WRITERS["panoptic"].shared],
}
