"""What ``detr-d2 predict`` writes: one kind of result each, a part with every image and a file of all at the end.

A writer's ``add`` is called in another thread with each prediction; it writes the image's own files and returns plain
data, which the journal keeps. ``finish`` is given those of all images, one at a time, and writes the file that they
share. So nothing grows with the number of images.

CVAT's kinds, "CVAT for images 1.1" and "COCO 1.0", have every segment as a mask, to the pixel. Source: CVAT's "XML
annotation format" document: masks are run lengths row by row inside their box, pixels off first.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple
from xml.sax.saxutils import escape, quoteattr

import numpy as np

from detr_d2.data import Category
from detr_d2.files import write_whole
from detr_d2.prediction.image_files import FoundImage, drawing_name
from detr_d2.prediction.prediction import Prediction
from detr_d2.visualization import save_image

Data = Any
#: The entry of an image, as COCO has it, and what a writer's ``add`` returned for it.
Row = tuple[dict[str, Any], Data]
#: Folders of images among the results.
RESULT_FOLDERS = _DRAWINGS, _PANOPTIC = "drawings", "panoptic"
XML_TAIL = "</annotations>\n"


class Writer(NamedTuple):
    """A kind of result.

    Args:
        meaning: for the help.
        add: writes the image's own files in the folder, and returns plain data.
        shared: the file that all images share, below the folder; empty: there is none.
        finish: writes that file, whose path it is given.
        needs_masks: it can't be made of boxes.
        files: the image's own files, by its name, below the folder.
    """

    meaning: str
    add: Callable[[Path, FoundImage, Prediction], Data]
    shared: str = ""
    finish: Callable[[Path, Iterable[Row], Sequence[Category]], object] | None = None
    needs_masks: bool = False
    files: Callable[[FoundImage], list[str]] = lambda image: []


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


def _finish_annotations(path: Path, rows: Iterable[Row], categories: Sequence[Category]) -> None:
    _write_coco(path, _numbered(rows), categories)


def _finish_cvat_xml(path: Path, rows: Iterable[Row], categories: Sequence[Category]) -> None:
    def write(file: BinaryIO) -> None:
        file.write(xml_head(categories).encode())
        for image, shapes in rows:
            file.write(xml_image(image, shapes).encode())
        file.write(XML_TAIL.encode())

    write_whole(path, write)


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


def xml_head(categories: Sequence[Category]) -> str:
    """The begin of a "CVAT for images 1.1" file: its labels and their colours."""
    labels = "".join(
        f"<label><name>{_text(category.name)}</name><color>#{bytes(category.color).hex()}</color>"
        "<type>any</type><attributes></attributes></label>\n"
        for category in categories
    )
    head = '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version>\n'
    return f"{head}<meta><job><labels>\n{labels}</labels></job></meta>\n"


def xml_image(image: Mapping[str, Any], shapes: Iterable[str]) -> str:
    """An image's part of a "CVAT for images 1.1" file.

    Args:
        image: "id", "file_name", "width" and "height".
        shapes: see :func:`xml_shapes`.
    """
    name = quoteattr(_text(image["file_name"], escaped=False))
    sides = f'width="{image["width"]}" height="{image["height"]}"'
    return f'<image id="{image["id"] - 1}" name={name} {sides}>\n{"".join(shapes)}</image>\n'


def xml_shapes(prediction: Prediction) -> list[str]:
    """The segments as masks, or boxes where there is no map, one element a shape; stuff below things."""
    if prediction.panoptic is None:
        return _xml_boxes(prediction)
    shapes = []
    for segment in sorted(prediction.segments, key=lambda segment: bool(segment["isthing"])):
        left, top, width, height = segment["bbox"]
        window = prediction.panoptic[top : top + height, left : left + width] == segment["id"]
        place = f'left="{left}" top="{top}" width="{width}" height="{height}" z_order="{int(segment["isthing"])}"'
        shapes.append(
            f'<mask label={quoteattr(_text(segment["category"], escaped=False))} source="auto" occluded="0" '
            f'rle="{", ".join(map(str, row_runs(window)))}" {place}></mask>\n'
        )
    return shapes


def _xml_boxes(prediction: Prediction) -> list[str]:
    instances = prediction.instances
    names = [prediction.categories[index].name for index in instances.pred_classes.tolist()]
    corners = ("xtl", "ytl", "xbr", "ybr")
    return [
        f'<box label={quoteattr(_text(name, escaped=False))} source="auto" occluded="0" '
        + " ".join(f'{corner}="{value:.2f}"' for corner, value in zip(corners, box))
        + ' z_order="1"></box>\n'
        for name, box in zip(names, instances.pred_boxes.tensor.tolist())
    ]


def row_runs(mask: np.ndarray) -> list[int]:
    """Pixels off, on, off, ... in turn, row by row, of (H, W) bool; CVAT's run lengths."""
    flat = np.ascontiguousarray(mask).ravel()
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    runs: list[int] = np.diff(changes, prepend=0, append=flat.size).tolist()
    return [0, *runs] if flat.size and flat[0] else runs


def coco_annotations(prediction: Prediction) -> list[dict[str, Any]]:
    """The segments as "COCO 1.0" has them: each a mask in COCO's compressed run lengths, stuff as well.

    ``iscrowd`` is 0: CVAT writes 1 for masks that were painted, and loaders leave those out. Datumaro, by which CVAT
    imports, makes masks of run lengths whatever it is.
    """
    if prediction.panoptic is None:
        return [{**one, "segmentation": []} for one in prediction.to_coco("instances")["annotations"]]
    annotations = []
    for segment in prediction.segments:
        annotation = {key: segment[key] for key in ("category_id", "area", "bbox")}
        annotations.append({**annotation, "iscrowd": 0, "segmentation": prediction.runs(segment)})
    return annotations


def _text(name: str, escaped: bool = True) -> str:
    """A name as XML may hold it: without characters that XML forbids."""
    plain = re.sub("[\x00-\x08\x0b-\x1f\ud800-\udfff]", "", name)
    return escape(plain) if escaped else plain


def _data(make: Callable[[Prediction], Data]) -> Callable[[Path, FoundImage, Prediction], Data]:
    """The ``add`` of a writer without files of an image's own."""
    return lambda folder, image, prediction: make(prediction)


#: The kinds of results by their names on the command line.
WRITERS = {
    "drawing": Writer(
        "the image with its segments in colours, in drawings/",
        _add_drawing,
        files=lambda image: [f"{_DRAWINGS}/{drawing_name(image)}"],
    ),
    "panoptic": Writer(
        "COCO panoptic: panoptic.json with a PNG an image in panoptic/",
        _add_panoptic,
        f"{_PANOPTIC}.json",
        _finish_panoptic,
        needs_masks=True,
        files=lambda image: [f"{_PANOPTIC}/{image.stem}.png"],
    ),
    "instances": Writer(
        "COCO instances: instances.json",
        _data(lambda prediction: prediction.to_coco("instances")["annotations"]),
        "instances.json",
        _finish_annotations,
    ),
    "cvat-xml": Writer(
        "'CVAT for images 1.1': cvat-xml/annotations.xml",
        _data(xml_shapes),
        "cvat-xml/annotations.xml",
        _finish_cvat_xml,
    ),
    "cvat-coco": Writer(
        "CVAT's 'COCO 1.0': cvat-coco/annotations/instances_default.json",
        _data(coco_annotations),
        "cvat-coco/annotations/instances_default.json",
        _finish_annotations,
    ),
    "quantities": Writer(
        "quantities.csv: count, pixels and share of each class in each image",
        _data(lambda prediction: prediction.quantities()),
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
