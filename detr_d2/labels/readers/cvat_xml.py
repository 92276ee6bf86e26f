""" "CVAT for images 1.1": an XML with the shapes of each image.

Source: CVAT's "XML annotation format" document and its exports: masks are runs row by row inside a box, pixels off
first; rectangles and ellipses are turned clockwise around their centre; ``group_id`` joins shapes to one object.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import PurePosixPath
from xml.etree.ElementTree import Element

from defusedxml import DefusedXmlException, DTDForbidden
from defusedxml.ElementTree import iterparse

from detr_d2.errors import DatasetError

from ..archives import joined
from ..polygons import is_polygon, solid_parts
from ..records import Box, ClassRecord, Ellipse, Export, FileRef, Label, Polygons, Runs, Shape
from ..values import MOST_PIXELS, Unreadable, is_number
from .building import ExportBuilder, ImageFinder, PackedLabels

ROOT, FILE_NAME = "annotations", "annotations.xml"
_DEEPEST = 32
_UNDRAWN = ("polyline", "points", "skeleton", "cuboid", "tag")
_CROWD_ATTRIBUTES = ("is_crowd", "iscrowd")


def read_cvat_xml(file: FileRef, name: str, finder: ImageFinder) -> Export:
    """An export from its XML, which is never in memory as a whole.

    Raises:
        DatasetError: it isn't XML, or not CVAT's for images; it declares entities; or no image is there.
    """
    reader = _Reader(file, name, finder)
    for element in _elements(_events(file), file):
        if element.tag == "meta":
            reader.take_meta(element)
        elif element.tag == "image":
            reader.take_image(element)
    return reader.export()


def is_cvat_xml(file: FileRef) -> bool:
    """Whether an XML is CVAT's, by its name or that of its root; one that can't be read passes, and is named then."""
    if PurePosixPath(file.member or file.path.name).name.lower() == FILE_NAME:
        return True
    try:
        with file.open() as opened:
            root: Element = next(iterparse(opened, ("start",), forbid_dtd=True))[1]
            return root.tag == ROOT
    except DTDForbidden as error:
        return bool(error.name == ROOT)
    except Exception:
        return True


def _events(file: FileRef) -> Iterator[tuple[str, Element]]:
    """Begin and end of each element; whatever goes wrong on the way is a DatasetError that names the file."""
    try:
        with file.open() as opened:
            yield from iterparse(opened, ("start", "end"), forbid_dtd=True)
    except DefusedXmlException as error:
        raise DatasetError(
            f"{file} declares a document type or entities, which CVAT never does and which can fill the memory. "
            "Nothing was read from it. Export it again."
        ) from error
    except Exception as error:  # ParseError, unknown encodings, and all that broken zips raise
        raise DatasetError(f"{file} isn't XML: {str(error)[:200]}. Export it again, or restore it.") from error


def _elements(events: Iterator[tuple[str, Element]], file: FileRef) -> Iterator[Element]:
    """The elements below the root, one after another; each is emptied when the next one comes."""
    path: list[Element] = []
    for event, element in events:
        if event == "start":
            path.append(element)
            _refuse_foreign(path, file)
            continue
        path.pop()
        if len(path) == 1:
            yield element
            path[0].clear()


def _refuse_foreign(path: list[Element], file: FileRef) -> None:
    if path[0].tag != ROOT:
        raise DatasetError(
            f"{file} has <{path[0].tag[:50]}> at its top; CVAT's have <{ROOT}>. Export as 'CVAT for images 1.1'."
        )
    if len(path) > _DEEPEST:
        raise DatasetError(f"{file} is nested more than {_DEEPEST} deep; CVAT's are not. Export it again.")
    if len(path) == 2 and path[1].tag == "track":
        raise DatasetError(
            f"{file} has tracks: it is 'CVAT for video 1.1', which says what is on key frames only. "
            "Export as 'CVAT for images 1.1', where each frame has its shapes."
        )


class _Reader:
    """Takes one element after another; others than these two say nothing of labels."""

    def __init__(self, file: FileRef, name: str, finder: ImageFinder) -> None:
        self._builder = ExportBuilder(name, "cvat-xml", file, finder)
        self._note = self._builder.note
        self._count = 0
        self._classes: dict[str, ClassRecord] = {}
        self._attributes: Counter[str] = Counter()
        self._names: dict[str, str] = {}

    def export(self) -> Export:
        """All of it."""
        for attribute, count in self._attributes.items():
            self._note("attribute-unused", f"the attribute {attribute!r} of {count} labels isn't used.")
        return self._builder.finish(list(self._classes.values()), is_cvat=True)

    def take_meta(self, meta: Element) -> None:
        """Classes and their colours."""
        for label in meta.iter("label"):
            name, color = label.findtext("name", ""), label.findtext("color", "")
            if name and label.findtext("type", "any") not in _UNDRAWN and label.find("parent") is None:
                is_color = re.fullmatch("#[0-9a-fA-F]{6}", color) is not None
                rgb = (int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)) if is_color else None
                self._classes.setdefault(name, ClassRecord(name, None, rgb))

    def take_image(self, image: Element) -> None:
        """An image with its shapes."""
        name, subset = image.get("name", ""), image.get("subset", "")
        if not name:
            self._note("json-key", f"image {image.get('id')} has no name; left out.")
            return
        in_subset = joined(subset, name) if subset else name
        found = self._builder.image_file(in_subset, name)
        if found is None:
            return
        width, height = self._builder.size_of(_sides(image), name)
        labels = _with_holes([label for shape in image if (label := self._label(shape, name, width, height))])
        unique = name if self._names.setdefault(name, subset) == subset else in_subset
        self._builder.add(unique, found, (width, height), PackedLabels.of(labels), _whole(image.get("id")))

    def _label(self, shape: Element, image: str, width: int, height: int) -> Label | None:
        """The label of a shape; None, and a note, if it can't be drawn."""
        self._count += 1
        class_name = shape.get("label", "")
        if shape.tag not in SHAPES:
            if shape.tag in _UNDRAWN:
                code, message = "shape-undrawn", f"a {shape.tag} covers no pixels; left out."
            else:
                code, message = "shape-unknown", f"<{shape.tag[:50]}> isn't known; left out."
            self._note(code, message, image, class_name, is_lost=True)
            return None
        if not class_name:
            self._note("category-unknown", f"a {shape.tag} has no label; left out.", image)
            return None
        try:
            drawn = SHAPES[shape.tag](shape, width, height)
        except Unreadable as problem:
            code, why = problem.args
            self._note(code, f"a {shape.tag} {why}; left out.", image, class_name, self._count, is_lost=True)
            return None
        self._classes.setdefault(class_name, ClassRecord(class_name))
        return Label(
            class_name,
            drawn,
            is_crowd=self._is_crowd(shape),
            z_order=_whole(shape.get("z_order"), signed=True),
            id=self._count,
            group=_whole(shape.get("group_id")),
        )

    def _is_crowd(self, shape: Element) -> bool:
        """Whether an attribute says so, as it does in CVAT's COCO exports; other attributes are counted."""
        is_crowd = False
        for attribute in shape.iter("attribute"):
            name, text = attribute.get("name", "")[:100], (attribute.text or "").strip().lower()
            if name in _CROWD_ATTRIBUTES:
                is_crowd = is_crowd or text in ("true", "1")
            elif name in self._attributes or len(self._attributes) < 1000:
                self._attributes[name] += 1
        return is_crowd


