"""What ``detr-d2 check DATASET`` may be given, and which files that stands for."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from detr_d2.data.registration import dataset_names, entry_of, register, register_file
from detr_d2.errors import DatasetError, MissingFileError
from detr_d2.files import refuse_special
from detr_d2.labels.archives import IMAGE_SUFFIXES, is_folder
from detr_d2.labels.rules.json_files import read_json

if TYPE_CHECKING:  # with all readers, which only exports need
    from detr_d2.labels.readers.discovery import Found


@dataclass(frozen=True)
class Source:
    """One file of labels to check, with the folders of its images; each may lie in a zip.

    Args:
        json_file: COCO instances or COCO panoptic, the content decides; or what ``export`` has for its file.
        images: folder of the images, or None where it isn't known.
        panoptic_root: folder of the panoptic PNGs, or None.
        is_meant: the user named it; else it was found in a folder, and may be something else.
        export: where it isn't COCO's: an XML or the masks of CVAT.
        refused: why it isn't read: a zip that could do harm, a pipe, a folder without permission, a link to nowhere.
    """

    json_file: str
    images: str | None = None
    panoptic_root: str | None = None
    is_meant: bool = True
    export: Found | None = None
    refused: str = ""


@dataclass(frozen=True)
class Sources:
    """All that a dataset consists of, and the ``names`` of the registered datasets that these are, if they are.

    ``to_be_merged``: they are exports of several jobs or classes, to become one dataset.
    """

    sources: tuple[Source, ...]
    to_be_merged: bool = False
    names: tuple[str, ...] = ()


def find_sources(dataset: str, images: str | None = None, panoptic_root: str | None = None) -> Sources:
    """The files that a dataset's name, file or folder stands for.

    Args:
        dataset: a registered name, a ``register.yaml``, a COCO JSON, an export of CVAT (an XML, a zip or a folder),
            or a folder: one with a ``register.yaml``, one with exports in it, or one with COCO JSONs.
        images, panoptic_root: folders; by default they are looked for beside a JSON.

    Raises:
        MissingFileError: there is nothing of that name.
        DatasetError: it is there, but no dataset; or folders were given for what names its own.
        SpecialFileError: it is a pipe, a device or a socket.
    """
    path = Path(os.path.expanduser(dataset))
    if path.is_dir():
        found = _of_folder(path, images, panoptic_root)
    elif path.suffix.lower() in (".yaml", ".yml") and path.is_file():
        found = _of_names(register_file(os.path.abspath(path), dataset))
    elif path.is_file() and path.suffix.lower() in (".zip", ".xml", ".txt"):
        from detr_d2.labels.readers.discovery import find_exports

        found = _of_exports(find_exports(path))
    elif path.is_file() or path.suffix.lower() == ".json":
        found = Sources((_of_json(path, images, panoptic_root),))
    elif entry_of(dataset):
        found = _of_names([dataset])
    else:
        raise MissingFileError(
            f"there is no file, folder or registered dataset {dataset!r}. Registered are "
            f"{', '.join(dataset_names())}; 'detr-d2 check register.yaml' checks your own."
        )
    ambiguous = found.to_be_merged or (path.suffix.lower() != ".json" and not path.is_dir())
    if (images or panoptic_root) and ambiguous:
        raise DatasetError(f"{dataset} names its own folders; --images and --panoptic go with one JSON.")
    return found


def registered_names(dataset: str) -> list[str]:
    """The names under which the datasets are registered that an argument stands for; a JSON's is its own path.

    Raises:
        DatasetError: it is an export, or a JSON whose images or PNGs aren't found beside it.
        MissingFileError, SpecialFileError: see :func:`find_sources`.
    """
    found = find_sources(dataset)
    return list(found.names) or [_registered(source) for source in found.sources]


def _registered(source: Source) -> str:
    """Registers a JSON under its path, which is returned."""
    name = os.path.abspath(source.json_file)
    if source.export or source.refused:
        raise DatasetError(
            f"{source.json_file} is an export, and no dataset yet: 'detr-d2 prepare --cvat {source.json_file} --out "
            "datasets/mine' makes one of it."
        )
    annotations = read_json(source.json_file).get("annotations")
    first = annotations[0] if isinstance(annotations, list) and annotations else None
    is_panoptic = isinstance(first, dict) and "segments_info" in first
    if source.images is None or (is_panoptic and source.panoptic_root is None):
        raise DatasetError(
            f"the images of {source.json_file} aren't found beside it; register it with its folders, in a "
            "register.yaml, and name that."
        )
    if is_panoptic:
        register(name, source.images, source.json_file, source.panoptic_root)
    else:
        register(name, source.images, instances_json=source.json_file)
    return name


def sources_of_registered(names: Sequence[str]) -> Sources:
    """The files of registered datasets, without the instances that only box AP needs; another program's have none."""
    entries = filter(None, map(entry_of, names))
    sources = [
        Source(entry.panoptic_json or entry.instances_json, entry.images, entry.panoptic_root or None)
        for entry in entries
    ]
    return Sources(tuple(dict.fromkeys(sources)), names=tuple(names))


def _of_names(names: Sequence[str]) -> Sources:
    """The files of registered datasets, instances included."""
    sources = list(sources_of_registered(names).sources)
    for entry in filter(None, map(entry_of, names)):
        is_there = os.path.isfile(entry.instances_json) or not entry.instances_may_be_absent
        if entry.panoptic_json and entry.instances_json and is_there:
            sources.append(Source(entry.instances_json, entry.images))
    return Sources(tuple(dict.fromkeys(sources)), names=tuple(names))


