"""The images of all exports as tasks, each with a name of its own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from detr_d2.errors import DatasetError
from detr_d2.labels.records import Export, ImageRecord
from detr_d2.labels.similar_names import is_text

_SHOWN = 10
_ODD = re.compile(r'[\x00-\x1f<>:"\\|?*]')


@dataclass(frozen=True)
class Task:
    """An image to prepare.

    Args:
        record: its file and labels; its name is ``<export>/<name>``, unique.
        target: the name without suffix, unique on every file system: what its files are called.
        is_cvat: the labels come from CVAT.
        source: who labelled it, ``human`` or ``coco``.
    """

    record: ImageRecord
    target: str
    is_cvat: bool
    source: str

    @property
    def fills_rest(self) -> bool:
        """Whether the stuff policy is asked for what isn't labelled: COCO's annotators looked at every pixel."""
        return self.source != "coco"


def make_tasks(exports: Sequence[Export]) -> list[Task]:
    """All images in the order of the exports. Names are ``<export>/<name>``; those of files are unique.

    A file's name is unique without its suffix and whatever its case, as ``1.jpg`` and ``1.PNG`` share a PNG of masks,
    and some systems ignore case. The second of a name gets ``_2``, and so on.

    Raises:
        DatasetError: a name leads out of its folder, or isn't text.
    """
    _refuse_unwritable_names(exports)
    folders = _folders([export.name for export in exports])
    found = [(export, folder, record) for export, folder in zip(exports, folders) for record in export.images]
    stems = [f"{_ODD.sub('_', folder)}/{_stem(record.name)}" for _, folder, record in found]
    taken = {stem.casefold() for stem in stems}
    used: set[str] = set()
    tasks = []
    for (export, folder, record), stem in zip(found, stems):
        target, number = stem, 2
        while target.casefold() in used or (target != stem and target.casefold() in taken):
            target, number = f"{stem}_{number}", number + 1
        used.add(target.casefold())
        named = replace(record, name=f"{folder}/{record.name}")
        tasks.append(Task(named, target, export.is_cvat, export.source))
    return tasks


def _refuse_unwritable_names(exports: Sequence[Export]) -> None:
    """Raises a DatasetError that names all exports and images whose names can't stand in a JSON."""
    wrong = [f"the export {export.file}" for export in exports if not is_text(export.name)]
    wrong += [f"{one.name} of {export.file}" for export in exports for one in export.images if not is_text(one.name)]
    if wrong:
        shown = ", ".join(wrong[:_SHOWN]) + (f", and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else "")
        raise DatasetError(
            f"names of folders and images have to be text in UTF-8, and these aren't: {shown}. "
            "Rename them, in the export's labels, too."
        )


def _folders(names: Sequence[str]) -> list[str]:
    """A folder for each export: its name, and a number behind where an earlier one has it."""
    folders: list[str] = []
    for name in names:
        folder, number = name, 2
        while folder in folders or (number > 2 and folder in names):
            folder, number = f"{name}_{number}", number + 1
        folders.append(folder)
    return folders


def _stem(name: str) -> str:
    """The name without suffix, of characters that every file system takes."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.name:
        raise DatasetError(f"an image's name is {name!r}, which leads out of the dataset. Export it again.")
    return _ODD.sub("_", str(path.with_suffix("") if path.stem.strip(".") else path))