def _with_holes(labels: list[Label]) -> list[Label]:
    """Polygons inside polygons of one group, which are holes of its object, put to those that they are in."""
    rings: dict[tuple[str, int, bool], list[int]] = {}
    for index, label in enumerate(labels):
        if label.group and isinstance(label.shape, Polygons):
            rings.setdefault((label.class_name, label.group, label.is_crowd), []).append(index)
    found: list[Label | None] = list(labels)
    for indices in rings.values():
        outlines = [labels[index].shape.polygons[0] for index in indices]  # type: ignore[union-attr]
        for outer, holes in solid_parts(outlines):
            shape = Polygons((outlines[outer], *(outlines[hole] for hole in holes)))
            found[indices[outer]] = replace(labels[indices[outer]], shape=shape)
            for hole in holes:
                found[indices[hole]] = None
    return [label for label in found if label]


def _sides(image: Element) -> dict[str, int | str]:
    """``width`` and ``height`` as far as they are there, as whole numbers if they are that."""
    sides = {key: text for key in ("width", "height") if (text := image.get(key)) is not None}
    return {key: int(text) if re.fullmatch("-?[0-9]{1,40}", text) else text for key, text in sides.items()}


def _whole(text: str | None, signed: bool = False) -> int:
    """A whole number of at most nine digits; 0 for all else."""
    return int(text) if text and re.fullmatch("-?[0-9]{1,9}" if signed else "[0-9]{1,9}", text) else 0


