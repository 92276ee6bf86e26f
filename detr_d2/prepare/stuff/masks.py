"""Masks from elsewhere label what people didn't: a folder with a PNG for each picture and a list of their classes."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import yaml
from PIL import Image

from detr_d2.errors import ConfigError, DatasetError, MissingFileError
from detr_d2.files import SpecialFileError, open_regular
from detr_d2.labels.records import Note, PictureRecord

from .class_mapping import ClassMapping
from .margin import beyond_margin
from .policy import Progress, Region
from .settings import StuffSettings

CLASSES, LABELMAP = "classes.yaml", "labelmap.txt"
_VOID_NAMES = ("void", "background", "unlabeled", "unlabelled", "ignore")
_VOID_NUMBERS = (0, 255)


class MaskStuff:
    """Stuff from PNGs, away from people's labels.

    A picture ``<export>/brick/1.jpg`` has its PNG in ``<export>/brick/1.png``, ``brick/1.png`` or ``1.png``. Beside
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

    needs_pixels = False

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
        self.notes: tuple[Note, ...] = ()

    def _name_in_dataset(self, name: str) -> str:
        return "" if name.strip().casefold() in _VOID_NAMES else self._mapping.name_of(name)

    def __repr__(self) -> str:
        return f"MaskStuff({self.folder.resolve()}, {self._names}, {self._mapping}, margin={self._margin})"

    def prepare(self, pictures: Sequence[PictureRecord], work_folder: Path, progress: Progress) -> None:
        """Look whether the masks are there.

        Raises:
            MissingFileError: not a single one.
        """
        missing = [picture.name for picture in pictures if self._find(picture.name) is None]
        if pictures and len(missing) == len(pictures):
            tried = ", ".join(str(path) for path in self._candidates(missing[0]))
            raise MissingFileError(f"--stuff masks {self.folder}: no picture has a mask; looked for {tried}.")
        self.notes = tuple(
            Note("stuff-mask-missing", "no mask; its rest is void.", str(self.folder), name) for name in missing
        )

    def files_of(self, name: str) -> Sequence[Path]:
        """The picture's mask, if there is one."""
        path = self._find(name)
        return () if path is None else (path,)

    def __call__(self, pixels: np.ndarray | None, free: np.ndarray, name: str) -> list[Region]:
        """The classes of the picture's mask, each one region."""
        path = self._find(name)
        if path is None:
            return []
        numbers = self._read(path)
        if numbers.shape != free.shape:
            raise DatasetError(
                f"{path} is {numbers.shape[1]}x{numbers.shape[0]} pixels, its picture {free.shape[1]}x{free.shape[0]}; "
                "write the mask in the picture's size."
            )
        allowed = beyond_margin(free, self._margin)
        members: dict[str, list[int]] = {}
        for value in np.unique(numbers[allowed]).tolist():
            if value not in self._names and value not in (_VOID_NUMBERS if not self.is_colored else (0,)):
                raise DatasetError(f"{path} has the value {self._shown(value)}, which {self._legend} doesn't name.")
            if found := self._names.get(value):
                members.setdefault(found, []).append(value)
        return [Region(found, allowed & np.isin(numbers, values), "masks") for found, values in members.items()]

    @property
    def _legend(self) -> str:
        return LABELMAP if self.is_colored else CLASSES

    def _shown(self, value: int) -> str:
        return f"{value % 256},{value // 256 % 256},{value // 65536}" if self.is_colored else str(value)

    def _candidates(self, name: str) -> list[Path]:
        parts = PurePosixPath(name).with_suffix(".png").parts
        return [self.folder.joinpath(*parts[start:]) for start in range(len(parts))]

    def _find(self, name: str) -> Path | None:
        return next((path for path in self._candidates(name) if os.path.lexists(path) and not path.is_dir()), None)

    def _read(self, path: Path) -> np.ndarray:
        """Numbers (H, W): the values, or red + 256 green + 65536 blue."""
        try:
            with open_regular(path) as file, Image.open(file) as image:
                if image.format == "JPEG":
                    raise DatasetError(f"{path} is a JPEG, whose values aren't exact. Export it as a PNG.")
                if self.is_colored:
                    red, green, blue = np.moveaxis(np.asarray(image.convert("RGB")).astype(np.int32), 2, 0)
                    return red + 256 * green + 65536 * blue
                if image.mode not in ("L", "P", "I", "1") and not image.mode.startswith("I;"):
                    raise DatasetError(f"{path} is of mode {image.mode}; with {CLASSES} a mask is grey or a palette.")
                return np.asarray(image).astype(np.int32)
        except DatasetError:
            raise
        except SpecialFileError as error:
            raise DatasetError(str(error)) from error
        except Exception as error:  # decoders raise whatever they like on broken files
            raise DatasetError(f"{path} can't be read: {error}. Export it again.") from error


def _read_legend(folder: Path) -> tuple[bool, dict[int, str]]:
    """Whether the masks are in colour, and the class of each value."""
    if not folder.is_dir():
        raise MissingFileError(f"--stuff masks {folder}: there is no such folder.")
    for name, parse in ((CLASSES, _parse_classes), (LABELMAP, _parse_labelmap)):
        path = folder / name
        if os.path.lexists(path):
            try:
                with open_regular(path) as file:
                    return name == LABELMAP, parse(file.read().decode("utf-8"))
            except SpecialFileError:
                raise
            except (OSError, ValueError, yaml.YAMLError) as error:
                raise ConfigError(f"{path} isn't understood: {error}") from error
    raise MissingFileError(
        f"--stuff masks {folder}: nothing says which classes the masks show. Write {CLASSES} with a line "
        f"'number: name' for each value, or {LABELMAP} with 'name:red,green,blue::'."
    )


def _parse_classes(text: str) -> dict[int, str]:
    content: Any = yaml.safe_load(text)
    if not isinstance(content, Mapping) or not content:
        raise ValueError("write a line 'number: name' for each value, such as '1: wall'.")
    for number, name in content.items():
        if isinstance(number, bool) or not isinstance(number, int) or not isinstance(name, str) or not name.strip():
            raise ValueError(f"{number!r}: {name!r} isn't a whole number and a name.")
    return {int(number): str(name) for number, name in content.items()}


def _parse_labelmap(text: str) -> dict[int, str]:
    names = {}
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        name, color, *_ = [*line.split(":"), ""]
        parts = [int(part) for part in color.split(",") if part.strip()]
        if not name.strip() or len(parts) != 3 or not all(0 <= part <= 255 for part in parts):
            raise ValueError(f"the line {line!r} isn't 'name:red,green,blue::'.")
        names[parts[0] + 256 * parts[1] + 65536 * parts[2]] = name.strip()
    if not names:
        raise ValueError("it has no lines 'name:red,green,blue::'.")
    return names
