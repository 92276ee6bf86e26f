"""Masks from elsewhere label what people didn't: a folder with a PNG for each image and a list of their classes."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import yaml

from detr_d2.errors import ConfigError, DatasetError, MissingFileError
from detr_d2.files import SpecialFileError, open_regular, real_path
from detr_d2.labels.panoptic_png import color_of_id, id_of_color, read_ids
from detr_d2.labels.readers.cvat_masks import LABEL_MAP, parse_label_map
from detr_d2.labels.records import FileRef, ImageRecord, Note

from ..options import StuffSettings
from .policy import ClassMapping, Region, StuffPolicy, beyond_margin

CLASSES = "classes.yaml"
_VOID_NAMES = ("void", "background", "unlabeled", "unlabelled", "ignore")
_VOID_NUMBERS = (0, 255)
_INDEX_MODES = ("L", "P", "I", "1", "I;16", "I;16B", "I;16L", "I;16N")


class MaskStuff(StuffPolicy):
    """Stuff from PNGs, away from people's labels.

    An image ``<export>/brick/1.jpg`` has its PNG in ``<export>/brick/1.png``, ``brick/1.png`` or ``1.png``. Beside
    them lies ``classes.yaml`` with a line ``number: name`` for each value of grey or palette PNGs, or ``labelmap.txt``
    as CVAT writes it (``name:red,green,blue::``) for PNGs in colour. What is called void or background is void, and so
    are 0 and 255 (black in colour) where they have no name.

    Args:
        folder: of the PNGs.
        settings: classes and things as of a model; the margin.

    Raises:
        MissingFileError: there is no folder, or no list of classes in it.
        ConfigError: the list isn't understood.
    """

    def __init__(self, folder: str | Path, settings: StuffSettings) -> None:
        self.folder = Path(folder).expanduser()
        self._mapping = ClassMapping(settings.classes, settings.things)
        self._margin = settings.margin or 0
        self.is_colored, names = _read_legend(self.folder)
        self._names = {number: self._name_in_dataset(name) for number, name in names.items()}
        stuff = [name for name in names.values() if self._name_in_dataset(name)]
        self.categories = self._mapping.records(
            name for name in stuff if self._mapping.name_of(name) == self._mapping.name_of(name, False)
        )

    def _name_in_dataset(self, name: str) -> str:
        return "" if name.strip().casefold() in _VOID_NAMES else self._mapping.name_of(name)

    def __repr__(self) -> str:
        return f"MaskStuff({real_path(self.folder)}, {self._names}, {self._mapping}, margin={self._margin})"

    def prepare(self, images: Sequence[ImageRecord], work_folder: Path) -> None:
        """Look whether the masks are there.

        Raises:
            MissingFileError: not a single one.
        """
        missing = [image.name for image in images if not self.files_of(image.name)]
        if images and len(missing) == len(images):
            tried = ", ".join(str(path) for path in self._candidates(missing[0]))
            raise MissingFileError(f"--stuff masks {self.folder}: no image has a mask; looked for {tried}.")
        about = "stuff-mask-missing", "no mask; its rest is void.", str(self.folder)
        self.notes = tuple(Note(*about, name) for name in missing)

    def files_of(self, name: str) -> Sequence[Path]:
        """The image's mask, if there is one."""
        return [path for path in self._candidates(name) if os.path.lexists(path) and not path.is_dir()][:1]

    def __call__(self, pixels: np.ndarray | None, free: np.ndarray, name: str) -> list[Region]:
        """The classes of the image's mask, each one region."""
        members: dict[str, list[int]] = {}
        for path in self.files_of(name):
            numbers = self._read(path)
            if numbers.shape != free.shape:
                raise DatasetError(
                    f"{path} is {numbers.shape[1]}x{numbers.shape[0]} pixels, its image "
                    f"{free.shape[1]}x{free.shape[0]}; write the mask in the image's size."
                )
            allowed = beyond_margin(free, self._margin)
            for value in np.unique(numbers[allowed]).tolist():
                if value not in self._names and value not in (_VOID_NUMBERS if not self.is_colored else (0,)):
                    legend = LABEL_MAP if self.is_colored else CLASSES
                    shown = ",".join(map(str, color_of_id(value))) if self.is_colored else value
                    raise DatasetError(f"{path} has the value {shown}, which {legend} doesn't name.")
                if found := self._names.get(value):
                    members.setdefault(found, []).append(value)
        return [Region(found, allowed & np.isin(numbers, values), "masks") for found, values in members.items()]

    def _candidates(self, name: str) -> list[Path]:
        parts = PurePosixPath(name).with_suffix(".png").parts
        return [self.folder.joinpath(*parts[start:]) for start in range(len(parts))]

    def _read(self, path: Path) -> np.ndarray:
        """Numbers (H, W): the values, or red + 256 green + 65536 blue."""
        numbers, are_indices = read_ids(FileRef(path), () if self.is_colored else _INDEX_MODES)
        if not self.is_colored and not are_indices:
            raise DatasetError(f"{path} is in colour; with {CLASSES} a mask is grey or a palette.")
        return numbers


def _read_legend(folder: Path) -> tuple[bool, dict[int, str]]:
    """Whether the masks are in colour, and the class of each value."""
    if not folder.is_dir():
        raise MissingFileError(f"--stuff masks {folder}: there is no such folder.")
    for name, parse in ((CLASSES, _parse_classes), (LABEL_MAP, _parse_colors)):
        path = folder / name
        if os.path.lexists(path):
            try:
                with open_regular(path) as file:
                    return name == LABEL_MAP, parse(file.read().decode("utf-8-sig"))
            except SpecialFileError:
                raise
            except (OSError, ValueError, yaml.YAMLError) as error:
                raise ConfigError(f"{path} isn't understood: {error}") from error
    raise MissingFileError(
        f"--stuff masks {folder}: nothing says which classes the masks show. Write {CLASSES} with a line "
        f"'number: name' for each value, or {LABEL_MAP} with 'name:red,green,blue::'."
    )


def _parse_classes(text: str) -> dict[int, str]:
    content: Any = yaml.safe_load(text)
    if not isinstance(content, Mapping) or not content:
        raise ValueError("write a line 'number: name' for each value, such as '1: wall'.")
    for number, name in content.items():
        if isinstance(number, bool) or not isinstance(number, int) or not isinstance(name, str) or not name.strip():
            raise ValueError(f"{number!r}: {name!r} isn't a whole number and a name.")
    return {int(number): str(name) for number, name in content.items()}


def _parse_colors(text: str) -> dict[int, str]:
    names = {id_of_color(color): name for name, color in parse_label_map(text).items()}
    if not names:
        raise ValueError("it has no lines 'name:red,green,blue::'.")
    return names
