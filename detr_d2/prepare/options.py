"""What a user may choose of ``detr-d2 prepare``, apart from the exports and the stuff."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from detr_d2.errors import ConfigError

Crowds: TypeAlias = Literal["auto", "keep", "clear"]
Overlap: TypeAlias = Literal["error", "small-on-top", "z-order", "file-order", "last"]
Holes: TypeAlias = Literal["cut", "fill"]
Pictures: TypeAlias = Literal["copy", "link", "jpeg"]

CROWDS: tuple[Crowds, ...] = get_args(Crowds)
OVERLAPS: tuple[Overlap, ...] = get_args(Overlap)
HOLES: tuple[Holes, ...] = get_args(Holes)


@dataclass(frozen=True)
class PrepareOptions:
    """How exports become a dataset.

    Args:
        out: folder of the dataset.
        name: the datasets are called ``<name>_train`` and ``<name>_val``; empty: as ``out``.
        val: share of the pictures for validation, from 0 to below 1.
        seed: of the split.
        categories: ``auto`` (what the exports have), ``construction``, ``coco``, or a file that lists them.
        classes: a yaml that maps the exports' class names, or None.
        crowds: ``keep`` them, ``clear`` them all, or ``auto``: clear where a class has nothing but CVAT's.
        overlap: who gets a pixel that several labels claim.
        holes: polygons in polygons of the same object are ``cut`` out of it, or ``fill``-ed.
        min_area: segments of fewer pixels become void.
        pictures: ``copy`` the files as they are, ``link`` to them, or write all as ``jpeg``.
        quality: of JPEGs that are written, 1 to 100.
        workers: processes.

    Raises:
        ConfigError: a value isn't allowed.
    """

    out: Path
    name: str = ""
    val: float = 0.2
    seed: int = 0
    categories: str = "auto"
    classes: Path | None = None
    crowds: Crowds = "auto"
    overlap: Overlap = "small-on-top"
    holes: Holes = "cut"
    min_area: int = 16
    pictures: Pictures = "copy"
    quality: int = 95
    workers: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.val < 1:
            raise ConfigError(f"--val {self.val} isn't a share of the pictures; allowed are 0 to below 1, such as 0.2.")
        if self.min_area < 0 or self.workers < 1:
            raise ConfigError(f"--min-area {self.min_area}, --workers {self.workers}: allowed are 0 or 1 and more.")
        choices = (("crowd", self.crowds, CROWDS), ("overlap", self.overlap, OVERLAPS), ("holes", self.holes, HOLES))
        for key, value, allowed in choices:
            if value not in allowed:
                raise ConfigError(f"--{key} {value}: allowed are {', '.join(allowed)}.")
        if not 1 <= self.quality <= 100:
            raise ConfigError(f"a JPEG's quality is 1 to 100, not {self.quality}.")
        if not re.fullmatch(r"\w[\w.-]*", self.dataset_name):
            raise ConfigError(
                f"{self.dataset_name!r} is no name for a dataset; give one of letters, digits, _ by --name."
            )

    @property
    def dataset_name(self) -> str:
        """What the registered names start with."""
        return self.name or self.out.name

    def of_a_picture(self) -> str:
        """Everything here that a single prepared picture depends on."""
        return repr((self.crowds, self.overlap, self.holes, self.min_area, self.pictures, self.quality))
