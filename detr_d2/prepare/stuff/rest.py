"""The two policies that look at nothing: the rest is void, or all of it is one class."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from detr_d2.labels.records import ClassRecord, Note, PictureRecord

from .margin import beyond_margin
from .policy import Progress, Region
from .super_categories import MISC, super_categories


class NoStuff:
    """The rest is void: training and evaluation leave it alone."""

    categories: tuple[ClassRecord, ...] = ()
    needs_pixels = False
    notes: tuple[Note, ...] = ()

    def prepare(self, pictures: Sequence[PictureRecord], work_folder: Path, progress: Progress) -> None:
        """Nothing to do."""

    def files_of(self, name: str) -> Sequence[Path]:
        """None."""
        return ()

    def __call__(self, pixels: np.ndarray | None, free: np.ndarray, name: str) -> list[Region]:
        """Nothing."""
        return []

    def __repr__(self) -> str:
        return "NoStuff()"


class MiscStuff:
    """The rest is one segment of the class ``misc``.

    Args:
        margin: pixels around people's labels that become void, as hand-drawn borders are never exact.
    """

    needs_pixels = False
    notes: tuple[Note, ...] = ()

    def __init__(self, margin: int = 0) -> None:
        self.categories: tuple[ClassRecord, ...] = (ClassRecord(MISC, False, super_categories()[0].color),)
        self.margin = margin

    def prepare(self, pictures: Sequence[PictureRecord], work_folder: Path, progress: Progress) -> None:
        """Nothing to do."""

    def files_of(self, name: str) -> Sequence[Path]:
        """None."""
        return ()

    def __call__(self, pixels: np.ndarray | None, free: np.ndarray, name: str) -> list[Region]:
        """All that is free, beyond the margin."""
        return [Region(MISC, beyond_margin(free, self.margin), "rest")]

    def __repr__(self) -> str:
        return f"MiscStuff(margin={self.margin})"
