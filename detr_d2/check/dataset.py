"""All faults of a dataset, in one pass: its JSON files, then its pictures, several processes at a time."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detr_d2.data.registration import entry_of
from detr_d2.labels.file_places import is_folder
from detr_d2.labels.readers.discovery import folder_of_export
from detr_d2.labels.similar_names import is_text
from detr_d2.parallel import in_processes

from .categories import category_faults
from .drawing import drawing_faults
from .exports import check_export, look_at_export_picture
from .faults import Fault, fault, shown
from .images import ListedPicture, image_faults
from .instances import instance_faults
from .json_file import ReadJson, read_json_file
from .merging import Merging
from .panoptic import PanopticPicture, panoptic_faults
from .paths import FileNames
from .pictures import picture_faults
from .pngs import png_faults
from .sources import Source, Sources
from .splits import Split, find_leaks
from .values import is_whole, numbered, objects_of

#: Wraps pictures, to show how far the check is; gets their number as well.
Progress = Callable[[Iterable[Any], int], Iterable[Any]]

PARTS = ("images", "annotations", "categories")


@dataclass(frozen=True)
class PictureTask:
    """All that is needed to look at one picture, in whatever process.

    Args:
        listed: the picture.
        file: its JSON.
        annotations: of COCO instances.
        panoptic: what a panoptic JSON says of its PNG, or None.
    """

    listed: ListedPicture
    file: str
    annotations: list[dict[str, Any]]
    panoptic: PanopticPicture | None


def dataset_faults(
    dataset: Sources, quick: bool = False, workers: int = 1, progress: Progress = lambda tasks, count: tasks
) -> Iterator[Fault]:
    """Every fault of a dataset, one after another; nothing is raised for what the files hold.

    Args:
        dataset: see :func:`~detr_d2.check.sources.find_sources`.
        quick: look at the JSON files, and whether the files that they name are there, but at no pixel.
        workers: processes that look at pictures; 1: none but this one.
        progress: shows how far the pictures are.
    """
    extent, has_errors = _Extent(), False
    for found in _faults_of_files(dataset, quick, workers, progress, extent):
        has_errors = has_errors or found.severity == "error"
        yield found
    if dataset.sources and not extent.labelled and not has_errors:
        yield fault("json-empty", dataset.sources[0].json_file, extent.message())


@dataclass
class _Extent:
    """How much there was to check.

    Args:
        files: with labels.
        images: that they list.
        labelled: images that have a label.
    """

    files: int = 0
    images: int = 0
    labelled: int = 0

    def message(self) -> str:
        """Why that is nothing."""
        if not self.files:
            return f"has none of {', '.join(PARTS)}, and nothing else was there to check."
        found = f"none of the {self.images} images has a label" if self.images else "no image is listed"
        return f"{found}{f' in {self.files} files' if self.files > 1 else ''}."


def _faults_of_files(
    dataset: Sources, quick: bool, workers: int, progress: Progress, extent_: _Extent
) -> Iterator[Fault]:
    """Faults of each file, and of all together; what there was to check is added up in ``extent_``."""
    merging = Merging()
    listed: dict[str, list[ListedPicture]] = {}
    for source in dataset.sources:
        if not dataset.names:
            yield from _name_faults(source)
        if source.export is not None or source.refused:
            merged = merging if dataset.to_be_merged else None
            yield from _export_faults(source, merged, quick, workers, progress, extent_)
            continue
        read = read_json_file(source.json_file)
        yield from read.faults
        if read.content is None:
            continue
        if not source.is_meant and not any(key in read.content for key in PARTS):
            message = f"has none of {', '.join(PARTS)}; it wasn't checked."
            yield fault("json-other", source.json_file, message)
            continue
        tasks: list[PictureTask] = []
        yield from _with_constants(_json_faults(read.content, source, tasks), read, source.json_file)
        extent_.files += 1
        extent_.images += len(tasks)
        extent_.labelled += sum(bool(task.annotations or task.panoptic) for task in tasks)
        if dataset.to_be_merged:
            yield from merging.add(read.content, source.json_file)
        if len(dataset.names) > 1:
            listed[source.json_file] = [task.listed for task in tasks]
        if not quick:
            for found in progress(in_processes(look_at_picture, tasks, workers), len(tasks)):
                yield from found
    if dataset.to_be_merged:
        yield from merging.faults(os.path.commonpath([source.json_file for source in dataset.sources]))
    yield from (leak.fault for leak in find_leaks(_splits(dataset, listed), quick, workers))


def _name_faults(source: Source) -> Iterator[Fault]:
    """An export that was found by its folder is called by it once exports are merged."""
    found = folder_of_export(Path(source.json_file)).name if source.export is None else source.export.name
    if not source.is_meant and not is_text(found):
        message = f"is of the export {shown(found)}, whose name isn't UTF-8; rename its folder or zip."
        yield fault("export-broken", source.json_file, message)


def _export_faults(
    source: Source, merging: Merging | None, quick: bool, workers: int, progress: Progress, extent_: _Extent
) -> Iterator[Fault]:
    """Faults of an export that isn't COCO's, or of what isn't read."""
    if source.export is None:
        yield fault("export-broken", source.json_file, source.refused)
        return
    checked = check_export(source.export)
    yield from checked.faults
    extent_.files += 1
    extent_.images += len(checked.tasks)
    extent_.labelled += checked.labelled
    if merging is not None:
        yield from merging.add(checked.content, source.json_file)
    if not quick:
        tasks = checked.tasks
        for found in progress(in_processes(look_at_export_picture, tasks, workers), len(tasks)):
            yield from found


