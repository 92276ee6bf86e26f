"""From the labels of one image to its segments: drawn, merged, stacked, and the rest filled by the stuff policy."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

import numpy as np
from pycocotools import mask as coco_mask

from detr_d2.errors import DatasetError
from detr_d2.labels.panoptic_png import id_of_color
from detr_d2.labels.polygons import has_holes
from detr_d2.labels.readers import shape_mask
from detr_d2.labels.records import Label, Note, Polygons
from detr_d2.labels.rules.masks import OVERLAP_PIXELS, OVERLAP_SHARE

from .classes import REST, VOID, ClassTable, LabelRules
from .options import Overlap

Source: TypeAlias = Literal["human", "model", "masks", "coco", "rest"]
"""Who says so: a person; a model; masks from elsewhere; COCO's annotators; nobody, it is what was left."""


@dataclass(frozen=True)
class Segment:
    """A segment of a panoptic PNG: index in the class table, whether it can't be counted, who gave it, a model's score.

    Once it is measured it has an id (red + 256 green + 65536 blue), pixels, a box (left, top, width, height) and, of a
    thing, compressed run lengths as COCO has them.
    """

    class_number: int
    is_crowd: bool = False
    source: Source = "human"
    score: float | None = None
    id: int = 0
    area: int = 0
    bbox: tuple[int, int, int, int] = (0, 0, 0, 0)
    runs: str = ""


#: Of so few labels, counting each by itself is quicker than numpy's bincount, which makes all numbers 64 bits first.
_FEW = 12


@dataclass(frozen=True)
class Piece:
    """A label drawn into its image: (H, W) bool, with a pixel at least, and its area.

    A crowd lies below everything else; pieces of one owner are one segment. The label's own id and class are for
    messages.
    """

    mask: np.ndarray
    area: int
    z_order: int = 0
    is_crowd: bool = False
    label_id: int = 0
    class_name: str = ""
    class_number: int = 0
    owner: tuple[str, int] = ("", 0)


def drawing_order(pieces: Sequence[Piece], policy: Overlap) -> list[int]:
    """Indices of labels, which are in the file's order, from the lowest to what lies on top of everything.

    ``small-on-top``: the fewer pixels, the higher (``error``, too, where labels share next to nothing); ``z-order``:
    CVAT's layers, and the later label within a layer; ``file-order``: the earlier label; ``last``: the later one.
    Crowds are below all that isn't one.
    """

    def height(index: int) -> tuple[bool, int, int]:
        piece = pieces[index]
        level = {"file-order": -index, "last": index, "z-order": piece.z_order}.get(policy, -piece.area)
        return not piece.is_crowd, level, index

    return sorted(range(len(pieces)), key=height)


def paint(pieces: Sequence[Piece], policy: Overlap, size: tuple[int, int]) -> np.ndarray:
    """(H, W) uint16 of an image's labels: for each pixel 1 + the index of the label on top, 0 where there is none.

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
    if count <= _FEW:
        return np.array([np.count_nonzero(canvas == number + 1) for number in range(count)], dtype=np.int64)
    return np.bincount(canvas.ravel("K"), minlength=count + 1)[1:]


def overlapping_pairs(pieces: Sequence[Piece], canvas: np.ndarray) -> list[tuple[int, int, int]]:
    """Pairs of labels, not crowds, that overlap: two indices and the shared pixels.

    What is wholly visible on ``canvas``, which is :func:`paint`'s, shares nothing with what is below it.
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


@dataclass
class Canvas:
    """Segments of one image while they are being made.

    Args:
        numbers: (H, W) uint16, column by column as run lengths are; 1 + the index of a segment, 0 where there is none.
        is_taken: (H, W) bool, where people labelled something, even if it became void.
        segments: class, whether it is a crowd, source and score of each.
        dropped: labels that didn't become a segment of their own: class name and a short word.
        notes: for the report.
        overlaps: pairs of labels that share pixels, where that is an error.
    """

    numbers: np.ndarray
    is_taken: np.ndarray
    segments: list[Segment] = field(default_factory=list)
    dropped: list[tuple[str, str]] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    overlaps: list[tuple[int, int, int]] = field(default_factory=list)


