"""Faults of exports that aren't COCO's: "CVAT for images 1.1" and "Segmentation mask 1.1", in folders and zips."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from detr_d2.errors import DatasetError
from detr_d2.files import SpecialFileError
from detr_d2.labels.polygons import run_lengths
from detr_d2.labels.readers import shape_mask
from detr_d2.labels.readers.building import PackedLabels
from detr_d2.labels.readers.discovery import Found, read_found
from detr_d2.labels.records import Export, ImageRecord, Label, Note, Polygons
from detr_d2.labels.rules.categories import Categories
from detr_d2.labels.rules.image import image_faults
from detr_d2.labels.rules.images import FileNames, ImageTask, ListedImage
from detr_d2.labels.rules.masks import mask_rules
from detr_d2.labels.rules.rule import RULES, Fault, Finding, Place, faults

_NOTHING = PackedLabels.of(())
#: What the readers call it, where the checks have another word, or none as it is no fault.
_CODES = {
    "shape-number": "box",
    "shape-unknown": "shape-undrawn",
    "label-duplicate": "overlap",
    "attribute-unused": None,
    "export-twice": None,
}


def check_export(found: Found) -> tuple[Export | None, list[Finding]]:
    """An export, or None where it can't be read, and what is wrong with it without a look at pixels."""
    place = Place(str(found.tree.files[found.key]))
    try:
        export = read_found(found, "cvat")
    except (DatasetError, SpecialFileError) as error:
        message = str(error).removeprefix(place.file).lstrip(" :,")
        return None, [place.found("export-broken", message)]
    if export is None:
        return None, [place.found("json-other", "isn't COCO's; it wasn't checked.")]
    findings = [*filter(None, (_of_note(note, place.file) for note in export.notes))]
    findings += _listing_rules(content_of(export), place.file)
    without = [record.name for record in export.images if not is_labelled(record)]
    if without:
        shown = ", ".join(without[:5]) + (", ..." if len(without) > 5 else "")
        message = f"{len(without)} of {len(export.images)} images have no label: {shown}."
        findings.append(place.found("image-unlabelled", message))
    return export, findings


def content_of(export: Export) -> dict[str, list[dict[str, Any]]]:
    """Names and classes of an export as a COCO JSON has them."""
    images = [
        {"id": number if record.image_id is None else record.image_id, "file_name": record.name}
        for number, record in enumerate(export.images)
    ]
    return {"images": images, "categories": [{"id": n, "name": one.name} for n, one in enumerate(export.classes, 1)]}


def is_labelled(record: ImageRecord) -> bool:
    """Whether an image has labels, as far as that is known before they are read."""
    return record.labels != _NOTHING


def _listing_rules(content: dict[str, list[dict[str, Any]]], file: str) -> Iterator[Finding]:
    """Findings about classes and names, which are as a COCO JSON has them."""
    categories = Categories(content["categories"], file, with_isthing=False)
    for number, entry in enumerate(content["categories"]):
        yield from categories.rules(entry, number)
        categories.add(entry, number)
    yield from categories.final_rules()
    names = FileNames(None, "image-missing")
    for image in content["images"]:
        yield from names.rules(image, Place(file, image["id"], None, f"image {image['id']}"))


def _of_note(note: Note, file: str) -> Finding | None:
    code = _CODES.get(note.code, note.code)
    if code is None:
        return None
    about = f"{note.class_name}: " if note.class_name else ""
    place = Place(file, note.image or None, note.label_id or None)
    return place.found(code if code in RULES else "export-broken", about + note.message)


def look_at_export_image(file: str, record: ImageRecord) -> list[Fault]:
    """Faults of one image of an export, and of what is drawn on it."""
    image_id = record.name if record.image_id is None else record.image_id
    listed = ListedImage(image_id, str(record.image), (record.width, record.height))
    labels: Sequence[Label] = ()
    findings: list[Finding] = []
    try:
        labels = record.read_labels()
    except (DatasetError, SpecialFileError) as error:
        findings.append(Place(file, image_id).found("export-broken", str(error)))
    entries = []
    for label in labels if record.width else ():
        place = Place(file, image_id, label.id, f"label {label.id} ({label.class_name})")
        try:
            entry = {"id": label.id, "iscrowd": int(label.is_crowd), "segmentation": _segmentation(label, record)}
        except DatasetError as error:
            findings.append(place.found("mask-empty", str(error)))
            continue
        findings += (one for one in mask_rules(entry, listed.size, place) if one.rule.code != "rle-uncompressed")
        entries.append(entry)
    return [*faults(findings), *image_faults(ImageTask(listed, file, entries))]


def _segmentation(label: Label, record: ImageRecord) -> Any:
    """As COCO has it."""
    if isinstance(label.shape, Polygons):
        return [list(polygon) for polygon in label.shape.polygons]
    mask = shape_mask(label.shape, record.height, record.width)
    return {"size": [record.height, record.width], "counts": run_lengths(mask)}
