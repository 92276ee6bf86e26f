"""What every reader does: finding images, collecting labels and notes in little memory, shapes to pixels and back."""

from __future__ import annotations

import math
import pickle
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from detr_d2.errors import DatasetError

from ..archives import IMAGE_SUFFIXES, FileTree, has_image_suffix, is_safe_name, joined
from ..panoptic_png import find_regions
from ..polygons import is_polygon, polygons_mask
from ..records import (
    Box,
    ClassRecord,
    Ellipse,
    Export,
    ExportKind,
    FileRef,
    ImageRecord,
    Label,
    LabelSource,
    Note,
    Polygons,
    Runs,
    Shape,
)
from ..run_lengths import decompressed, run_lengths
from ..values import MOST_PIXELS, Size, are_numbers, size_problem

#: So many notes of each kind are kept; of the others only how many there are.
_MOST_NOTES = 5_000
_MASK_FOLDERS = {"SegmentationClass", "SegmentationObject", "panoptic", "masks"}


class ImageFinder:
    """Finds images by the names that the labels give them.

    Args:
        tree, base: the folder or zip, and the folder in it that the export is in.
        folders: below ``base``, where images are looked for, the likely ones first.
        everywhere: take an image elsewhere below ``base`` if it is the only one of its name; and of a zip without
            images, those beside it: in ``images/``, in a folder of the zip's name, or just there.
        is_needed: else labels alone are wanted, and an image that isn't there is just called by its name.
    """

    def __init__(
        self, tree: FileTree, base: str, folders: Sequence[str], everywhere: bool = True, is_needed: bool = True
    ) -> None:
        self._tree, self._base, self._folders = tree, base, folders
        self._everywhere, self._is_needed = everywhere, is_needed
        self._by_name: dict[str, list[str]] | None = None
        self._beside = _folders_beside(tree) if everywhere else []

    def __call__(self, name: str) -> FileRef | None:
        """The file of an image: where it should be, or the only one of that safe name, whatever its folder and case."""
        found = self._at(name) or self._elsewhere(name, PurePosixPath(name).name.lower())
        return found or self._called(name)

    def by_stem(self, stem: str) -> FileRef | None:
        """As above for a name without its suffix."""
        names = (name for suffix in IMAGE_SUFFIXES for name in (stem + suffix, stem + suffix.upper()))
        found = next((found for name in names if (found := self._at(name))), None)
        return found or self._elsewhere(stem, PurePosixPath(stem).name.lower() + "/") or self._called(f"{stem}.jpg")

    def _called(self, name: str) -> FileRef | None:
        return None if self._is_needed else FileRef(self._tree.path / name)

    def _at(self, name: str) -> FileRef | None:
        found = self._tree.first(joined(self._base, folder, name) for folder in self._folders)
        if found is None and self._beside:
            found = next((FileRef(folder / name) for folder in self._beside if (folder / name).is_file()), None)
        return found

    def _elsewhere(self, name: str, key: str) -> FileRef | None:
        """The only image of a name; names with folders aren't looked for, they say where theirs is."""
        if not self._everywhere or "/" in name:
            return None
        if self._by_name is None:
            self._by_name = {}
            for path in self._images():
                self._by_name.setdefault(path.name.lower(), []).append(path.as_posix())
                self._by_name.setdefault(path.stem.lower() + "/", []).append(path.as_posix())
        found = self._by_name.get(key, [])
        return self._tree.files[found[0]] if len(found) == 1 else None

    def _images(self) -> Iterator[PurePosixPath]:
        for key in self._tree.under(self._base):
            path = PurePosixPath(key)
            folders = path.parent.relative_to(self._base).parts if self._base else path.parent.parts
            if has_image_suffix(key) and not _MASK_FOLDERS.intersection(folders):
                yield path


def _folders_beside(tree: FileTree) -> list[Path]:
    """Where the images of a zip without images may lie."""
    images = (PurePosixPath(key) for key in tree.files if has_image_suffix(key))
    if tree.path.is_dir() or not all(_MASK_FOLDERS.intersection(path.parent.parts) for path in images):
        return []
    above, name = tree.path.parent, tree.path.stem
    return [above / name / "images", above / name, above / "images", above]


@dataclass(frozen=True)
class PackedLabels:
    """Labels in a tenth of the memory, as :meth:`of` packs them; a source of labels."""

    content: bytes

    @classmethod
    def of(cls, labels: Sequence[Label]) -> PackedLabels:
        """Packs labels."""
        return cls(zlib.compress(pickle.dumps(tuple(labels), protocol=5), 1))

    def __call__(self, notes_: list[Note] | None = None, size: Size | None = None) -> tuple[Label, ...]:
        """See :class:`~detr_d2.labels.records.LabelSource`."""
        labels: tuple[Label, ...] = pickle.loads(zlib.decompress(self.content))
        return labels


