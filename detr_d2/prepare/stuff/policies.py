"""Policies for the rest of an image, which people didn't label: void, one class, or masks from elsewhere.

What the classes of a model, of masks or of COCO are called in the dataset that is being made: COCO's 53 kinds of stuff
belong to 15 super-categories, of which there are 16 with ``misc``.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import yaml
from scipy import ndimage

from detr_d2.data.categories import Category, coco_categories, coco_super_categories, construction_categories
from detr_d2.errors import ConfigError, DatasetError, MissingFileError
from detr_d2.files import SpecialFileError, open_regular, real_path
from detr_d2.labels.panoptic_png import color_of_id, id_of_color, read_ids
from detr_d2.labels.readers.cvat_masks import LABEL_MAP, parse_label_map
from detr_d2.labels.records import ClassRecord, FileRef, ImageRecord, Note
from detr_d2.labels.rules.categories import find_name, normal_name

from ..drawing import Region
from ..options import ForeignThings, StuffClasses, StuffSettings

#: What isn't named: other people's things, and the rest of an image.
MISC = "misc"
#: What lists the classes of a folder of masks.
CLASSES = "classes.yaml"
_VOID_NAMES = ("void", "background", "unlabeled", "unlabelled", "ignore")
_VOID_NUMBERS = (0, 255)
_INDEX_MODES = ("L", "P", "I", "1", "I;16", "I;16B", "I;16L", "I;16N")


@cache
def super_categories() -> tuple[Category, ...]:
    """``misc`` and the 15 others, with the ids and colours that the construction datasets give them."""
    return tuple(category for category in construction_categories() if not category.is_thing)


@cache
def coco_stuff() -> tuple[Category, ...]:
    """``misc`` and COCO's 53 kinds of stuff."""
    return (super_categories()[0], *(category for category in coco_categories() if not category.is_thing))


@cache
def _coco_names() -> dict[str, str]:
    """COCO's own spelling of a name, by the normal name."""
    return {normal_name(category.name): category.name for category in coco_categories()}


@dataclass(frozen=True)
class ClassMapping:
    """COCO's stuff as super-categories (``super``) or as it is (``coco``); things as ``misc`` or ``void``.

    Names that COCO lacks stay.
    """

    classes: StuffClasses = "super"
    things: ForeignThings = "misc"

    def name_of(self, name: str, is_thing: bool | None = None) -> str:
        """A class's name in the dataset, or an empty one for void.

        Args:
            name: as the model or the file has it; matched as all names of classes are.
            is_thing: None where nobody says; then COCO's things are things and all else is stuff.
        """
        coco = find_name(name, _coco_names())
        is_stuff_of_coco = coco in coco_super_categories()
        if (coco is not None and not is_stuff_of_coco) if is_thing is None else is_thing:
            return MISC if self.things == "misc" else ""
        if coco is None or not is_stuff_of_coco:
            return name
        return coco_super_categories()[coco] if self.classes == "super" else coco

    def records(self, names: Iterable[str] = ()) -> tuple[ClassRecord, ...]:
        """The stuff classes that may come out: the usual ones, and those that COCO lacks of all ``names`` of stuff."""
        usual = super_categories() if self.classes == "super" else coco_stuff()
        records = {category.name: ClassRecord(category.name, False, category.color) for category in usual}
        for name in names:
            found = self.name_of(name, False)
            records.setdefault(found, ClassRecord(found, False))
        return tuple(records.values())


