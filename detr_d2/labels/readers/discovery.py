"""Which exports a folder, a zip or a file holds, and reading them all."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath, PurePosixPath
from typing import Literal, TypeVar

from detr_d2.errors import DatasetError, MissingFileError, UserError
from detr_d2.files import real_path, refuse_special

from ..archives import FileTree, folder_tree, has_image_suffix, joined, zip_tree
from ..records import Export, Note
from ..rules.json_files import objects_of
from ..values import numbered
from .building import ImageFinder
from .coco import KnownThings, load_json, read_coco
from .cvat_masks import CLASSES, LABEL_MAP, read_cvat_masks
from .cvat_xml import is_cvat_xml, read_cvat_xml

AnyPath = TypeVar("AnyPath", bound=PurePath)
Answer = TypeVar("Answer")
Kind = Literal["cvat", "coco"]

logger = logging.getLogger(__name__)

_KNOWN = ("coco.json", "annotations.json", "_annotations.coco.json")
_OTHER_TASKS = ("captions_", "person_keypoints_", "stuff_", "image_info_", "labels_")
#: A folder with more JSONs or XMLs than this has one for each image, as other programs write them.
_MOST_BESIDE = 20
_HOLDS = (
    "exports of CVAT ('COCO 1.0', 'CVAT for images 1.1', 'Segmentation mask 1.1'; zips or folders), COCO instances or "
    "COCO panoptic"
)


@dataclass(frozen=True)
class Found:
    """The labels of one export, or what may be or hold an export and can't be read.

    Args:
        tree: what they are in.
        key: name of the JSON, XML or labelmap there.
        name: of the export.
        twin: a zip beside it that isn't read, as it was unpacked to this folder.
        problem: why the zip, folder or link, which ``tree`` is then, can't be read, and what to do.
    """

    tree: FileTree
    key: str
    name: str
    twin: str = ""
    problem: str = ""

    @property
    def path(self) -> Path:
        """Of the labels, also inside a zip."""
        return self.tree.path / self.key

    @property
    def base(self) -> str:
        """The folder of the export in its tree: the nearest one above the labels that has images."""
        above = PurePosixPath(self.key).parent
        base = above.parent if above.name == "annotations" else above
        while base.name and not any(has_image_suffix(key) for key in self.tree.files if key.startswith(f"{base}/")):
            base = base.parent
        return "" if base == PurePosixPath(".") else base.as_posix()


def _refused(path: Path, problem: str) -> Found:
    return Found(FileTree(path, {}), "", "", problem=problem)


def read_exports(
    paths: Sequence[Path], kind: Kind, needs_images: bool = True, known_things: KnownThings = dict
) -> list[Export]:
    """All exports that some folders, zips or files hold; zips are read where they lie.

    Args:
        paths: folders of one or many exports, zips, or single JSONs and XMLs.
        kind: where the user says that they come from; what each one is, is found out.
        needs_images: labels of images whose files aren't there are left out.
        known_things: 1 or 0, a thing or stuff, by names of classes, for panoptic files that don't say it.

    Returns:
        The exports by name, which is unique, and each with at least one image.

    Raises:
        MissingFileError: a path isn't there.
        DatasetError: a path holds no export; or exports can't be read, all of which are named.
    """
    exports, errors = try_exports(paths, kind, needs_images, known_things)
    refuse_unreadable(errors)
    return exports


def try_exports(
    paths: Sequence[Path], kind: Kind, needs_images: bool = True, known_things: KnownThings = dict
) -> tuple[list[Export], list[UserError]]:
    """As :func:`read_exports`, but what is wrong with paths and exports is returned beside those that can be read."""
    errors: list[UserError] = []

    def tried(function: Callable[..., Answer], *arguments: object) -> Answer | None:
        try:
            return function(*arguments)
        except UserError as error:
            errors.append(error)
        except OSError as error:
            errors.append(DatasetError(f"{error.filename} can't be read: {error.strerror or error}."))
        return None

    found: list[Found] = []
    for one in (one for path in paths for one in tried(find_exports, path) or ()):
        if one.problem:
            errors.append(DatasetError(one.problem))
        else:
            found.append(one)
    read = (tried(read_found, one, kind, needs_images, known_things) for one in _named_apart(found))
    exports = [export for export in read if export is not None]
    if paths and not exports and not errors:
        errors.append(DatasetError(f"{', '.join(map(str, paths))}: no export found; there must be {_HOLDS}."))
    return exports, errors


def refuse_unreadable(errors: Sequence[UserError]) -> None:
    """Raises what is wrong with exports, all at once."""
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise DatasetError("\n".join(map(str, errors)))


def find_exports(path: Path) -> list[Found]:
    """The exports that a path holds, and what in it can't be read.

    Raises:
        MissingFileError: it isn't there.
        SpecialFileError: it is no folder and no regular file.
        DatasetError: it holds no export.
    """
    if not path.is_dir():
        refuse_special(path)
    if path.is_dir():
        found = list(_in_folder(folder_tree(path)))
    elif not path.is_file():
        raise MissingFileError(f"{path} isn't there; give {_HOLDS}.")
    elif path.suffix.lower() == ".zip":
        found = list(_in_zip(path))
    elif path.suffix.lower() in (".json", ".xml") or path.name == LABEL_MAP:
        above = path.parent.parent
        has_images_above = path.parent.name == "annotations" or (above / "images").is_dir()
        tree = folder_tree(above if has_images_above else path.parent)
        found = [Found(tree, path.relative_to(tree.path).as_posix(), path.stem)]
    else:
        raise DatasetError(f"{path} is no export; give {_HOLDS}.")
    if not found:
        raise DatasetError(f"{path} holds no export; there must be {_HOLDS}.")
    return found


def _in_folder(tree: FileTree) -> Iterator[Found]:
    for path, message in tree.unreadable.items():
        yield _refused(path, message)
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


def _in_zip(path: Path) -> Iterator[Found]:
    try:
        tree = zip_tree(path)
    except (DatasetError, MissingFileError) as error:
        yield _refused(path, str(error))
        return
    found = list(_in_tree(tree))
    if not found and any(key.lower().endswith(".zip") for key in tree.files):
        yield _refused(path, f"{path} is a zip of zips; unpack it, and give the folder.")
    yield from found


def _in_tree(tree: FileTree) -> Iterator[Found]:
    """The exports of a folder or zip, without those in zips in it."""
    by_folder: dict[PurePosixPath, list[PurePosixPath]] = {}
    for path in map(PurePosixPath, tree.under("")):
        if path.suffix.lower() in (".json", ".xml") or path.name == LABEL_MAP:
            by_folder.setdefault(path.parent, []).append(path)
    for _, paths in sorted(by_folder.items()):
        counts = Counter(path.suffix.lower() for path in paths)
        for path in paths:
            if _is_export(tree, path, counts[path.suffix.lower()] <= _MOST_BESIDE):
                above = tree.path.stem if tree.path.is_file() else real_path(tree.path).name
                yield Found(tree, path.as_posix(), folder_of_export(path).name or above)


def _is_export(tree: FileTree, path: PurePosixPath, is_alone: bool) -> bool:
    """Whether a JSON, XML or labelmap is one; ``is_alone``: few of its kind lie beside it."""
    if path.name == LABEL_MAP:
        has_masks = bool(tree.under(joined(str(path.parent), CLASSES)))
        if not has_masks:
            logger.warning("%s has no masks in a folder %s beside it; it wasn't read.", tree.files[str(path)], CLASSES)
        return has_masks
    if path.suffix.lower() == ".xml":
        return is_alone and is_cvat_xml(tree.files[str(path)])
    panoptic = path.with_name(path.name.replace("instances_", "panoptic_", 1))
    if panoptic != path and str(panoptic) in tree.files:
        logger.info("%s isn't read, as a panoptic JSON beside it knows more of the same images.", path)
        return False
    return _is_named_as_coco(path) or (is_alone and not path.name.startswith(_OTHER_TASKS))


def _is_named_as_coco(path: PurePosixPath) -> bool:
    return path.name.lower() in _KNOWN or path.name.startswith(("instances_", "panoptic_"))


def folder_of_export(labels: AnyPath) -> AnyPath:
    """The folder that an export is called by, from the path of its labels."""
    above = labels.parent
    return above.parent if above.name in ("annotations", "labels") else above


def _named_apart(found: Sequence[Found]) -> Iterator[Found]:
    """With unique names: those of one folder get what is special in their file's name, others a number."""
    folders = Counter((id(one.tree), PurePosixPath(one.key).parent) for one in found)
    counts = Counter(one.name for one in found)
    used: set[str] = set()
    for one in found:
        name = one.name
        if counts[name] > 1 and folders[id(one.tree), PurePosixPath(one.key).parent] > 1:
            name = f"{name}_{_subset(one.key) or PurePosixPath(one.key).stem}"
        unique, number = name, 2
        while unique.casefold() in used:
            unique, number = f"{name}_{number}", number + 1
        used.add(unique.casefold())
        yield replace(one, name=unique)