def _number(element: Element, key: str, default: str = "") -> float:
    text = element.get(key, default)
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not is_number(value):
        raise Unreadable("shape-number", f"has {key}={text[:30]!r}, which is no number of pixels")
    return value


def _box(element: Element, width: int, height: int) -> Shape:
    left, top, right, bottom = (_number(element, key) for key in ("xtl", "ytl", "xbr", "ybr"))
    if right <= left or bottom <= top:
        raise Unreadable("box-empty", f"reaches from ({left:g}, {top:g}) to ({right:g}, {bottom:g})")
    return Box(left, top, right, bottom, _number(element, "rotation", "0"))


def _ellipse(element: Element, width: int, height: int) -> Shape:
    x, y, radius_x, radius_y = (_number(element, key) for key in ("cx", "cy", "rx", "ry"))
    if min(radius_x, radius_y) <= 0:
        raise Unreadable("mask-empty", f"has half axes of {radius_x:g} and {radius_y:g} pixels")
    return Ellipse(x, y, radius_x, radius_y, _number(element, "rotation", "0"))


def _polygon(element: Element, width: int, height: int) -> Shape:
    pairs = element.get("points", "").split(";")
    try:
        numbers = tuple(float(number) for x, y in (pair.split(",") for pair in pairs) for number in (x, y))
    except ValueError:
        numbers = ()
    if not is_polygon(numbers):
        raise Unreadable("polygon-points", "isn't x and y of three points or more, all finite")
    return Polygons((numbers,))


def _mask(element: Element, width: int, height: int) -> Shape:
    left, top, columns, rows = (_number(element, key) for key in ("left", "top", "width", "height"))
    if not 0 < columns * rows <= MOST_PIXELS or columns < 1 or any(n % 1 for n in (left, top, columns, rows)):
        raise Unreadable("rle-size", f"is said to be {columns:g}x{rows:g} pixels")
    if width and not (0 <= left <= width - columns and 0 <= top <= height - rows):
        raise Unreadable("rle-size", f"of {columns:g}x{rows:g} pixels at ({left:g}, {top:g}) leaves its image")
    try:
        counts = tuple(map(int, element.get("rle", "").split(",")))
    except ValueError:
        counts = (-1,)
    if min(counts) < 0 or sum(counts) != columns * rows:
        raise Unreadable("rle-counts", f"has run lengths that don't fill its {columns:g}x{rows:g} pixels")
    if not any(counts[1::2]):
        raise Unreadable("mask-empty", "has no pixel")
    return Runs((int(rows), int(columns)), counts, int(left), int(top), by_rows=True)


#: The shapes that cover pixels, by their name in the XML; made of an element, and of width and height of its image in
#: pixels, 0 where they aren't known; raise Unreadable for what can't be drawn.
SHAPES: dict[str, Callable[[Element, int, int], Shape]] = {
    "box": _box,
    "ellipse": _ellipse,
    "polygon": _polygon,
    "mask": _mask,
}
