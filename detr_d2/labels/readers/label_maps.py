"""Labels that are pictures: each colour, or pair of colours, is an object; read in the process that draws them."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy import ndimage

from detr_d2.errors import DatasetError

from ..image_size import MOST_PIXELS
from ..records import Bitmap, FileRef, Label

Color = tuple[int, int, int]
#: In pictures of fewer pixels, sorting is faster than a table of all colours.
_SMALL = 2**19
_CURE = "Export it again, or restore it."


def picture_size(file: FileRef) -> tuple[int, int]:
    """Width and height that a picture's header says; 0, 0 where it has none."""
    try:
        with file.open() as opened, Image.open(opened) as image:
            return image.size
    except Exception:  # decoders raise whatever they like on broken files; it is read again, and named, later
        return 0, 0


def read_ids(file: FileRef, with_indices: bool = False) -> tuple[np.ndarray, bool]:
    """A mask picture as a number for each pixel.

    Args:
        file: of the mask.
        with_indices: grey pictures hold indices, not colours.

    Returns:
        (H, W) int32, red + 256 green + 65536 blue, or the index; and whether it is indices.

    Raises:
        MissingFileError: it isn't there.
        DatasetError: it can't be read, or is a JPEG, whose colours aren't exact.
    """
    content = file.read()
    try:
        with Image.open(io.BytesIO(content)) as image:
            if image.width * image.height > MOST_PIXELS:
                raise DatasetError(f"{file} has {image.width}x{image.height} pixels; too many.")
            if image.format in ("JPEG", "MPO"):
                raise DatasetError(f"{file} is a JPEG, which changes the colours that labels are told by. {_CURE}")
            if image.mode in ("L", "1") and with_indices:
                return np.asarray(image.convert("L"), np.int32), True
            channels = np.asarray(image.convert("RGB"))
    except DatasetError:
        raise
    except Exception as error:  # decoders raise whatever they like on broken files
        raise DatasetError(f"{file} can't be read: {' '.join(str(error).split())[:200]}. {_CURE}") from error
    ids = channels[..., 2].astype(np.int32)
    for channel in (1, 0):
        ids <<= 8
        ids |= channels[..., channel]
    return ids, False


def numbered(ids: np.ndarray) -> tuple[list[int], np.ndarray]:
    """What stands in an array, ascending, and the place of each pixel's in that.

    Args:
        ids: (H, W), whole numbers from 0 to below 2**24.
    """
    if ids.size < _SMALL:
        found, numbers = np.unique(ids, return_inverse=True)
        return found.tolist(), numbers.reshape(ids.shape).astype(np.int32)
    is_there = np.zeros(2**24, bool)
    is_there[ids] = True
    values = np.flatnonzero(is_there)
    places = np.zeros(2**24, np.int32)
    places[values] = np.arange(len(values), dtype=np.int32)
    return values.tolist(), places[ids]


def bitmaps(numbers: np.ndarray, count: int) -> list[Bitmap | None]:
    """Where each of 1 to ``count`` is, without a pass over the picture for each.

    Args:
        numbers: (H, W), whole numbers from 0 to ``count``.
        count: of the numbers.
    """
    found: list[Bitmap | None] = []
    for number, window in enumerate(ndimage.find_objects(numbers, count), 1):
        if window is None:
            found.append(None)
            continue
        rows, columns = window
        pixels = numbers[window].ravel() == number
        edges = np.flatnonzero(np.diff(pixels, prepend=False))
        counts = np.diff(edges, prepend=0, append=pixels.size).tolist()
        size = (rows.stop - rows.start, columns.stop - columns.start)
        found.append(Bitmap(columns.start, rows.start, size, tuple(counts)))
    return found


@dataclass(frozen=True)
class SegmentMap:
    """Labels of a COCO panoptic PNG; a :class:`~detr_d2.labels.records.LabelSource`.

    Args:
        png: its file.
        segments: id, class and whether it is a crowd, of each.
    """

    png: FileRef
    segments: tuple[tuple[int, str, bool], ...]

    def __call__(self) -> Sequence[Label]:
        ids, _ = read_ids(self.png)
        in_png, numbers = numbered(ids)
        names = {segment_id: (name, is_crowd) for segment_id, name, is_crowd in self.segments}
        unlisted = [one for one in in_png if one and one not in names]
        if unlisted:
            raise DatasetError(
                f"{self.png} has {len(unlisted)} ids that its JSON lacks, such as {unlisted[0]}. "
                "Take PNG and JSON from one export; 'detr-d2 check' names all of them."
            )
        shapes = {one: shape for one, shape in zip(in_png, bitmaps(numbers + 1, len(in_png))) if one}
        absent = [one for one in names if one not in shapes]
        if absent:
            raise DatasetError(
                f"{self.png} lacks {len(absent)} ids that its JSON has, such as {absent[0]}. "
                "Take PNG and JSON from one export; 'detr-d2 check' names all of them."
            )
        return [Label(name, shape, crowd, id=one) for one, (name, crowd) in names.items() if (shape := shapes[one])]


@dataclass(frozen=True)
class ColorMap:
    """Labels of CVAT's "Segmentation mask 1.1"; a :class:`~detr_d2.labels.records.LabelSource`.

    Args:
        classes: mask picture whose colours are classes.
        objects: mask picture whose colours are objects, or None: each class is one label then.
        colors: of each class; black is nothing.
        names: of the classes, in the order of ``colors``; empty for the background.
    """

    classes: FileRef
    objects: FileRef | None
    colors: tuple[Color, ...]
    names: tuple[str, ...]

    def __call__(self) -> Sequence[Label]:
        class_ids, has_indices = read_ids(self.classes, with_indices=True)
        in_classes, pairs = numbered(class_ids)
        names = self._names(in_classes, has_indices)
        if self.objects is not None:
            object_ids, _ = read_ids(self.objects)
            if object_ids.shape != class_ids.shape:
                raise DatasetError(f"{self.objects} and {self.classes} are pictures of different size. {_CURE}")
            in_objects, of_object = numbered(object_ids)
            if len(in_objects) * len(in_classes) >= 2**24:
                raise DatasetError(f"{self.objects} has {len(in_objects)} colours: it shows something else. {_CURE}")
            pairs += len(in_classes) * of_object
        values, numbers = numbered(pairs)
        labels: list[Label] = []
        for value, shape in zip(values, bitmaps(numbers + 1, len(values))):
            name = names[value % len(in_classes)]
            if name and shape:
                labels.append(Label(name, shape, id=len(labels) + 1))
        return labels

    def _names(self, in_classes: Sequence[int], has_indices: bool) -> list[str]:
        """The class that each number of the picture stands for."""
        if has_indices:
            known = dict(enumerate(self.names))
        else:
            known = {
                red + 256 * green + 65536 * blue: name for (red, green, blue), name in zip(self.colors, self.names)
            }
        for value in in_classes:
            if value and value not in known:
                shown = value if has_indices else (value % 256, value // 256 % 256, value // 65536)
                raise DatasetError(f"{self.classes} has the colour {shown}, which labelmap.txt lacks. {_CURE}")
        return [known.get(value, "") for value in in_classes]
