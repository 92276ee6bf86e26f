"""CVAT's "Segmentation mask 1.1": mask pictures of classes and of objects, and labelmap.txt with the classes' colours.

Source: the exports of CVAT, which follow Pascal VOC's folders. Objects are coloured by VOC's palette, which begins anew
after 256; they are told apart together with their class therefore.
"""

from __future__ import annotations

from pathlib import PurePosixPath

from detr_d2.errors import DatasetError

from ..records import ClassRecord, Export
from .archives import FileTree
from .building import ExportBuilder
from .finding import PictureFinder, joined
from .label_maps import Color, ColorMap, picture_size

LABEL_MAP, CLASSES, OBJECTS = "labelmap.txt", "SegmentationClass", "SegmentationObject"
_BACKGROUND = "background"
_MOST_BYTES = 2**20


def read_cvat_masks(tree: FileTree, base: str, name: str) -> Export:
    """An export from its folder.

    Args:
        tree: the folder or zip that it is in.
        base: where ``labelmap.txt`` is.
        name: of the export.

    Raises:
        DatasetError: ``labelmap.txt`` can't be read, or no picture is there.
    """
    file = tree.files[joined(base, LABEL_MAP)]
    names, colors = _read_label_map(file.read(_MOST_BYTES), str(file))
    finder = PictureFinder(tree, base, ["JPEGImages", "images", "images/default", ""])
    builder = ExportBuilder(name, "cvat-masks", file, finder)
    above = joined(base, CLASSES)
    for path in tree.under(above):
        stem = PurePosixPath(path).relative_to(above).with_suffix("").as_posix()
        if PurePosixPath(path).suffix.lower() != ".png":
            builder.notes.add("png-mode", f"{path} is no PNG; left out.", stem)
            continue
        picture = finder.by_stem(stem)
        if picture is None:
            builder.missing(stem)
            continue
        objects = tree.files.get(joined(base, OBJECTS, f"{stem}.png"))
        if objects is None:
            message = f"has no {OBJECTS}/{stem}.png; all of a class in it is taken for one object."
            builder.notes.add("objects-missing", message, stem)
        labels = ColorMap(tree.files[path], objects, colors, names)
        suffix = PurePosixPath(picture.member or picture.path.name).suffix
        builder.add(stem + suffix, picture, picture_size(tree.files[path]), labels)
    return builder.finish([ClassRecord(one, None, color) for one, color in zip(names, colors) if one], is_cvat=True)


def _read_label_map(content: bytes, file: str) -> tuple[tuple[str, ...], tuple[Color, ...]]:
    """Names and colours of the classes; the background's name is empty.

    A line is ``name:red,green,blue:parts:actions``; the name may have colons in it. Where no class has a colour, they
    are those of Pascal VOC's palette.
    """
    try:
        lines = content.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DatasetError(f"{file} isn't text in UTF-8 (byte {error.start}). Export it again.") from error
    names: list[str] = []
    colors: list[Color] = []
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        fields = line.strip().rsplit(":", 3)
        name = fields[0].strip()
        color = _color(fields[1]) if len(fields) == 4 else None
        if len(fields) != 4 or not name or (color is None and fields[1].strip()):
            raise DatasetError(f"{file}, line {number}: {line[:80]!r} isn't 'name:red,green,blue::'. Export it again.")
        if name in names or (color is not None and color in colors):
            raise DatasetError(f"{file}, line {number}: {name!r} or its colour is there twice. Export it again.")
        names.append(name)
        colors.append(color or _palette(len(colors)))
    return tuple("" if name.lower() == _BACKGROUND else name for name in names), tuple(colors)


def _color(text: str) -> Color | None:
    parts = text.split(",")
    if len(parts) != 3 or not all(part.strip().isdecimal() and int(part) < 256 for part in parts):
        return None
    return int(parts[0]), int(parts[1]), int(parts[2])


def _palette(index: int) -> Color:
    """A colour of Pascal VOC's palette: the bits of the index in turn to red, green and blue, the highest first."""
    sides = [0, 0, 0]
    for place in range(8):
        for channel in range(3):
            sides[channel] |= (index >> (3 * place + channel) & 1) << (7 - place)
    return sides[0], sides[1], sides[2]
