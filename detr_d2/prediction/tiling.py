"""Large photos by tiles: which tiles cover a photo, and how their panoptic maps become one exact map of the photo.

No polygons on the way: each pixel of the photo gets the segment that one tile gave it, and segments that are the same
thing get one id. What grows with the photo is its own pixels and the map, 4 bytes a pixel; all else grows with a tile.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any, NamedTuple, Protocol

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from detr_d2.data.segments import number_segments
from detr_d2.errors import ConfigError
from detr_d2.prediction.prediction import Prediction

Segmented = tuple[np.ndarray, Sequence[Mapping[str, Any]]]
"""A map of ids (H, W), 0 is void, and its segments: id, isthing, category_id, and score where it is known."""

#: Segments of two tiles are one thing if they have more than this part of their pixels in common, within what both
#: tiles see. Above a half no segment has more than one partner in another tile, so touching things stay apart.
SAME_THING_IOU = 0.5


class Span(NamedTuple):
    """Rows, or columns, of a photo.

    Attributes:
        start, stop: what the tile covers.
        own_start, own_stop: the part that its results are for; it ends in the middle of what is shared with the next.
    """

    start: int
    stop: int
    own_start: int
    own_stop: int

    @property
    def all(self) -> slice:
        """What the tile covers."""
        return slice(self.start, self.stop)

    @property
    def own(self) -> slice:
        """The part that its results are for, in the photo."""
        return slice(self.own_start, self.own_stop)

    @property
    def own_within(self) -> slice:
        """The part that its results are for, in the tile."""
        return slice(self.own_start - self.start, self.own_stop - self.start)


class Grid(NamedTuple):
    """The tiles of a photo: each row of tiles from left to right, from top to bottom."""

    rows: list[Span]
    columns: list[Span]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the photo."""
        return self.rows[-1].stop, self.columns[-1].stop

    def __iter__(self) -> Iterator[tuple[Span, Span]]:  # type: ignore[override]
        return ((row, column) for row in self.rows for column in self.columns)

    def windows(self, image: np.ndarray) -> Iterator[np.ndarray]:
        """The tiles of an image (H, W, ...), as views of it."""
        return (image[row.all, column.all] for row, column in self)


def tile_grid(size: tuple[int, int], tile: int = 1024, overlap: int = 256) -> Grid:
    """Cover a photo with tiles of equal size, spread evenly.

    Args:
        size: height and width of the photo.
        tile: side of a tile in pixels; one that is larger than the photo is cut at its border.
        overlap: pixels that neighbouring tiles share at least.

    Raises:
        ConfigError: no pixels are shared, or a tile has no others.
    """
    if not 1 <= overlap < tile:
        raise ConfigError(
            f"tiles of {tile} pixels with an overlap of {overlap}; allowed are overlaps from 1 to {tile - 1}, by which "
            f"the parts of a thing find each other. A quarter of the tile is usual: --tile {tile} --overlap "
            f"{max(tile // 4, 1)}."
        )
    return Grid(*(_spans(length, tile, overlap) for length in size))