class StuffPolicy:
    """Labels what people didn't. It can be pickled, and is sent to other processes after :meth:`prepare`.

    Its ``repr`` names everything that its answers depend on, as an interrupted run goes on only with the same policy.

    Attributes:
        categories: the stuff classes it may give, ``is_thing`` False.
        needs_pixels: whether it looks at the image.
        notes: what :meth:`prepare` has to say, for the report.
        asked_for: how it was asked for, for the report; empty: its ``repr`` says it.
    """

    categories: tuple[ClassRecord, ...] = ()
    needs_pixels = False
    notes: tuple[Note, ...] = ()
    asked_for = ""

    def prepare(self, images: Sequence[ImageRecord], work_folder: Path) -> None:
        """Called once, in the main process, before any image's turn; a model is run here.

        Args:
            images: named ``<export>/<name>``, as in :meth:`__call__`; ``prepare.preparing.decode`` reads one.
            work_folder: there for this policy alone; what is put there survives an interruption.
        """

    def files_of(self, name: str) -> Sequence[Path]:
        """The files beside the image's own that its stuff is read from; other files, or changed ones, other stuff.

        Called after :meth:`prepare`. What is the same for all images belongs into the ``repr`` instead.
        """
        return ()

    def __call__(self, pixels: np.ndarray | None, free: np.ndarray, name: str) -> list[Region]:
        """The stuff of one image; called in a worker process.

        Args:
            pixels: (H, W, 3) uint8 RGB, upright as the labels are; None where the policy doesn't need them.
            free: (H, W) bool, where no person labelled anything.
            name: ``<export>/<name>`` of the image.

        Raises:
            DatasetError: the image can't be labelled; it is left out, and the report says why.
        """
        return []


class NoStuff(StuffPolicy):
    """The rest is void: training and evaluation leave it alone."""

    def __repr__(self) -> str:
        return "NoStuff()"


class MiscStuff(StuffPolicy):
    """The rest is one segment of the class ``misc``; what is within ``margin`` pixels of people's labels is void.

    Hand-drawn borders are never exact.
    """

    def __init__(self, margin: int = 0) -> None:
        self.categories = (ClassRecord(MISC, False, super_categories()[0].color),)
        self.margin = margin

    def __call__(self, pixels: np.ndarray | None, free: np.ndarray, name: str) -> list[Region]:
        """All that is free, beyond the margin."""
        return [Region(MISC, beyond_margin(free, self.margin), "rest")]

    def __repr__(self) -> str:
        return f"MiscStuff(margin={self.margin})"


def beyond_margin(free: np.ndarray, margin: int) -> np.ndarray:
    """(H, W) bool: where all within ``margin`` pixels, as the crow flies, is ``free``; outside of the image all is."""
    if margin < 1 or free.all() or not free.any():
        return free
    rows, columns = np.flatnonzero(~free.all(axis=1)), np.flatnonzero(~free.all(axis=0))
    window = tuple(slice(max(on[0] - margin - 1, 0), on[-1] + margin + 2) for on in (rows, columns))
    result = free.copy()
    result[window] = ndimage.distance_transform_edt(free[window]) > margin
    return result


class MaskStuff(StuffPolicy):
    """Stuff from a folder of PNGs, away from people's labels.

    An image ``<export>/brick/1.jpg`` has its PNG in ``<export>/brick/1.png``, ``brick/1.png`` or ``1.png``. Beside
    them lies ``classes.yaml`` with a line ``number: name`` for each value of grey or palette PNGs, or ``labelmap.txt``
    as CVAT writes it (``name:red,green,blue::``) for PNGs in colour. What is called void or background is void, and so
    are 0 and 255 (black in colour) where they have no name.

    Raises:
        MissingFileError: there is no folder, or no list of classes in it.
        ConfigError: the list isn't understood.
    """

    def __init__(self, folder: str | Path, settings: StuffSettings) -> None:
        self.folder = Path(folder).expanduser()
        self._mapping = ClassMapping(settings.classes, settings.things)
        self._margin = settings.margin or 0
        self.is_colored, names = _read_legend(self.folder)
        classes = {number: name for number, name in names.items() if name.strip().casefold() not in _VOID_NAMES}
        self._names = {number: self._mapping.name_of(classes[number]) if number in classes else "" for number in names}
        stuff = [name for number, name in classes.items() if self._names[number] == self._mapping.name_of(name, False)]
        self.categories = self._mapping.records(stuff)

    def __repr__(self) -> str:
        return f"MaskStuff({real_path(self.folder)}, {self._names}, {self._mapping}, margin={self._margin})"

    def prepare(self, images: Sequence[ImageRecord], work_folder: Path) -> None:
        """Look whether the masks are there; MissingFileError: not a single one is."""
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
    if names := {id_of_color(color): name for name, color in parse_label_map(text).items()}:
        return names
    raise ValueError("it has no lines 'name:red,green,blue::'.")
