"""What labels become, the same for all images: which crowds are objects, and who gets a pixel that several claim."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from detr_d2.errors import DatasetError
from detr_d2.labels.records import Export, Note
from detr_d2.labels.rules.objects import OVERLAP_PIXELS, OVERLAP_SHARE

from .classes import ClassTable
from .options import Crowds, Overlap

_FEW = 12


@dataclass(frozen=True)
class CrowdRule:
    """Which crowds become objects.

    Args:
        clears_all: every one.
        classes: those of CVAT's exports, of these classes.
    """

    clears_all: bool = False
    classes: frozenset[int] = frozenset()

    def is_crowd(self, said: bool, number: int, is_cvat: bool) -> bool:
        """Whether a label of class ``number`` that the export calls a crowd, or not, stays one."""
        return said and not self.clears_all and not (is_cvat and number in self.classes)


@dataclass(frozen=True)
class LabelRules:
    """What labels become.

    Args:
        table: of the classes.
        crowds: which crowds become objects.
        overlap: who gets a pixel that several labels claim.
        min_area: segments of fewer pixels become void.
        fills_holes: holes that are written as polygons belong to their objects.
    """

    table: ClassTable
    crowds: CrowdRule
    overlap: Overlap
    min_area: int
    fills_holes: bool = False


@dataclass(frozen=True)
class Piece:
    """A label drawn into its image.

    Args:
        mask: (H, W) bool, with a pixel at least.
        area: its pixels.
        z_order: CVAT's layer.
        is_crowd: of a crowd, which lies below everything else.
        label_id: for messages.
        class_name: as the export has it.
        class_number: index in the class table.
        owner: the same one, the same segment.
    """

    mask: np.ndarray
    area: int
    z_order: int = 0
    is_crowd: bool = False
    label_id: int = 0
    class_name: str = ""
    class_number: int = 0
    owner: tuple[str, int] = ("", 0)


def decide_crowds(exports: Sequence[Export], table: ClassTable, choice: Crowds) -> tuple[CrowdRule, list[Note]]:
    """What to do with crowds, which CVAT makes of whatever was painted with its brush, and what there is to say of it.

    ``auto`` makes objects of a class's crowds where CVAT's exports have nothing else of that class.
    """
    if choice != "auto":
        return CrowdRule(clears_all=choice == "clear"), []
    crowds, objects = _counts(exports, table)
    cleared = frozenset(number for number in crowds if not objects[number])
    notes = []
    for number in [*sorted(cleared), *sorted(set(crowds) - cleared)]:
        name = table.classes[number].name
        if number in cleared:
            message = (
                f"all {crowds[number]} labels of {name} from CVAT are crowds, as its brush writes them; they are taken "
                "as objects (--crowd keep leaves them crowds)."
            )
        else:
            message = (
                f"{crowds[number]} labels of {name} from CVAT are crowds, {objects[number]} aren't; crowds aren't "
                "trained on. If they were painted with the brush, take --crowd clear."
            )
        notes.append(Note("crowd-cleared" if number in cleared else "crowd-kept", message, class_name=name))
    return CrowdRule(classes=cleared), notes


def _counts(exports: Sequence[Export], table: ClassTable) -> tuple[Counter[int], Counter[int]]:
    """How many crowds and how many objects of each class CVAT's exports have that may have been painted."""
    crowds: Counter[int] = Counter()
    objects: Counter[int] = Counter()
    painted = (export for export in exports if export.is_cvat and export.kind == "coco-instances")
    for label in (label for export in painted for record in export.images for label in record.read_labels()):
        number = table.numbers.get(label.class_name, -1)
        if number >= 0:
            (crowds if label.is_crowd else objects)[number] += 1
    return crowds, objects


def drawing_order(pieces: Sequence[Piece], policy: Overlap) -> list[int]:
    """Indices of labels, which are in the file's order, from the lowest to what lies on top of everything.

    Args:
        pieces: labels of an image.
        policy: ``small-on-top``: the fewer pixels, the higher (``error``, too, where labels share next to nothing);
            ``z-order``: CVAT's layers, and the later label within a layer; ``file-order``: the earlier label;
            ``last``: the later one. Crowds are below all that isn't one.
    """

    def height(index: int) -> tuple[bool, int, int]:
        piece = pieces[index]
        if policy == "file-order":
            return not piece.is_crowd, 0, -index
        level = {"last": 0, "z-order": piece.z_order}.get(policy, -piece.area)
        return not piece.is_crowd, level, index

    return sorted(range(len(pieces)), key=height)


def paint(pieces: Sequence[Piece], policy: Overlap, size: tuple[int, int]) -> np.ndarray:
    """The image of labels: for each pixel 1 + the index of the label on top, 0 where there is none.

    Args:
        pieces: in the file's order.
        policy: see :func:`drawing_order`.
        size: height, width.

    Returns:
        (H, W) uint16.

    Raises:
        DatasetError: there are 65,535 labels or more.
    """
    if len(pieces) >= 2**16 - 1:
        raise DatasetError(f"it has {len(pieces)} labels; allowed are up to {2**16 - 2}.")
    canvas = np.zeros(size, np.uint16, order="F")  # as pycocotools' masks are
    for index in drawing_order(pieces, policy):
        np.copyto(canvas, index + 1, where=pieces[index].mask)
    return canvas


def pixel_counts(canvas: np.ndarray, count: int) -> np.ndarray:
    """(count,) how many pixels of ``canvas`` are 1, 2, ..., ``count``."""
    if count <= _FEW:  # counting each by itself is quicker than numpy's bincount, which makes them all 64 bits first
        return np.array([np.count_nonzero(canvas == number + 1) for number in range(count)], dtype=np.int64)
    return np.bincount(canvas.ravel("K"), minlength=count + 1)[1:]


def overlapping_pairs(pieces: Sequence[Piece], canvas: np.ndarray) -> list[tuple[int, int, int]]:
    """Pairs of labels, not crowds, that overlap: two indices and the shared pixels.

    Args:
        pieces: in the file's order.
        canvas: of :func:`paint`; labels that are wholly visible there share nothing with what is below them.
    """
    visible = pixel_counts(canvas, len(pieces))
    pairs = set()
    for lower, piece in enumerate(pieces):
        if piece.is_crowd or visible[lower] == piece.area:
            continue
        rows, columns = np.flatnonzero(piece.mask.any(axis=1)), np.flatnonzero(piece.mask.any(axis=0))
        window = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
        for upper, other in enumerate(pieces):
            if upper == lower or other.is_crowd:
                continue
            shared = int(np.count_nonzero(piece.mask[window] & other.mask[window]))
            if shared >= OVERLAP_PIXELS and shared > OVERLAP_SHARE * min(piece.area, other.area):
                pairs.add((min(lower, upper), max(lower, upper), shared))
    return sorted(pairs)