def _of_folder(folder: Path, images: str | None, panoptic_root: str | None) -> Sources:
    if os.path.lexists(path := folder / "register.yaml"):
        refuse_special(path)
        return _of_names(register_file(os.path.abspath(path), str(path)))
    exports = _jsons_of_export(folder)
    children = sorted(child for child in folder.iterdir() if os.path.isdir(child)) if not exports else []
    inner = [path for child in children for path in _jsons_of_export(child)]
    lying = sorted(folder.glob("*.json"))
    others = _of_exports(_not_among(exports or [*inner, *lying], folder)).sources
    if exports:
        named = [_of_json(path, images, panoptic_root, is_meant=False) for path in exports]
        return Sources((*named, *others), to_be_merged=bool(others))
    if inner or others:
        jsons = [_of_json(path, None, None, is_meant=False) for path in (*inner, *lying)]
        return Sources((*jsons, *others), to_be_merged=len(jsons) + len(others) > 1 or bool(inner))
    if not lying:
        raise DatasetError(
            f"{folder} holds no dataset: neither register.yaml, nor annotations/instances_*.json, coco.json, an export "
            "of CVAT (annotations.xml, labelmap.txt, a zip), folders with one of these, nor any *.json."
        )
    return Sources(tuple(_of_json(path, images, panoptic_root, is_meant=False) for path in lying))


def refuse_exports(dataset: Sources, name: str) -> None:
    """Raises a DatasetError for what can be checked but not copied: XMLs and masks of CVAT, what can't be read."""
    if any(source.export or source.refused for source in dataset.sources):
        raise DatasetError(
            f"{name} has XMLs, masks, or what can't be read; --fix copies COCO's JSONs, in folders and in zips. "
            f"'detr-d2 prepare --cvat {name}' makes a dataset of them, and says what it leaves out."
        )


def folders_read(dataset: Sources, name: str) -> list[str]:
    """The folders of a dataset that was named so: the one that was named, and those of images and PNGs."""
    folders = [os.path.expanduser(name)]
    for source in dataset.sources:
        folders += filter(None, (source.images, source.panoptic_root))
    return [folder for folder in dict.fromkeys(folders) if os.path.isdir(folder)]


def files_read(dataset: Sources, name: str, output: str) -> list[str]:
    """Those files of a dataset that ``output`` may be: labels, what names them, and itself if it is one of the images.

    ``name`` is what was given for the dataset.
    """
    path = os.path.expanduser(name)
    files = [path, os.path.join(path, "register.yaml"), *(source.json_file for source in dataset.sources)]
    for source in dataset.sources:
        files += [str(above) for above in Path(source.json_file).parents if os.path.isfile(above)]  # zips
        if source.export is not None:
            files += {str(file.path) for file in source.export.tree.files.values()}
    folders = [os.path.realpath(folder) for folder in folders_read(dataset, name)]
    target = os.path.realpath(output)
    if os.path.splitext(target)[1].lower() in IMAGE_SUFFIXES and os.path.exists(target):
        files += [target for folder in folders if target.startswith(os.path.join(folder, ""))][:1]
    return files


def _not_among(jsons: Sequence[Path], folder: Path) -> list[Found]:
    """What else in a folder ``detr-d2 prepare`` would read as an export: zips, XMLs, masks and JSONs of other folders.

    JSONs that lie in the folder itself, or beside those that are known, are left to the caller.
    """
    from detr_d2.labels.readers.discovery import find_exports

    try:
        found = find_exports(folder)
    except DatasetError:
        return []  # it holds none
    known = {folder, *(path.parent for path in jsons)}
    return [
        one
        for one in found
        if (one.path not in jsons if one.problem else not _is_json(one) or one.path.parent not in known)
    ]


def _is_json(found: Found) -> bool:
    return found.key.lower().endswith(".json")


def _of_exports(found: Sequence[Found]) -> Sources:
    """Zips, XMLs and masks; a COCO JSON in a zip is checked as one in a folder is."""
    sources = []
    for one in found:
        if one.problem:
            sources.append(Source(str(one.path), is_meant=False, refused=one.problem))
        elif _is_json(one):
            sources.append(_of_json(one.path, None, None, is_meant=False))
        else:
            sources.append(Source(str(one.tree.files[one.key]), is_meant=False, export=one))
    return Sources(tuple(sources), to_be_merged=len(sources) > 1)


def _jsons_of_export(folder: Path) -> list[Path]:
    """The JSONs of one export: ``annotations/*.json`` or ``coco.json``, whatever stands under these names."""
    try:
        lying = sorted((folder / "annotations").iterdir())
    except OSError:  # where it can't be read, that is said where exports are looked for
        lying = []
    described = [p for p in lying if p.suffix == ".json" and p.name.startswith(("instances_", "panoptic_"))]
    if described:
        return described
    return [folder / "coco.json"] if os.path.lexists(folder / "coco.json") else []


def _of_json(path: Path, images: str | None, panoptic_root: str | None, is_meant: bool = True) -> Source:
    """A JSON with its folders: those given, or the first that is there of the usual ones."""
    stem = path.stem.lower()
    subset = stem.removeprefix("instances_").removeprefix("panoptic_")
    above = path.parent.parent if path.parent.name == "annotations" else path.parent
    usual = [above / "images" / subset, above / "images", above / subset, path.parent / "images"]
    pngs = [place / name for place in (path.parent, above) for name in (path.stem, "panoptic", "masks")]
    return Source(str(path), images or _first(usual), panoptic_root or _first(pngs), is_meant)


def _first(folders: Iterable[Path]) -> str | None:
    return next((str(folder) for folder in folders if is_folder(str(folder))), None)