def draw_labels(
    labels: Sequence[Label], rules: LabelRules, size: tuple[int, int], is_cvat: bool, source: Source
) -> Canvas:
    """The segments that people labelled.

    Args:
        labels: in the file's order.
        rules: what they become.
        size: height, width of the image in pixels.
        is_cvat: they come from CVAT.
        source: who labelled them.

    Raises:
        DatasetError: there are too many.
    """
    canvas = Canvas(np.zeros((0, 0), np.uint16), np.zeros((0, 0), bool))
    pieces = _pieces(labels, rules, size, is_cvat, canvas)
    painted = paint(pieces, rules.overlap, size)
    canvas.is_taken = painted > 0
    if rules.overlap == "error":
        canvas.overlaps = [
            (pieces[one].label_id, pieces[other].label_id, shared)
            for one, other, shared in overlapping_pairs(pieces, painted)
            if pieces[one].owner != pieces[other].owner
        ]
    firsts: dict[tuple[str, int], Piece] = {}
    for piece in (piece for piece in pieces if piece.class_number != VOID):
        firsts.setdefault(piece.owner, piece)
    canvas.segments = [Segment(piece.class_number, piece.is_crowd, source) for piece in firsts.values()]
    number_of = {owner: number for number, owner in enumerate(firsts, 1)}
    numbers = np.array([0, *(number_of.get(piece.owner, 0) for piece in pieces)], np.uint16)
    canvas.numbers = numbers[painted] if np.any(numbers != np.arange(len(numbers))) else painted
    _drop_small(canvas, [piece.class_name for piece in firsts.values()], rules.min_area)
    return canvas


def _pieces(
    labels: Sequence[Label], rules: LabelRules, size: tuple[int, int], is_cvat: bool, canvas: Canvas
) -> list[Piece]:
    """The labels drawn, without those that aren't wanted or have no pixel; pieces of a group are one."""
    pieces: list[Piece] = []
    groups: dict[tuple[str, int], int] = {}
    for index, label in enumerate(labels):
        number = rules.table.numbers.get(label.class_name)
        if number is None:
            raise DatasetError(f"label {label.id} has the class {label.class_name!r}, which its export doesn't list.")
        if number < 0:
            canvas.dropped.append((label.class_name, "void" if number == VOID else "left-out"))
        mask = None if number == REST else _mask(label, size, rules.fills_holes, canvas)
        if mask is None:
            continue
        is_thing = number != VOID and rules.table.classes[number].is_thing
        is_crowd = is_thing and rules.crowds.is_crowd(label.is_crowd, number, is_cvat)
        owner = ("label", index) if is_thing else ("stuff", number)  # an image has one segment of each class of stuff
        if is_thing and label.group:
            owner = f"group {number} {is_crowd}", label.group
        if owner in groups:
            first = pieces[groups[owner]]
            mask, z_order = first.mask | mask, max(first.z_order, label.z_order)
            pieces[groups[owner]] = replace(first, mask=mask, area=int(np.count_nonzero(mask)), z_order=z_order)
            canvas.dropped.append((label.class_name, "joined"))
            continue
        if is_thing and label.group:
            groups[owner] = len(pieces)
        area = int(np.count_nonzero(mask))
        pieces.append(Piece(mask, area, label.z_order, is_crowd, label.id, label.class_name, number, owner))
    return pieces


