"""Where the files of a repaired copy go: as they lay, or under the usual names."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detr_d2.data.registration import entry_of
from detr_d2.data.registration_config import write_entries

from .sources import Source, Sources


@dataclass(frozen=True)
class Target:
    """One JSON of the copy, its paths relative to the copy's folder.

    Args:
        source: the original.
        json_file: of the copy.
        images: folder of its images, or None where the original's isn't known.
        panoptic_root: folder of its PNGs, or None.
        is_secondary: instances beside a panoptic JSON of the same images.
    """

    source: Source
    json_file: str
    images: str | None
    panoptic_root: str | None
    is_secondary: bool = False

    def in_folder(self, folder: Path) -> Source:
        """The copy's JSON with its folders, for a check."""
        images, pngs = (str(folder / place) if place else None for place in (self.images, self.panoptic_root))
        return Source(str(folder / self.json_file), images, pngs)


def plan(dataset: Sources, root: str | None) -> list[Target]:
    """A target for each JSON of a dataset.

    Args:
        dataset: of COCO's JSON files.
        root: folder of the dataset; what lies in it keeps its place. None: there is none.
    """
    places = _Places(root)
    second = {entry.instances_json for entry in map(entry_of, dataset.names) if entry and entry.panoptic_json}
    targets = []
    for source in dataset.sources:
        json_file = places.of(source.json_file, os.path.basename(source.json_file), is_folder=False)
        images = places.of(source.images, "images") if source.images else None
        pngs = places.of(source.panoptic_root, "panoptic") if source.panoptic_root else None
        targets.append(Target(source, json_file, images, pngs, source.json_file in second))
    return targets


#: The ending of a zip that files lie in: their copies lie in a folder.
_ZIP = re.compile(rf"\.zip({re.escape(os.sep)})", re.IGNORECASE)


class _Places:
    """Gives each path of the originals one in the copy, and never the same to two."""

    def __init__(self, root: str | None) -> None:
        self._root = os.path.abspath(root) if root else None
        self._given: dict[str, str] = {}
        self._taken: set[str] = set()

    def of(self, path: str, usual: str, is_folder: bool = True) -> str:
        key = os.path.abspath(path)
        if key not in self._given:
            kept = os.path.relpath(key, self._root) if self._root else os.pardir
            is_outside = kept in (os.curdir, os.pardir) or kept.startswith(os.pardir + os.sep)
            wanted = usual if is_outside else _ZIP.sub(r"\1", kept)
            self._given[key] = self._free(wanted)
        return self._given[key]

    def _free(self, wanted: str) -> str:
        stem, ending = os.path.splitext(wanted)
        name, number = wanted, 1
        while name in self._taken:
            number += 1
            name = f"{stem}-{number}{ending}"
        self._taken.add(name)
        return name


def write_register(folder: Path, dataset: Sources, targets: Sequence[Target]) -> None:
    """``register.yaml`` of the copy, for the datasets of which a JSON is left.

    A dataset whose categories are known beforehand, such as a built-in one, gets ``_fixed`` behind its name, as names
    can't be taken twice.
    """
    placed = {target.source.json_file: target for target in targets}
    described: list[dict[str, Any]] = []
    for entry in filter(None, map(entry_of, dataset.names)):
        first = placed.get(entry.panoptic_json or entry.instances_json)
        if first is None:
            continue
        name = f"{entry.name}_fixed" if entry.categories else entry.name
        mapping = {"name": name, "images": first.images}
        if entry.panoptic_json:
            mapping.update(panoptic_json=first.json_file, panoptic_root=first.panoptic_root)
        if entry.instances_json in placed:
            mapping["instances_json"] = placed[entry.instances_json].json_file
        described.append({key: value for key, value in mapping.items() if value})
    write_entries(folder, described)
