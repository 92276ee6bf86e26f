"""Which exports a folder, a zip or a file holds, and reading them all."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Literal

from ....errors import DatasetError, MissingFileError
from ..records import Export, Note
from .archives import FileTree, folder_tree, zip_tree
from .coco_instances import read_coco_instances
from .coco_panoptic import read_coco_panoptic
from .cvat_masks import CLASSES, LABEL_MAP, read_cvat_masks
from .cvat_xml import ROOT, read_cvat_xml
from .finding import PictureFinder, has_suffix_of_picture, joined
from .json_source import load_json

logger = logging.getLogger(__name__)

_KNOWN = ("coco.json", "annotations.json", "_annotations.coco.json")
_OTHER_TASKS = ("captions_", "person_keypoints_", "stuff_", "image_info_", "labels_")
_NOT_COCO = "lacks images or annotations, so it isn't COCO's"
#: A folder with more JSONs or XMLs than this has one for each picture, as other programs write them.
_MOST_BESIDE = 20
_HOLDS = (
    "exports of CVAT ('COCO 1.0', 'CVAT for images 1.1', 'Segmentation mask 1.1'; zips or folders), COCO instances or "
    "COCO panoptic"
)


@dataclass(frozen=True)
class Found:
    """The labels of one export.

    Args:
        tree: what they are in.
        key: name of the JSON, XML or labelmap there.
        name: of the export.
        twin: a zip beside it that isn't read, as it was unpacked to this folder.
    """

    tree: FileTree
    key: str
    name: str
    twin: str = ""

    @property
    def base(self) -> str:
        """The folder of the export in its tree: the nearest one above the labels that has pictures."""
        above = PurePosixPath(self.key).parent
        base = above.parent if above.name == "annotations" else above
        while base.name and not any(map(has_suffix_of_picture, self._under(base))):
            base = base.parent
        return "" if base == PurePosixPath(".") else base.as_posix()

    def _under(self, base: PurePosixPath) -> Iterator[str]:
        return (key for key in self.tree.files if key.startswith(f"{base}/"))


@dataclass(frozen=True)
class Refused:
    """A zip that isn't read.

    Args:
        path: of the zip.
        message: why, and what to do.
    """

    path: Path
    message: str


def read_exports(paths: Sequence[Path], kind: Literal["cvat", "coco"]) -> list[Export]:
    """All exports that some folders, zips or files hold; zips are read where they lie.

    Args:
        paths: folders of one or many exports, zips, or single JSONs and XMLs.
        kind: where the user says that they come from; what each one is, is found out.

    Returns:
        The exports by name, which is unique, and each with at least one picture.

    Raises:
        MissingFileError: a path isn't there.
        DatasetError: a path holds no export; or exports can't be read, all of which are named.
    """
    found, errors = [], []
    for path in paths:
        for one in find_exports(path):
            found += [one] if isinstance(one, Found) else []
            errors += [one.message] if isinstance(one, Refused) else []
    exports = []
    for one in _named_apart(found):
        try:
            export = read_found(one, kind)
        except DatasetError as error:
            errors.append(str(error))
            continue
        if export is not None:
            exports.append(export)
    if errors:
        raise DatasetError("\n".join(errors))
    if not exports:
        raise DatasetError(f"{', '.join(map(str, paths))}: no export found; there must be {_HOLDS}.")
    return exports


def find_exports(path: Path) -> list[Found | Refused]:
    """The exports that a path holds, and the zips that can't be read.

    Raises:
        MissingFileError: it isn't there.
        DatasetError: it holds no export.
    """
    found: list[Found | Refused]
    if path.is_dir():
        found = list(_in_folder(folder_tree(path)))
    elif not path.is_file():
        raise MissingFileError(f"{path} isn't there; give {_HOLDS}.")
    elif path.suffix.lower() == ".zip":
        found = list(_in_zip(path))
    elif path.suffix.lower() in (".json", ".xml") or path.name == LABEL_MAP:
        above = path.parent.parent
        has_pictures_above = path.parent.name == "annotations" or (above / "images").is_dir()
        tree = folder_tree(above if has_pictures_above else path.parent)
        found = [Found(tree, path.relative_to(tree.path).as_posix(), path.stem)]
    else:
        raise DatasetError(f"{path} is no export; give {_HOLDS}.")
    if not found:
        raise DatasetError(f"{path} holds no export; there must be {_HOLDS}.")
    return found


def _in_folder(tree: FileTree) -> Iterator[Found | Refused]:
    zips = [key for key in tree.under("") if key.lower().endswith(".zip")]
    unpacked = set()
    for found in _in_tree(tree):
        twins = [key for key in zips if found.key.startswith(f"{key[: -len('.zip')]}/")]
        unpacked |= set(twins)
        yield replace(found, twin=", ".join(twins))
    for key in zips:
        if key not in unpacked:
            inner = list(_in_zip(tree.path / key))
            if not inner:
                logger.warning("%s holds no export; nothing was read from it.", tree.path / key)
            yield from inner


def _in_zip(path: Path) -> Iterator[Found | Refused]:
    try:
        tree = zip_tree(path)
    except DatasetError as error:
        yield Refused(path, str(error))
        return
    found = list(_in_tree(tree))
    if not found and any(key.lower().endswith(".zip") for key in tree.files):
        yield Refused(path, f"{path} is a zip of zips; unpack it, and give the folder.")
    yield from found


def _in_tree(tree: FileTree) -> Iterator[Found]:
    """The exports of a folder or zip, without those in zips in it."""
    by_folder: dict[PurePosixPath, list[str]] = {}
    for key in tree.under(""):
        if PurePosixPath(key).suffix.lower() in (".json", ".xml") or PurePosixPath(key).name == LABEL_MAP:
            by_folder.setdefault(PurePosixPath(key).parent, []).append(key)
    for folder, keys in sorted(by_folder.items()):
        count = Counter(PurePosixPath(key).suffix.lower() for key in keys)
        for key in _without_doubles(keys):
            path = PurePosixPath(key)
            is_alone = count[path.suffix.lower()] <= _MOST_BESIDE
            if path.name == LABEL_MAP:
                is_export = bool(tree.under(joined(str(folder), CLASSES)))
            elif path.suffix.lower() == ".xml":
                is_export = is_alone and _is_cvat_xml(tree, key)
            else:
                is_export = _is_named_as_coco(path) or (is_alone and not path.name.startswith(_OTHER_TASKS))
            if is_export:
                yield Found(tree, key, _name(tree, key))


def _is_named_as_coco(path: PurePosixPath) -> bool:
    return path.name.lower() in _KNOWN or path.name.startswith(("instances_", "panoptic_"))


def _without_doubles(keys: Sequence[str]) -> Iterator[str]:
    """Without instances of which there is a panoptic JSON, as it knows more of the same pictures."""
    for key in keys:
        path = PurePosixPath(key)
        if joined(str(path.parent), path.name.replace("instances_", "panoptic_", 1)) in set(keys) - {key}:
            logger.info("%s isn't read, as there is a panoptic JSON beside it.", key)
            continue
        yield key


def _is_cvat_xml(tree: FileTree, key: str) -> bool:
    try:
        with tree.files[key].open() as file:
            return f"<{ROOT}".encode() in file.read(2**14)
    except Exception:  # whatever a broken zip raises; it is named when it is read
        return True


def _name(tree: FileTree, key: str) -> str:
    """Of the folder or zip that an export is in."""
    above = PurePosixPath(key).parent
    above = above.parent if above.name in ("annotations", "labels") else above
    return above.name or (tree.path.stem if tree.path.is_file() else tree.path.resolve().name)


def _named_apart(found: Sequence[Found]) -> Iterator[Found]:
    """With unique names: those of one folder get what is special in their file's name, others a number."""
    counts = Counter(one.name for one in found)
    used: set[str] = set()
    for one in found:
        name = one.name
        if counts[name] > 1 and sum(_same_folder(one, other) for other in found) > 1:
            name = f"{name}_{_subset(one.key) or PurePosixPath(one.key).stem}"
        unique, number = name, 2
        while unique.casefold() in used:
            unique, number = f"{name}_{number}", number + 1
        used.add(unique.casefold())
        yield replace(one, name=unique)