def _mask(label: Label, size: tuple[int, int], fills_holes: bool, canvas: Canvas) -> np.ndarray | None:
    """The label's pixels, or None where it has none, which is noted, and so are holes."""

    def note(code: str, message: str) -> None:
        canvas.notes.append(Note(code, message, class_name=label.class_name, label_id=label.id))

    try:
        mask = shape_mask(label.shape, *size, fills_holes)
    except (DatasetError, ValueError) as error:
        note("shape-broken", str(error))
        canvas.dropped.append((label.class_name, "shape-broken"))
        return None
    if isinstance(label.shape, Polygons) and has_holes(label.shape.polygons):
        note("polygon-holes", f"has holes written as polygons; they are {'filled' if fills_holes else 'cut out'}.")
    if mask.any():  # stops at the first one
        return mask
    note("mask-empty", "covers no pixel.")
    canvas.dropped.append((label.class_name, "mask-empty"))
    return None


def _drop_small(canvas: Canvas, names: Sequence[str], min_area: int) -> None:
    """Makes void what is hidden or smaller than ``min_area``; the other segments are numbered anew."""
    areas = pixel_counts(canvas.numbers, len(canvas.segments))
    stays = areas >= max(1, min_area)
    canvas.dropped += [
        (name, "small" if area else "covered") for name, area, kept in zip(names, areas, stays) if not kept
    ]
    if not stays.all():
        anew = np.concatenate([[0], np.where(stays, np.cumsum(stays), 0)]).astype(np.uint16)
        canvas.numbers = anew[canvas.numbers]
        canvas.segments = [segment for segment, kept in zip(canvas.segments, stays) if kept]


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


def mean_score(parts: Iterable[tuple[int, float | None]]) -> float | None:
    """The mean of scores by their pixels, over those parts (pixels and score) that have one; None where none has."""
    scored = [(area, score) for area, score in parts if score is not None]
    total = sum(area for area, _ in scored)
    return round(sum(area * score for area, score in scored) / total, 4) if total else None


def fill_rest(canvas: Canvas, regions: Sequence[Region], table: ClassTable, min_area: int) -> None:
    """Adds the stuff that a policy gave, where no person labelled anything.

    An image has one segment of each class of stuff: what people labelled of it and what the policy gave become one,
    whose source is who gave more of it.
    """
    free = ~canvas.is_taken
    given: dict[int, list[tuple[int, Region]]] = {}
    own = {segment.class_number: index for index, segment in enumerate(canvas.segments)}
    numbers, segments = canvas.numbers.copy("K"), list(canvas.segments)
    for region in regions:
        mask = region.mask & free
        free &= ~mask
        number = table.numbers[region.class_name] if region.class_name else VOID
        if number < 0:  # --classes makes nothing of this class, or void: either is void here
            continue
        if number not in own:
            own[number] = len(segments)
            segments.append(Segment(number, False, region.source, region.score))
        np.copyto(numbers, own[number] + 1, where=mask)
        given.setdefault(own[number], []).append((int(np.count_nonzero(mask)), region))
    people = pixel_counts(canvas.numbers, len(segments))
    for index, parts in given.items():
        largest, region = max(parts, key=lambda part: part[0])
        if largest > people[index]:
            score = mean_score((area, one.score) for area, one in parts) if region.score is not None else None
            segments[index] = Segment(segments[index].class_number, False, region.source, score)
    canvas.numbers, canvas.segments = numbers, segments
    _drop_small(canvas, [table.classes[segment.class_number].name for segment in segments], min_area)


def measure(canvas: Canvas, table: ClassTable) -> list[Segment]:
    """The segments with ids for a panoptic PNG, their areas and boxes counted there.

    An id is the class's colour, or one next to it.
    """
    measured = []
    used = {0}
    for index, segment in enumerate(canvas.segments):
        category = table.classes[segment.class_number]
        segment_id = id_of_color(category.color)
        while segment_id in used:
            segment_id = (segment_id + 1) % 256**3
        used.add(segment_id)
        runs = coco_mask.encode((canvas.numbers == index + 1).view(np.uint8))
        left, top, width, height = map(int, coco_mask.toBbox(runs))
        area, box = int(coco_mask.area(runs)), (left, top, width, height)
        counts = runs["counts"].decode("ascii") if category.is_thing else ""
        measured.append(replace(segment, id=segment_id, area=area, bbox=box, runs=counts))
    return measured