class ExportBuilder:
    """Collects one export, whose images ``finder`` finds; see :class:`~detr_d2.labels.records.Export`."""

    def __init__(self, name: str, kind: ExportKind, file: FileRef, finder: ImageFinder) -> None:
        self._name, self._kind, self._file, self._finder = name, kind, file, finder
        self._records: dict[str, list[ImageRecord]] = {}
        self._notes: list[Note] = []
        self._counts: Counter[str] = Counter()

    def note(
        self, code: str, message: str, image: str = "", class_name: str = "", label_id: int = 0, is_lost: bool = False
    ) -> None:
        """Something that was left out or changed; see :class:`~detr_d2.labels.records.Note`."""
        self._counts[code] += 1
        if self._counts[code] <= _MOST_NOTES:
            self._notes.append(Note(code, message, str(self._file), image, class_name, label_id, is_lost))

    def image_file(self, name: str, otherwise: str = "") -> FileRef | None:
        """The file of an image by its name, or another likely one; None, and a note, where there is none."""
        if not is_safe_name(name):
            self.note("path-escape", f"{name[:200]!r} leads out of the export; left out.", name[:200])
            return None
        found = self._finder(plain_name(name)) or (self._finder(plain_name(otherwise)) if otherwise else None)
        if found is None:
            self.missing(name)
        return found

    def size_of(self, entry: Mapping[str, Any], name: str) -> tuple[int, int]:
        """Width and height that the labels of an image are for; 0, 0 and a note where they can't be an image's."""
        problem = size_problem(entry)
        if problem is None:
            return entry["width"], entry["height"]
        self.note(problem[0], f"{problem[1]} The image's own size counts.", name)
        return 0, 0

    def missing(self, name: str) -> None:
        """An image isn't there."""
        self.note("image-missing", f"{name} isn't in the export; its labels are left out.", name)

    def add(
        self,
        name: str,
        image: FileRef,
        size: Size,
        labels: LabelSource,
        image_id: int | str | None = None,
        png: FileRef | None = None,
    ) -> None:
        """An image with its labels; those of two entries of one safe name become one's, if their sizes agree."""
        name = plain_name(name)
        same = self._records.setdefault(name, [])
        if same:
            repeats = f"image {image_id} has the name of image {same[0].image_id}"
            if (same[0].width, same[0].height) != size:
                self.note("path-duplicate", f"{repeats} and another size; left out.", name)
                return
            self.note("path-duplicate", f"{repeats}; their labels were put together.", name)
        same.append(ImageRecord(image, name, *size, labels, image_id, png))

    def once(self, labels: Iterator[Label], image: str) -> Iterator[Label]:
        """The labels of several entries of an image, each once."""
        first: dict[tuple[str, Shape], Label] = {}
        for label in labels:
            if first.setdefault((label.class_name, label.shape), label) is label:
                yield label
            else:
                message = "the same label is there twice; one was left out."
                self.note("label-duplicate", message, image, label.class_name, label.id, is_lost=True)

    def finish(self, classes: Sequence[ClassRecord], is_cvat: bool) -> Export:
        """The export.

        Raises:
            DatasetError: none of its images is there.
        """
        missing = self._counts["image-missing"]
        if missing and not self._records:
            raise DatasetError(
                f"{self._file} has labels for {missing} images, and none of them is beside it. Export again "
                "with 'Save images' switched on, or put the images into a folder 'images' beside the labels."
            )
        images = tuple(self._merged(name, records) for name, records in self._records.items())
        more = {code: count - _MOST_NOTES for code, count in self._counts.items() if count > _MOST_NOTES}
        notes = [*self._notes, *(Note(code, f"and {n} more like this.", str(self._file)) for code, n in more.items())]
        return Export(self._name, self._kind, self._file, tuple(classes), images, tuple(notes), is_cvat)

    def _merged(self, name: str, records: Sequence[ImageRecord]) -> ImageRecord:
        """One record of an image; a label that is there twice is one."""
        if len(records) == 1:
            return records[0]
        labels = (label for record in records for label in record.read_labels())
        return replace(records[0], labels=PackedLabels.of([*self.once(labels, name)]))


def plain_name(name: str) -> str:
    """An image's name with ``/`` between its folders, without ``./``."""
    return PurePosixPath(name.replace("\\", "/")).as_posix()


