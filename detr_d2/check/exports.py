"""Faults of exports that aren't COCO's: "CVAT for images 1.1" and "Segmentation mask 1.1", in folders and zips."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from detr_d2.errors import DatasetError
from detr_d2.files import SpecialFileError
from detr_d2.labels.readers import shape_mask
from detr_d2.labels.readers.building import PackedLabels
from detr_d2.labels.readers.discovery import Found, read_found
from detr_d2.labels.records import Label, Note, PictureRecord, Polygons
from detr_d2.labels.run_lengths import run_lengths

from .boxes import Place
from .categories import category_faults
from .drawing import drawing_faults
from .faults import KINDS, Fault, fault
from .images import ListedPicture
from .masks import mask_faults
from .paths import FileNames
from .pictures import picture_faults

#: What the readers call it, where the checks have another word, or none as it is no fault.
_CODES = {
    "shape-number": "box",
    "shape-unknown": "shape-undrawn",
    "picture-merged": "path-duplicate",
    "picture-duplicate": "path-duplicate",
    "label-duplicate": "overlap",
    "attribute-unused": None,
    "export-twice": None,
}


@dataclass(frozen=True)
class ExportTask:
    """All that is needed to look at one picture of an export, in whatever process.

    Args:
        record: the picture and its labels.
        file: the export's.
    """

    record: PictureRecord
    file: str


@dataclass
class CheckedExport:
    """What an export's labels say, and what is left to do with pixels.

    Args:
        faults: those found without a look at pixels.
        tasks: a picture each.
        content: names and classes as a COCO JSON has them.
        labelled: images that have a label.
    """

    faults: list[Fault]
    tasks: list[ExportTask]
    content: dict[str, Any]
    labelled: int = 0


def check_export(found: Found) -> CheckedExport:
    """Faults of an export; nothing is raised for what it holds."""
    file = str(found.tree.files[found.key])
    try:
        export = read_found(found, "cvat")
    except (DatasetError, SpecialFileError) as error:
        message = str(error).removeprefix(file).lstrip(" :,")
        return CheckedExport([fault("export-broken", file, message)], [], {})
    if export is None:
        return CheckedExport([fault("json-other", file, "isn't COCO's; it wasn't checked.")], [], {})
    faults = [one for note in export.notes if (one := _of_note(note, file))]
    images = [
        {"id": number if record.image_id is None else record.image_id, "file_name": record.name}
        for number, record in enumerate(export.pictures)
    ]
    categories = [{"id": number, "name": entry.name} for number, entry in enumerate(export.classes, 1)]
    faults += category_faults(categories, file, with_isthing=False)
    names = FileNames(file, None, "picture-missing")
    for image in images:
        faults += names.faults(image["file_name"], image["id"], f"image {image['id']}")
    nothing = PackedLabels.of(())
    unlabelled = [record.name for record in export.pictures if record.labels == nothing]
    if unlabelled:
        shown = ", ".join(unlabelled[:5]) + (", ..." if len(unlabelled) > 5 else "")
        message = f"{len(unlabelled)} of {len(export.pictures)} pictures have no label: {shown}."
        faults.append(fault("picture-unlabelled", file, message))
    tasks = [ExportTask(record, file) for record in export.pictures]
    labelled = len(export.pictures) - len(unlabelled)
    return CheckedExport(faults, tasks, {"images": images, "categories": categories}, labelled)


def _of_note(note: Note, file: str) -> Fault | None:
    code = _CODES.get(note.code, note.code)
    if code is None:
        return None
    about = f"{note.class_name}: " if note.class_name else ""
    known = code if code in KINDS else "export-broken"
    return fault(known, file, about + note.message, note.picture or None, note.label_id or None)


def look_at_export_picture(task: ExportTask) -> list[Fault]:
    """Faults of one picture and of what is drawn on it."""
    record = task.record
    image_id = record.name if record.image_id is None else record.image_id
    listed = ListedPicture(image_id, record.width, record.height, str(record.image))
    found = list(picture_faults(listed))
    try:
        labels = record.labels if isinstance(record.labels, tuple) else record.labels()
    except (DatasetError, SpecialFileError) as error:
        return [*found, fault("export-broken", task.file, str(error), image_id)]
    entries = []
    for label in labels if record.width else ():
        place = Place(task.file, image_id, label.id, f"label {label.id} ({label.class_name})")
        try:
            entry = {"id": label.id, "iscrowd": int(label.is_crowd), "segmentation": _segmentation(label, record)}
        except DatasetError as error:
            found.append(place.fault("mask-empty", str(error)))
            continue
        faults = list(mask_faults(entry, record.width, record.height, place))
        found += (one for one in faults if one.code != "rle-uncompressed")
        entries.append(entry)
    return found + list(drawing_faults(entries, listed, task.file))


def _segmentation(label: Label, record: PictureRecord) -> Any:
    """As COCO has it."""
    if isinstance(label.shape, Polygons):
        return [list(polygon) for polygon in label.shape.polygons]
    mask = shape_mask(label.shape, record.height, record.width)
    return {"size": [record.height, record.width], "counts": run_lengths(mask)}
