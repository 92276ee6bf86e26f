"""From the labels of one picture to its segments: drawn, merged, stacked, and the rest filled by the stuff policy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from pycocotools import mask as coco_mask

from detr_d2.errors import DatasetError
from detr_d2.labels.polygons import has_holes
from detr_d2.labels.readers.shapes import shape_mask
from detr_d2.labels.records import Label, Polygons

from .classes import REST, VOID, ClassTable
from .crowds import CrowdRule
from .options import Overlap
from .overlaps import Drawn, overlapping_pairs, paint, pixel_counts
from .results import Dropped, Remark, Segment
from .stuff.policy import Region


@dataclass(frozen=True)
class LabelRules:
    """What labels become, the same for all pictures.

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


@dataclass
class Canvas:
    """Segments of one picture while they are being made.

    Args:
        numbers: (H, W) uint16, column by column as run lengths are; 1 + the place of a segment, 0 where there is none.
        is_taken: (H, W) bool, where people labelled something, even if it became void.
        segments: class, whether it is a crowd, source and score of each.
        dropped, remarks: for the report.
        overlaps: pairs of labels that share pixels, where that is an error.
    """

    numbers: np.ndarray
    is_taken: np.ndarray
    segments: list[Segment] = field(default_factory=list)
    dropped: list[Dropped] = field(default_factory=list)
    remarks: list[Remark] = field(default_factory=list)
    overlaps: list[tuple[int, int, int]] = field(default_factory=list)


@dataclass(frozen=True)
class _Piece:
    """A drawn label and what it is a piece of: the same ``owner``, the same segment."""

    drawn: Drawn
    class_name: str
    class_number: int
    is_crowd: bool
    owner: tuple[str, int]


def draw_labels(
    labels: Sequence[Label], rules: LabelRules, size: tuple[int, int], is_cvat: bool, source: str
) -> Canvas:
    """The segments that people labelled.

    Args:
        labels: in the file's order.
        rules: see there.
        size: height, width of the picture in pixels.
        is_cvat: they come from CVAT.
        source: who labelled them: ``human`` or ``coco``.

    Raises:
        DatasetError: there are too many.
    """
    canvas = Canvas(np.zeros((0, 0), np.uint16), np.zeros((0, 0), bool))
    pieces = _pieces(labels, rules, size, is_cvat, canvas)
    drawn = [piece.drawn for piece in pieces]
    painted = paint(drawn, rules.overlap, size)
    canvas.is_taken = painted > 0
    if rules.overlap == "error":
        pairs = overlapping_pairs(drawn, painted)
        canvas.overlaps = [
            (drawn[one].label_id, drawn[other].label_id, shared)
            for one, other, shared in pairs
            if pieces[one].owner != pieces[other].owner
        ]
    owners: dict[tuple[str, int], int] = {}
    places = np.zeros(len(pieces) + 1, np.uint16)
    for number, piece in enumerate(pieces):
        if piece.class_number == VOID:
            continue
        if piece.owner not in owners:
            owners[piece.owner] = len(owners)
            canvas.segments.append(_unmeasured(piece.class_number, piece.is_crowd, source))
        places[number + 1] = owners[piece.owner] + 1
    canvas.numbers = places[painted] if np.any(places != np.arange(len(places))) else painted
    names = [next(p.class_name for p in pieces if p.owner == owner) for owner in owners]
    _drop_small(canvas, names, rules.min_area)
    return canvas


def _pieces(
    labels: Sequence[Label], rules: LabelRules, size: tuple[int, int], is_cvat: bool, canvas: Canvas
) -> list[_Piece]:
    """The labels drawn, without those that aren't wanted or have no pixel; pieces of a group are one."""
    pieces: list[_Piece] = []
    groups: dict[tuple[str, int], int] = {}
    for place, label in enumerate(labels):
        number = _class_number(label, rules.table)
        if number < 0:
            canvas.dropped.append(Dropped(label.class_name, "void" if number == VOID else "left-out"))
        mask = None if number == REST else _mask(label, size, rules.fills_holes, canvas)
        if mask is None:
            continue
        is_thing = number != VOID and rules.table.classes[number].is_thing
        is_crowd = is_thing and rules.crowds.is_crowd(label.is_crowd, number, is_cvat)
        owner = _owner(label, number, is_thing, is_crowd, place)
        drawn = Drawn(mask, int(np.count_nonzero(mask)), label.z_order, is_crowd, label.id)
        piece = _Piece(drawn, label.class_name, number, is_crowd, owner)
        if owner in groups:
            pieces[groups[owner]] = _joined(pieces[groups[owner]], piece)
            canvas.dropped.append(Dropped(label.class_name, "joined"))
            continue
        if is_thing and label.group:
            groups[owner] = len(pieces)
        pieces.append(piece)
    return pieces


def _joined(first: _Piece, second: _Piece) -> _Piece:
    """Two pieces of one object as one, in the place of the first and the higher layer."""
    mask = first.drawn.mask | second.drawn.mask
    z_order = max(first.drawn.z_order, second.drawn.z_order)
    return replace(first, drawn=replace(first.drawn, mask=mask, area=int(np.count_nonzero(mask)), z_order=z_order))