def _same_folder(one: Found, other: Found) -> bool:
    return one.tree is other.tree and PurePosixPath(one.key).parent == PurePosixPath(other.key).parent


def _subset(key: str) -> str:
    """``train`` of ``instances_train.json``; empty where the name has no such part."""
    stem = PurePosixPath(key).stem
    subset = stem.removeprefix("instances_").removeprefix("panoptic_")
    return "" if subset == stem else subset


def read_found(found: Found, kind: Literal["cvat", "coco"]) -> Export | None:
    """The export; None, and a warning, for a JSON that isn't COCO's. For its errors see :func:`read_exports`."""
    export = _read(found, kind)
    if export is None or not found.twin:
        return export
    message = f"{found.twin} beside it has the name of its folder, and isn't read: the folder is what was in it."
    return replace(export, notes=(*export.notes, Note("export-twice", message, str(export.file))))


def _read(found: Found, kind: str) -> Export | None:
    tree, key, base = found.tree, found.key, found.base
    file, subset = tree.files[key], _subset(key)
    folders = [*(joined("images", subset), subset)[: 2 * bool(subset)], "images", "", "JPEGImages"]
    finder = PictureFinder(tree, base, folders)
    if PurePosixPath(key).name == LABEL_MAP:
        above = PurePosixPath(key).parent
        return read_cvat_masks(tree, "" if above == PurePosixPath(".") else above.as_posix(), found.name)
    if key.lower().endswith(".xml"):
        return read_cvat_xml(file, found.name, finder)
    content = load_json(file)
    if not {"images", "annotations"} <= content.keys() and not _is_named_as_coco(PurePosixPath(key)):
        logger.warning("%s %s; it wasn't read.", file, _NOT_COCO)
        return None
    annotations = content.get("annotations")
    if isinstance(annotations, list) and any(isinstance(one, dict) and "segments_info" in one for one in annotations):
        return read_coco_panoptic(content, file, found.name, finder, _png_finder(tree, base, key))
    return read_coco_instances(content, file, found.name, finder, kind == "cvat")


def _png_finder(tree: FileTree, base: str, key: str) -> PictureFinder:
    """Finds panoptic PNGs: in a folder called as their JSON or ``panoptic``, or in a zip called as their JSON."""
    path = PurePosixPath(key)
    packed = path.with_suffix(".zip").as_posix()
    if packed in tree.files and tree.path.is_dir():
        return PictureFinder(zip_tree(tree.path / packed), "", [path.stem, ""], everywhere=False)
    beside = path.parent.as_posix()
    names = (path.stem, "panoptic", "masks", "")
    folders = [joined(above, name) for above in ("", PurePosixPath(beside).name) for name in names]
    return PictureFinder(tree, base, folders, everywhere=False)