def _spans(length: int, tile: int, overlap: int) -> list[Span]:
    count = max(-((overlap - length) // (tile - overlap)), 1)  # rounded up
    starts = [index * max(length - tile, 0) // max(count - 1, 1) for index in range(count)]
    stops = [min(start + tile, length) for start in starts]
    borders = [0, *((start + stop) // 2 for start, stop in zip(starts[1:], stops)), length]
    return [Span(*ends) for ends in zip(starts, stops, borders, borders[1:])]


class _Tile(NamedTuple):
    """A tile's result: ``numbers`` (h, w), 1, 2, ... for its segments; of all segments the first one is ``first``."""

    row: Span
    column: Span
    numbers: np.ndarray
    first: int
    segments: Sequence[Mapping[str, Any]]


def stitch(
    grid: Grid, results: Iterable[Segmented], min_iou: float = SAME_THING_IOU
) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """One panoptic map of what was found in each tile.

    A pixel that several tiles see belongs to the one whose border is farther away. Things of one class in neighbouring
    tiles are one thing if their IoU within what both tiles see is above ``min_iou``; what is joined so from tile to
    tile is one segment. Stuff of one class is one segment. A segment's score is the mean of its parts' scores,
    weighted by their areas.

    Args:
        grid: see :func:`tile_grid`.
        results: of the tiles in the grid's order; they are taken one by one, and only the borders of one row of tiles
            are kept.
        min_iou: at least a half, or touching things could be joined; 1: nothing is.

    Returns:
        The map (H, W) int32, whose ids 1, 2, ... partition it together with void, 0; and its segments in the order of
        their ids: id, isthing, category_id, score (None where no part has one) and area.

    Raises:
        ValueError: a result has another size than its tile, or there are more or fewer results than tiles.
        DatasetError: a map has ids that its segments don't have.
    """
    stitched = np.zeros(grid.size, np.int32)
    parts: list[dict[str, Any]] = []
    same: list[np.ndarray] = []
    left: _Tile | None = None
    above: dict[Span, _Tile] = {}
    for (row, column), (ids, segments) in zip(grid, results, strict=True):
        tile = _numbered(row, column, ids, segments, len(parts) + 1)
        own = tile.numbers[row.own_within, column.own_within]
        areas = np.bincount(own.ravel(), minlength=len(segments) + 1)[1:].tolist()
        stitched[row.own, column.own] = np.where(own > 0, own + np.int32(len(parts)), 0)
        parts += [{**segment, "area": area} for segment, area in zip(segments, areas)]
        if left is not None and left.row is row:
            same.append(_same_things(left, tile, min_iou))
        if column in above:
            same.append(_same_things(above[column], tile, min_iou))
        left, above[column] = tile, _lower_part(tile, grid)
    return _joined(stitched, parts, same)


def _numbered(row: Span, column: Span, ids: np.ndarray, segments: Sequence[Mapping[str, Any]], first: int) -> _Tile:
    size = (row.stop - row.start, column.stop - column.start)
    if ids.shape != size:
        raise ValueError(f"a tile's map has the shape {ids.shape}; its tile is {size}.")
    numbers = number_segments(ids, [int(segment["id"]) for segment in segments], "a tile")
    return _Tile(row, column, numbers, first, segments)


def _lower_part(tile: _Tile, grid: Grid) -> _Tile:
    """What the tile shares with the one below; a copy, so that the rest of its map can go."""
    below = next((row.start for row in grid.rows if row.start > tile.row.start), tile.row.stop)
    kept = tile.row._replace(start=below)
    return tile._replace(row=kept, numbers=tile.numbers[below - tile.row.start :].copy())


def _same_things(one: _Tile, other: _Tile, min_iou: float) -> np.ndarray:
    """(N, 2) the pairs of segments, as places among all, that are one thing in two tiles that share pixels."""
    mine, theirs = _shared(one, other), _shared(other, one)
    shape = (len(one.segments) + 1, len(other.segments) + 1)
    pairs = mine.ravel() * np.int64(shape[1]) + theirs.ravel()
    together = np.bincount(pairs, minlength=shape[0] * shape[1]).reshape(shape)
    union = together.sum(1, keepdims=True) + together.sum(0, keepdims=True) - together
    iou = together[1:, 1:] / np.maximum(union[1:, 1:], 1)
    classes, other_classes = (
        np.array([segment["category_id"] if segment["isthing"] else -1 for segment in tile.segments], np.int64)
        for tile in (one, other)
    )
    is_same_class = (classes[:, None] == other_classes[None]) & (classes >= 0)[:, None]
    same = np.argwhere((iou > min_iou) & is_same_class)
    return same + (one.first - 1, other.first - 1)


def _shared(tile: _Tile, other: _Tile) -> np.ndarray:
    """The tile's numbers where the other one sees, too."""
    rows = slice(max(other.row.start - tile.row.start, 0), max(other.row.stop - tile.row.start, 0))
    columns = slice(max(other.column.start - tile.column.start, 0), max(other.column.stop - tile.column.start, 0))
    return tile.numbers[rows, columns]


def _joined(
    stitched: np.ndarray, parts: list[dict[str, Any]], same: list[np.ndarray]
) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """The map of parts, changed in place to one of segments, and the segments."""
    group = _groups(parts, same)
    members: dict[int, list[dict[str, Any]]] = {}
    for part, number in zip(parts, group):
        if part["area"]:
            members.setdefault(number, []).append(part)
    new_ids = {number: new_id for new_id, number in enumerate(members, 1)}
    table = np.array([0, *(new_ids.get(number, 0) for number in group)], np.int32)
    for row in stitched:  # a row at a time, as a copy of the map would be as large as the map
        row[:] = table[row]
    return stitched, [_segment(new_ids[number], of_it) for number, of_it in members.items()]


def _groups(parts: Sequence[Mapping[str, Any]], same: list[np.ndarray]) -> list[int]:
    """For each part the number of its segment."""
    first_of_stuff: dict[int, int] = {}
    stuff = [
        (first_of_stuff.setdefault(part["category_id"], index), index)
        for index, part in enumerate(parts)
        if not part["isthing"]
    ]
    pairs = np.concatenate([np.array(stuff, np.int64).reshape(-1, 2), *same])
    links = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(len(parts), len(parts)))
    numbers: list[int] = connected_components(links, directed=False)[1].tolist()
    return numbers


def _segment(new_id: int, parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    scored = [part for part in parts if part.get("score") is not None]
    weight = sum(part["area"] for part in scored)
    return {
        "id": new_id,
        "isthing": bool(parts[0]["isthing"]),
        "category_id": parts[0]["category_id"],
        "score": sum(part["score"] * part["area"] for part in scored) / weight if weight else None,
        "area": sum(part["area"] for part in parts),
    }


class Batches(Protocol):
    """What predicts several images at once, such as :class:`~detr_d2.prediction.Predictor`."""

    def batch(self, images: Sequence[np.ndarray]) -> list[Prediction]:
        """One prediction for each image (H, W, 3) uint8, RGB."""


def predict_by_tiles(
    predictor: Batches, image: np.ndarray, tile: int = 1024, overlap: int = 256, *, batch: int = 1, name: str = ""
) -> Prediction:
    """Predict a large photo tile by tile; the network sees one tile, or ``batch`` of them, at a time.

    Args:
        predictor: the model.
        image: (H, W, 3) uint8, RGB.
        tile, overlap: see :func:`tile_grid`.
        batch: tiles for the network at once.
        name: of the image.

    Returns:
        The prediction of the photo, with one exact map; see :func:`stitch`. A photo that is no larger than a tile is
        predicted as ever.

    Raises:
        ConfigError: see :func:`tile_grid`; or the model has no mask head.
    """
    grid = tile_grid((image.shape[0], image.shape[1]), tile, overlap)
    windows = grid.windows(image)
    chunks = iter(lambda: list(islice(windows, batch)), [])
    predictions = (one for chunk in chunks for one in predictor.batch(chunk))
    first = next(predictions)
    if first.panoptic is None:
        raise ConfigError(
            f"{name or 'the photo'} is to be predicted by tiles, whose masks are joined, but the model gives boxes "
            "only: it has no mask head. Leave --tile out, or name a model with masks."
        )
    if len(grid.rows) == len(grid.columns) == 1:
        first.name = name
        return first
    results = ((one.panoptic, one.segments) for one in chain([first], predictions) if one.panoptic is not None)
    ids, segments = stitch(grid, results)
    return Prediction(image, ids, segments, first.categories, name=name)