def _subset(key: str) -> str:
    """``train`` of ``instances_train.json``; empty where the name has no such part."""
    stem = PurePosixPath(key).stem
    subset = stem.removeprefix("instances_").removeprefix("panoptic_")
    return "" if subset == stem else subset


def read_found(found: Found, kind: Kind, needs_images: bool = True, known_things: KnownThings = dict) -> Export | None:
    """The export; None, and a warning, for a JSON that isn't COCO's. For its errors see :func:`read_exports`."""
    export = _read(found, kind, needs_images, known_things)
    if export is None or not found.twin:
        return export
    message = f"{found.twin} beside it has the name of its folder, and isn't read: the folder is what was in it."
    return replace(export, notes=(*export.notes, Note("export-twice", message, str(export.file))))


def _read(found: Found, kind: str, needs_images: bool, known_things: KnownThings) -> Export | None:
    tree, path, base = found.tree, PurePosixPath(found.key), found.base
    file, subset = tree.files[found.key], _subset(found.key)
    if path.name == LABEL_MAP:
        return read_cvat_masks(tree, "" if path.parent.name == "" else path.parent.as_posix(), found.name, needs_images)
    folders = [*(joined("images", subset), subset)[: 2 * bool(subset)], "images", "", "JPEGImages"]
    finder = ImageFinder(tree, base, folders, is_needed=needs_images)
    if path.suffix.lower() == ".xml":
        return read_cvat_xml(file, found.name, finder)
    content = load_json(file)
    if not {"images", "annotations"} <= content.keys() and not _is_named_as_coco(path):
        logger.warning("%s lacks images or annotations, so it isn't COCO's; it wasn't read.", file)
        return None
    is_panoptic = any("segments_info" in entry for _, entry in numbered(objects_of(content, "annotations")))
    pngs = _png_finder(tree, base, path) if is_panoptic else None
    return read_coco(content, file, found.name, finder, kind == "cvat", pngs, known_things)


def _png_finder(tree: FileTree, base: str, path: PurePosixPath) -> ImageFinder:
    """Finds panoptic PNGs: in a folder called as their JSON or ``panoptic``, or in a zip called as their JSON."""
    packed = path.with_suffix(".zip").as_posix()
    if packed in tree.files and tree.path.is_dir():
        return ImageFinder(zip_tree(tree.path / packed), "", [path.stem, ""], everywhere=False)
    names = (path.stem, "panoptic", "masks", "")
    folders = [joined(above, name) for above in ("", path.parent.name) for name in names]
    return ImageFinder(tree, base, folders, everywhere=False)
