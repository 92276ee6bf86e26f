"""What a policy for the unlabelled rest of a picture is, and what it gives."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

import numpy as np

from detr_d2.labels.records import ClassRecord, Note, PictureRecord

Source: TypeAlias = Literal["human", "model", "masks", "coco", "rest"]
"""Who says so: a person; a model; masks from elsewhere; COCO's annotators; nobody, it is what was left."""

Progress: TypeAlias = Callable[[Iterable[PictureRecord], int, str], Iterable[PictureRecord]]
"""Wraps pictures, given their number and a title, to show how far it is."""


@dataclass(frozen=True)
class Region:
    """A piece of stuff in one picture.

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


class StuffPolicy(Protocol):
    """Labels what people didn't. It can be pickled, and is sent to other processes after :meth:`prepare`.

    Its ``repr`` names everything that its answers depend on, as an interrupted run goes on only with the same policy.

    Attributes:
        categories: the stuff classes it may give, ``is_thing`` False.
        needs_pixels: whether it looks at the picture.
        notes: what :meth:`prepare` has to say, for the report.
    """

    categories: tuple[ClassRecord, ...]
    needs_pixels: bool
    notes: tuple[Note, ...]

    def prepare(self, pictures: Sequence[PictureRecord], work_folder: Path, progress: Progress) -> None:
        """Called once, in the main process, before any picture's turn; a model is run here.

        Args:
            pictures: named ``<export>/<name>``, as in :meth:`__call__`; ``prepare.pixels.read_pixels`` reads one.
            work_folder: there for this policy alone; what is put there survives an interruption.
            progress: wraps what is iterated over.
        """

    def files_of(self, name: str) -> Sequence[Path]:
        """The files beside the picture's own that its stuff is read from; other files, or changed ones, other stuff.

        Called after :meth:`prepare`. What is the same for all pictures belongs into the ``repr`` instead.
        """

    def __call__(self, pixels: np.ndarray | None, free: np.ndarray, name: str) -> list[Region]:
        """The stuff of one picture; called in a worker process.

        Args:
            pixels: (H, W, 3) uint8 RGB, upright as the labels are; None where the policy doesn't need them.
            free: (H, W) bool, where no person labelled anything.
            name: ``<export>/<name>`` of the picture.

        Raises:
            DatasetError: the picture can't be labelled; it is left out, and the report says why.
        """