def shape_mask(shape: Shape, height: int, width: int, fills_holes: bool = False) -> np.ndarray:
    """The pixels that a shape covers in an image of the size that was labelled.

    Polygons and boxes are filled as pycocotools does, ellipses where a pixel's centre is inside; which polygons are
    holes, :mod:`detr_d2.labels.polygons` says.

    Args:
        shape: in pixels; what lies outside the image is left out.
        height, width: of the image, in pixels.
        fills_holes: holes of polygons belong to the object.

    Returns:
        (H, W) bool.

    Raises:
        DatasetError: the shape contradicts itself or the size.
    """
    if min(height, width) < 1 or height * width > MOST_PIXELS:
        raise DatasetError(f"an image of {width}x{height} pixels can't be labelled.")
    if isinstance(shape, Runs):
        return _unrolled(shape, height, width)
    if isinstance(shape, Ellipse):
        return _inside_ellipse(shape, height, width)
    polygons = shape.polygons if isinstance(shape, Polygons) else (_box_corners(shape),)
    for polygon in polygons:
        if not is_polygon(polygon):
            raise DatasetError(f"a polygon of {len(polygon)} coordinates can't be drawn; it needs x, y of 3 points.")
    return polygons_mask(polygons, height, width, fills_holes)


def _box_corners(box: Box) -> tuple[float, ...]:
    """x0, y0, x1, y1, ... of the four corners of a box, turned around its centre."""
    center_x, center_y = (box.left + box.right) / 2, (box.top + box.bottom) / 2
    half_x, half_y = (box.right - box.left) / 2, (box.bottom - box.top) / 2
    cosine, sine = math.cos(math.radians(box.rotation)), math.sin(math.radians(box.rotation))
    if box.rotation % 360 == 0:
        cosine, sine = 1.0, 0.0  # exact, so that boxes on pixel edges stay there
    corners: list[float] = []
    for x, y in ((-half_x, -half_y), (half_x, -half_y), (half_x, half_y), (-half_x, half_y)):
        corners += [center_x + x * cosine - y * sine, center_y + x * sine + y * cosine]
    return tuple(corners)


def _unrolled(runs: Runs, height: int, width: int) -> np.ndarray:
    rows, columns = runs.size
    if not runs.by_rows and (rows, columns) != (height, width):
        raise DatasetError(f"its mask is {columns}x{rows} pixels, the image {width}x{height}.")
    if min(rows, columns) < 0 or rows * columns > MOST_PIXELS:
        raise DatasetError(f"a mask of {columns}x{rows} pixels can't be drawn.")
    counts = decompressed(runs.counts.decode("latin-1")) if isinstance(runs.counts, bytes) else runs.counts
    if counts is None:
        raise DatasetError("its run lengths aren't COCO's compressed form.")
    if min(counts, default=0) < 0 or sum(counts) != rows * columns:
        raise DatasetError(f"its runs are {sum(counts)} pixels together; {columns}x{rows} are {rows * columns}.")
    pixels = np.repeat(np.arange(len(counts)) % 2 == 1, np.asarray(counts, np.int64))
    if not runs.by_rows:
        return pixels.reshape(columns, rows).T
    mask = np.zeros((height, width), bool)
    top, left = max(runs.top, 0), max(runs.left, 0)
    bottom, right = min(runs.top + rows, height), min(runs.left + columns, width)
    if top < bottom and left < right:
        window = pixels.reshape(rows, columns)
        near = window[top - runs.top : bottom - runs.top, left - runs.left : right - runs.left]
        mask[top:bottom, left:right] = near
    return mask


def _inside_ellipse(ellipse: Ellipse, height: int, width: int) -> np.ndarray:
    mask = np.zeros((height, width), bool)
    numbers = (ellipse.x, ellipse.y, ellipse.radius_x, ellipse.radius_y, ellipse.rotation)
    if not are_numbers(numbers):
        raise DatasetError(f"an ellipse with {numbers} for its centre, half axes and rotation can't be drawn.")
    if min(ellipse.radius_x, ellipse.radius_y) <= 0:
        return mask
    cosine, sine = math.cos(math.radians(ellipse.rotation)), math.sin(math.radians(ellipse.rotation))
    reach_x = math.hypot(ellipse.radius_x * cosine, ellipse.radius_y * sine)
    reach_y = math.hypot(ellipse.radius_x * sine, ellipse.radius_y * cosine)
    left, right = (int(np.clip(ellipse.x + side * reach_x + side, 0, width)) for side in (-1, 1))
    top, bottom = (int(np.clip(ellipse.y + side * reach_y + side, 0, height)) for side in (-1, 1))
    x = np.arange(left, right)[None, :] + 0.5 - ellipse.x
    y = np.arange(top, bottom)[:, None] + 0.5 - ellipse.y
    along, across = (x * cosine + y * sine) / ellipse.radius_x, (y * cosine - x * sine) / ellipse.radius_y
    mask[top:bottom, left:right] = along**2 + across**2 <= 1
    return mask


def shapes_of(ids: np.ndarray) -> dict[int, Runs]:
    """Where each value of a map (H, W) of whole numbers is, without a pass over the map for each."""
    regions = find_regions(ids)
    found: dict[int, Runs] = {}
    for value, (left, top, right, bottom) in zip(regions.values.tolist(), regions.boxes.tolist()):
        counts = run_lengths((ids[top:bottom, left:right] == value).T)
        found[value] = Runs((bottom - top, right - left), tuple(counts), left, top, by_rows=True)
    return found