def _splits(dataset: Sources, listed: dict[str, list[ListedPicture]]) -> list[Split]:
    """The registered datasets that were looked at, with the pictures of each."""
    entries = [entry for entry in map(entry_of, dataset.names) if entry is not None]
    files = [(entry.name, entry.panoptic_json or entry.instances_json) for entry in entries]
    return [Split(name, file, listed[file]) for name, file in files if file in listed]


def look_at_picture(task: PictureTask) -> list[Fault]:
    """Faults of one picture, its PNG and what is drawn on it."""
    found = list(picture_faults(task.listed))
    if task.panoptic is not None:
        found += png_faults(task.panoptic, task.listed, task.file)
    if task.annotations:
        found += drawing_faults(task.annotations, task.listed, task.file)
    return found


def _json_faults(content: dict[str, Any], source: Source, tasks_: list[PictureTask]) -> Iterator[Fault]:
    """Faults that show in the JSON; what is left to do with pixels is put into ``tasks_``."""
    file = source.json_file
    wrong: list[Fault] = []
    images, annotations, categories = (objects_of(content, key, file, wrong) for key in PARTS)
    yield from wrong
    is_panoptic = is_panoptic_file(annotations, source)
    if "categories" in content and isinstance(content["categories"], list):
        yield from category_faults(categories, file, with_isthing=is_panoptic)
    names = {entry["id"]: entry.get("name") for _, entry in numbered(categories) if is_whole(entry.get("id"))}
    folders: list[Fault] = []
    picture_folder = _folder(source.images, "pictures", file, folders)
    png_folder = _folder(source.panoptic_root, "panoptic PNGs", file, folders) if is_panoptic else None
    yield from folders
    listed: dict[int | str, ListedPicture] = {}
    yield from image_faults(images, file, FileNames(file, picture_folder, "picture-missing"), listed)
    grouped: dict[int | str, list[dict[str, Any]]] = {}
    panoptic: dict[int | str, PanopticPicture] = {}
    if is_panoptic:
        pngs = FileNames(file, png_folder, "png-missing")
        yield from panoptic_faults(annotations, file, listed, names, pngs, panoptic)
    elif "annotations" in content and isinstance(content["annotations"], list):
        yield from instance_faults(annotations, file, listed, names, grouped)
    for image_id, picture in listed.items():
        tasks_.append(PictureTask(picture, file, grouped.get(image_id, []), panoptic.get(image_id)))


def is_panoptic_file(annotations: list[Any], source: Source) -> bool:
    """Whether a JSON is COCO panoptic, by its ``annotations`` (None for what isn't an object) and its folders."""
    return any("segments_info" in entry for _, entry in numbered(annotations)) or (
        source.panoptic_root is not None and not any("bbox" in entry for _, entry in numbered(annotations))
    )


def _folder(folder: str | None, what: str, file: str, faults_: list[Fault]) -> str | None:
    """The folder if it is there; else None, and a fault."""
    if folder is None:
        faults_.append(fault("folder-unknown", file, f"the folder of its {what} isn't known; none was looked at."))
        return None
    if is_folder(folder):
        return folder
    faults_.append(fault("folder-missing", folder, f"isn't there; it should hold the {what} of {file}."))
    return None


def _with_constants(faults: Iterator[Fault], read: ReadJson, file: str) -> Iterator[Fault]:
    """The faults, and one more if the file has NaN or Infinity somewhere that none of them is about."""
    named = False
    for found in faults:
        named = named or any(word in found.message for word in ("nan", "inf"))
        yield found
    if read.constants and not named:
        yield fault("json-number", file, f"NaN or Infinity stands there {read.constants} times.")
