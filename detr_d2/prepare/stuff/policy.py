"""Policies for the rest of an image, which people didn't label: what they are, and the two that look at nothing."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
from scipy import ndimage

from detr_d2.labels.records import ClassRecord, ImageRecord, Note

from .class_mapping import MISC, super_categories

Source: TypeAlias = Literal["human", "model", "masks", "coco", "rest"]
"""Who says so: a person; a model; masks from elsewhere; COCO's annotators; nobody, it is what was left."""

Progress: TypeAlias = Callable[[Iterable[ImageRecord], int, str], Iterable[ImageRecord]]
"""Wraps images, given their number and a title, to show how far it is."""


@dataclass(frozen=True)
class Region:
    """A piece of stuff in one image.

    Args:
        class_name: one of the policy's categories; several regions of a class become one segment. Empty: void, which
            other regions must not fill.
        mask: (H, W) bool; what isn't free is cut off, and where regions overlap the first one wins.
        source: who says so.
        score: of a model, 0 to 1, or None.
    """

    class_name: str
    mask: np.ndarray
    source: Source
    score: float | None = None


class StuffPolicy:
    """Labels what people didn't. It can be pickled, and is sent to other processes after :meth:`prepare`.

    Its ``repr`` names everything that its answers depend on, as an interrupted run goes on only with the same policy.

    Attributes:
        categories: the stuff classes it may give, ``is_thing`` False.
        needs_pixels: whether it looks at the image.
        notes: what :meth:`prepare` has to say, for the report.
    """

    categories: tuple[ClassRecord, ...] = ()
    needs_pixels = False
    notes: tuple[Note, ...] = ()

    def prepare(self, images: Sequence[ImageRecord], work_folder: Path, progress: Progress) -> None:
        """Called once, in the main process, before any image's turn; a model is run here.

        Args:
            images: named ``<export>/<name>``, as in :meth:`__call__`; ``prepare.pixels.read_pixels`` reads one.
            work_folder: there for this policy alone; what is put there survives an interruption.
            progress: wraps what is iterated over.
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
        raise NotImplementedError


class NoStuff(StuffPolicy):
    """The rest is void: training and evaluation leave it alone."""

    def __call__(self, pixels: np.ndarray | None, free: np.ndarray, name: str) -> list[Region]:
        """Nothing."""
        return []

    def __repr__(self) -> str:
        return "NoStuff()"


class MiscStuff(StuffPolicy):
    """The rest is one segment of the class ``misc``.

    Args:
        margin: pixels around people's labels that become void, as hand-drawn borders are never exact.
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
    """Where ``free`` is on and everything within ``margin`` pixels, measured as the crow flies, is on too.

    Args:
        free: (H, W) bool; what lies outside of the image counts as free.
        margin: in pixels; 0 changes nothing.

    Returns:
        (H, W) bool.
    """
    if margin < 1 or free.all() or not free.any():
        return free
    rows, columns = np.flatnonzero(~free.all(axis=1)), np.flatnonzero(~free.all(axis=0))
    reach = math.ceil(margin) + 1
    window = (
        slice(max(rows[0] - reach, 0), rows[-1] + reach + 1),
        slice(max(columns[0] - reach, 0), columns[-1] + reach + 1),
    )
    result = free.copy()
    result[window] = ndimage.distance_transform_edt(free[window]) > margin
    return result


def mean_score(parts: Iterable[tuple[int, float | None]]) -> float | None:
    """The mean score of some regions by their pixels, over those that have a score; None where none has.

    Args:
        parts: pixels and score of each.
    """
    scored = [(area, score) for area, score in parts if score is not None]
    total = sum(area for area, _ in scored)
    return round(sum(area * score for area, score in scored) / total, 4) if total else None
