"""CVAT's "Segmentation mask 1.1": images of classes and of objects, and labelmap.txt with the classes' colours.

Source: the exports of CVAT, which follow Pascal VOC's folders. Objects are coloured by VOC's palette, which begins anew
after 256; a colour means an object together with its class therefore.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from detr_d2.errors import DatasetError

from ..archives import FileTree, joined
from ..image_reading import header_size
from ..panoptic_png import Color, color_of_id, id_of_color, numbers_of, read_ids
from ..records import ClassRecord, Export, FileRef, Label, Note
from ..values import Size, color_of
from .building import ExportBuilder, ImageFinder, shapes_of

LABEL_MAP, CLASSES, OBJECTS = "labelmap.txt", "SegmentationClass", "SegmentationObject"
_BACKGROUND = "background"
_MOST_BYTES = 2**20
_ADVICE = "Export it again, or restore it."


@dataclass(frozen=True)
class ColorMap:
    """Labels of an image; a source of labels.

    Args:
        classes: image whose colours are classes.
        objects: image whose colours are objects, or None: each class is one label then.
        colors, names: of each class; black is nothing, and the background's name is empty.
    """

    classes: FileRef
    objects: FileRef | None
    colors: tuple[Color, ...]
    names: tuple[str, ...]

    def __call__(self, notes_: list[Note] | None = None, size: Size | None = None) -> Sequence[Label]:
        """See :class:`~detr_d2.labels.records.LabelSource`."""
        class_ids, are_indices = read_ids(self.classes, index_modes=("L", "1"))
        in_classes, pairs = numbers_of(class_ids)
        names = self._names(in_classes, are_indices)
        if self.objects is not None:
            object_ids, _ = read_ids(self.objects)
            if object_ids.shape != class_ids.shape:
                raise DatasetError(f"{self.objects} and {self.classes} are images of different size. {_ADVICE}")
            in_objects, of_object = numbers_of(object_ids)
            if len(in_objects) * len(in_classes) >= 2**24:
                raise DatasetError(f"{self.objects} has {len(in_objects)} colours: it shows something else. {_ADVICE}")
            pairs += len(in_classes) * of_object
        shapes = ((names[value % len(in_classes)], shape) for value, shape in shapes_of(pairs).items())
        named = [(name, shape) for name, shape in shapes if name]
        return [Label(name, shape, id=number) for number, (name, shape) in enumerate(named, 1)]

    def _names(self, in_classes: Sequence[int], are_indices: bool) -> list[str]:
        """The class that each number of the image stands for."""
        numbers = range(len(self.names)) if are_indices else map(id_of_color, self.colors)
        known = dict(zip(numbers, self.names))
        for value in in_classes:
            if value and value not in known:
                shown = value if are_indices else color_of_id(value)
                raise DatasetError(f"{self.classes} has the colour {shown}, which labelmap.txt lacks. {_ADVICE}")
        return [known.get(value, "") for value in in_classes]


def read_cvat_masks(tree: FileTree, base: str, name: str, needs_images: bool = True) -> Export:
    """An export from its folder, where ``labelmap.txt`` is; ``needs_images``: see :func:`~.discovery.read_exports`.

    Raises:
        DatasetError: ``labelmap.txt`` can't be read, or no image is there.
    """
    file = tree.files[joined(base, LABEL_MAP)]
    try:
        classes = parse_label_map(file.read(_MOST_BYTES).decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise DatasetError(f"{file} isn't text in UTF-8 (byte {error.start}). Export it again.") from error
    except ValueError as error:
        raise DatasetError(f"{file}, {error} Export it again.") from error
    names = tuple("" if one.lower() == _BACKGROUND else one for one in classes)
    finder = ImageFinder(tree, base, ["JPEGImages", "images", "images/default", ""], is_needed=needs_images)
    builder = ExportBuilder(name, "cvat-masks", file, finder)
    above = joined(base, CLASSES)
    for path in tree.under(above):
        stem = PurePosixPath(path).relative_to(above).with_suffix("").as_posix()
        if PurePosixPath(path).suffix.lower() != ".png":
            builder.note("png-mode", f"{path} is no PNG; left out.", stem)
            continue
        image = finder.by_stem(stem)
        if image is None:
            builder.missing(stem)
            continue
        objects = tree.files.get(joined(base, OBJECTS, f"{stem}.png"))
        if objects is None:
            message = f"has no {OBJECTS}/{stem}.png; all of a class in it is taken for one object."
            builder.note("objects-missing", message, stem)
        labels = ColorMap(tree.files[path], objects, tuple(classes.values()), names)
        builder.add(stem + PurePosixPath(str(image)).suffix, image, header_size(tree.files[path]), labels)
    return builder.finish([ClassRecord(n, None, color) for n, color in zip(names, classes.values()) if n], is_cvat=True)


def parse_label_map(text: str) -> dict[str, Color]:
    """The classes' colours by name, in the order of ``labelmap.txt``.

    A line is ``name:red,green,blue:parts:actions``; the name may have colons in it, and the last two may be left out.
    A class without a colour has that of Pascal VOC's palette.

    Raises:
        ValueError: a line is something else, or has a name or a colour that was there before.
    """
    colors: dict[str, Color] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        fields = line.strip().rsplit(":", 3)
        fields += ["", ""] if len(fields) == 2 else []
        name, color = fields[0].strip(), _color(fields[1]) if len(fields) == 4 else None
        if len(fields) != 4 or not name or (color is None and fields[1].strip()):
            raise ValueError(f"line {number}: {line[:80]!r} isn't 'name:red,green,blue::'.")
        if name in colors or color in colors.values():
            raise ValueError(f"line {number}: {name!r} or its colour is there twice.")
        colors[name] = color or _palette(len(colors))
    return colors


def _color(text: str) -> Color | None:
    return (
        color_of([int(part) for part in text.split(",") if part.strip().isdecimal()]) if text.count(",") == 2 else None
    )


def _palette(index: int) -> Color:
    """A colour of Pascal VOC's palette: the bits of the index in turn to red, green and blue, the highest first."""
    sides = [0, 0, 0]
    for bit in range(8):
        for channel in range(3):
            sides[channel] |= (index >> (3 * bit + channel) & 1) << (7 - bit)
    return sides[0], sides[1], sides[2]