def _class_number(label: Label, table: ClassTable) -> int:
    if label.class_name not in table.numbers:
        raise DatasetError(f"label {label.id} has the class {label.class_name!r}, which its export doesn't list.")
    return table.numbers[label.class_name]


def _owner(label: Label, number: int, is_thing: bool, is_crowd: bool, place: int) -> tuple[str, int]:
    """What a label is a piece of: stuff of its class; the object of its group; itself."""
    if not is_thing:
        return "stuff", number
    return (f"group {number} {is_crowd}", label.group) if label.group else ("label", place)


def _mask(label: Label, size: tuple[int, int], fills_holes: bool, canvas: Canvas) -> np.ndarray | None:
    """The label's pixels, or None where it has none, which is noted, and so are holes."""
    about = (label.class_name, label.id)
    try:
        mask = shape_mask(label.shape, *size, fills_holes)
    except (DatasetError, ValueError) as error:
        canvas.remarks.append(Remark("shape-broken", str(error), *about))
        canvas.dropped.append(Dropped(label.class_name, "shape-broken"))
        return None
    if isinstance(label.shape, Polygons) and has_holes(label.shape.polygons):
        done = "filled" if fills_holes else "cut out"
        canvas.remarks.append(Remark("polygon-holes", f"has holes written as polygons; they are {done}.", *about))
    if not mask.any():  # stops at the first one
        canvas.remarks.append(Remark("mask-empty", "covers no pixel.", *about))
        canvas.dropped.append(Dropped(label.class_name, "mask-empty"))
        return None
    return mask


def _unmeasured(number: int, is_crowd: bool, source: str, score: float | None = None) -> Segment:
    return Segment(0, number, 0, (0, 0, 0, 0), is_crowd, source, score)


def _drop_small(canvas: Canvas, names: Sequence[str], min_area: int) -> None:
    """Makes void what is hidden or smaller than ``min_area``; the other segments are numbered anew."""
    areas = pixel_counts(canvas.numbers, len(canvas.segments))
    stays = areas >= max(1, min_area)
    for name, area, kept in zip(names, areas, stays):
        if not kept:
            canvas.dropped.append(Dropped(name, "small" if area else "covered"))
    if not stays.all():
        anew = np.concatenate([[0], np.where(stays, np.cumsum(stays), 0)]).astype(np.uint16)
        canvas.numbers = anew[canvas.numbers]
        canvas.segments = [segment for segment, kept in zip(canvas.segments, stays) if kept]


def fill_rest(canvas: Canvas, regions: Sequence[Region], table: ClassTable, min_area: int) -> None:
    """Adds the stuff that a policy gave, where no person labelled anything.

    A picture has one segment of each class of stuff: what people labelled of it and what the policy gave become one,
    whose source is who gave more of it.
    """
    before = canvas.numbers
    free = ~canvas.is_taken
    given: dict[int, list[tuple[int, Region]]] = {}
    own = {segment.class_number: number for number, segment in enumerate(canvas.segments)}
    numbers, segments = before.copy("K"), list(canvas.segments)
    for region in regions:
        mask = region.mask & free
        free &= ~mask
        if not region.class_name:
            continue
        number = table.number_of(region.class_name)
        if number < 0:  # --classes makes nothing of this class, or void: either is void here
            continue
        if number not in own:
            own[number] = len(segments)
            segments.append(_unmeasured(number, False, region.source, region.score))
        np.copyto(numbers, own[number] + 1, where=mask)
        given.setdefault(own[number], []).append((int(np.count_nonzero(mask)), region))
    people = pixel_counts(before, len(segments))
    for place, parts in given.items():
        largest, region = max(parts, key=lambda part: part[0])
        if largest > people[place]:
            segments[place] = _unmeasured(segments[place].class_number, False, region.source, _score(parts, region))
    canvas.numbers, canvas.segments = numbers, segments
    _drop_small(canvas, [table.classes[segment.class_number].name for segment in segments], min_area)


def _score(parts: Sequence[tuple[int, Region]], largest: Region) -> float | None:
    """The mean score of a segment's regions, by their pixels."""
    if largest.score is None:
        return None
    scored = [(area, region.score) for area, region in parts if region.score is not None]
    total = sum(area for area, _ in scored)
    return round(sum(area * score for area, score in scored) / max(total, 1), 4)


def measure(canvas: Canvas, table: ClassTable) -> list[Segment]:
    """The segments with ids for a panoptic PNG, their areas and boxes counted there.

    An id is the class's colour, or one next to it.
    """
    measured = []
    used = {0}
    for number, segment in enumerate(canvas.segments):
        category = table.classes[segment.class_number]
        red, green, blue = category.color
        segment_id = red + 256 * green + 65536 * blue
        while segment_id in used:
            segment_id = (segment_id + 1) % 256**3
        used.add(segment_id)
        runs = coco_mask.encode((canvas.numbers == number + 1).view(np.uint8))
        left, top, width, height = (int(side) for side in coco_mask.toBbox(runs))
        measured.append(
            replace(
                segment,
                id=segment_id,
                area=int(coco_mask.area(runs)),
                bbox=(left, top, width, height),
                runs=runs["counts"].decode("ascii") if category.is_thing else "",
            )
        )
    return measured
