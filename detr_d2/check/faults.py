"""What can be wrong with a dataset: each kind of fault with its severity and its cure, and one found fault."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

Severity = Literal["error", "warning"]

_LONGEST = 80


class Kind(NamedTuple):
    """A kind of fault.

    Args:
        severity: ``error`` where training would stop or go wrong, ``warning`` where it copes.
        fix: what the user does about it.
    """

    severity: Severity
    fix: str


def _errors(**fixes: str) -> dict[str, Kind]:
    return {code.replace("_", "-"): Kind("error", fix) for code, fix in fixes.items()}


def _warnings(**fixes: str) -> dict[str, Kind]:
    return {code.replace("_", "-"): Kind("warning", fix) for code, fix in fixes.items()}


KINDS: dict[str, Kind] = {
    # The files themselves.
    **_errors(
        json_missing="correct the path, or restore the file",
        json_broken="export the file again, or restore it",
        json_type="write what the format asks for; another program's file needs converting first",
        json_key="add the key; COCO files have images, annotations and categories",
        json_large="split it by pictures, or check it on a machine with more memory",
        json_empty="export the file again, with images and labels; there is nothing to learn from it",
        json_repeated="keep one of them: programs read the last one, and what the others hold is lost",
        json_text="write whole characters; nothing can be named so, and other programs stop at it",
        json_number="replace NaN and Infinity, which JSON doesn't have, by numbers",
        folder_missing="correct the path, or fetch the files",
    ),
    **_errors(
        export_broken="make it readable, or export it again as 'CVAT for images 1.1', 'COCO 1.0' or "
        "'Segmentation mask 1.1'"
    ),
    **_warnings(
        shape_undrawn="nothing to do, or draw it as a polygon or mask: it covers no pixels, and is left out",
        objects_missing="export it with objects (SegmentationObject), or all of a class in a picture is one object",
        json_other="nothing to do if this file isn't part of the dataset",
        folder_unknown="name the folder with --images, or --panoptic, so that its pictures are checked too",
    ),
    # Ids.
    **_errors(
        id_type="give a whole number",
        id_duplicate="renumber; each id may come once",
        id_range="renumber with ids from 1 to 16777215; 0 is void",
        image_unknown="remove the entry, or add its picture to images",
    ),
    **_warnings(id_shared="renumber when you merge them; each export counts from 1"),
    # Categories.
    **_errors(
        category_id="write a whole number, as categories has it",
        category_unknown="add the category to categories, or correct the id",
        category_name="give each category a name of its own, as text",
        isthing="write 1 for a thing (countable) and 0 for stuff",
    ),
    **_warnings(
        category_gap="nothing to do here: ids are mapped; programs that count classes by the highest id go wrong",
        category_name_quirk="rename it, so that it is the same in every export",
        category_name_alike="merge the two, or name them apart",
    ),
    # Boxes, areas.
    **_errors(
        box="write [x, y, width, height] in pixels, four finite numbers",
        box_empty="remove the object, or draw it again: it has no pixel",
        box_outside="correct it; a box lies inside its picture",
        box_stale="compute the box from the mask: max + 1 - min",
        area="write the number of pixels, more than 0",
    ),
    **_warnings(
        box_beyond="cut the box at the picture's edge; training does so",
        box_off="compute the box from the mask: max + 1 - min",
        area_missing="add the number of pixels; other programs need it",
        area_fraction="write the number of pixels; a polygon's area isn't the mask's",
        area_stale="count the pixels again; programs that trust it report wrong numbers, such as a PQ above 100",
        area_sum="count the pixels again: segments don't overlap, so they can't be more than the picture",
    ),
    # Polygons and run lengths.
    **_errors(
        mask_type="write a list of polygons, or run lengths (size and counts)",
        mask_empty="draw the object again or remove it; masks of the whole picture are left out with it",
        polygon_points="give x and y of three points or more, all finite",
        polygon_outside="correct the points; they lie outside the picture",
        polygon_holes="write run lengths: COCO's polygons have no holes, the inner ones are filled",
        rle_size="write the picture's [height, width]; the labels may be of a resized picture",
        rle_counts="export the mask again: its runs don't fill the picture",
    ),
    **_warnings(
        rle_uncompressed="nothing to do here; programs that read compressed runs only need pycocotools' frPyObjects",
        polygon_beyond="cut the polygon at the picture's edge; training does so",
        polygon_crossing="draw it without crossing itself; what is inside is a matter of the program that fills it",
        overlap="decide which one is on top; who wins is accidental otherwise",
    ),
    # Crowds.
    **_errors(
        crowd_value="write 0, or 1 for a group that can't be counted",
        crowd_only="set iscrowd to 0 where these are CVAT's brush masks; crowds aren't trained on",
    ),
    **_warnings(crowd="nothing to do for real groups; crowds aren't trained on"),
    # Panoptic PNGs.
    **_errors(
        png_missing="restore the PNG, or remove the annotation",
        png_broken="export the PNG again",
        png_mode="export as a PNG in RGB: red + 256 green + 65536 blue is the id; JPEG, palette or grey isn't",
        png_size="export the PNG again in the size of the picture",
        png_unlisted="take PNG and JSON from one export: the PNG has an id that the JSON lacks",
        png_absent="take PNG and JSON from one export: the JSON has an id that no pixel of the PNG has",
    ),
    **_warnings(
        png_alpha="write it without transparency; it is ignored here, and may have changed the ids",
        png_void="label the picture, or remove it: every pixel is void",
    ),
    # Pictures.
    **_errors(
        picture_missing="restore the picture, or remove its entry",
        picture_broken="restore the picture from its origin, or remove it",
        picture_large="make it smaller: it is beyond what Pillow takes for safe to open",
        picture_size="correct width and height, or take the picture that was labelled",
        picture_turned="label the upright picture, or save it without the EXIF orientation that turns it",
    ),
    **_warnings(
        picture_orientation="make sure that the labels fit the upright picture, then save it upright, without the tag",
        picture_depth="save it with 8 bits a channel; the highest 8 that are used count here, maybe not elsewhere",
        picture_mode="save it as RGB; it is converted each time, transparency and inks are lost",
        picture_suffix="call it by what it is: prepare and demo.py look for .jpg, .png, .webp, .bmp, .tif and .gif",
        picture_unlabelled="label them, or remove them from images",
    ),
    # Training and validation.
    **_errors(split_leak="remove it from one of the two; figures of pictures that were trained on mean nothing"),
    **_warnings(split_near="look at both; remove one if they show the same, such as frames of one video"),
    # Names of files.
    **_errors(
        path_escape="write a path below the folder of the pictures: no '..', no absolute path, no drive, no address",
        path_duplicate="keep one entry for each file and put all its labels there",
    ),
    **_warnings(
        path_collision="rename: the names are the same once folders are merged, or on systems that ignore case",
    ),
}


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong, and where.

    Args:
        code: a key of :data:`KINDS`.
        severity: ``error`` or ``warning``.
        file: the JSON, picture or PNG that has it.
        image_id: of the picture it belongs to, or None.
        segment_id: id of the annotation or of the panoptic segment, or None.
        message: what is wrong, with the values found.
        fix: what to do.
    """

    code: str
    severity: Severity
    file: str
    image_id: int | str | None
    segment_id: int | str | None
    message: str
    fix: str


def fault(code: str, file: str, message: str, image_id: Any = None, segment_id: Any = None) -> Fault:
    """A :class:`Fault` of a kind; ids that are neither a whole number nor a word become None."""
    kind = KINDS[code]
    return Fault(code, kind.severity, file, _plain_id(image_id), _plain_id(segment_id), message, kind.fix)


def shown(value: Any) -> str:
    """A value of somebody's file for a message: one line, printable, not long."""
    if isinstance(value, (list, dict)) and len(value) > 8:
        return f"{'a list' if isinstance(value, list) else 'an object'} of {len(value)} entries"
    try:
        text = repr(value)
    except (RecursionError, ValueError):  # nested beyond reason, or a number of thousands of digits
        return f"a {type(value).__name__}"
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."


def _plain_id(value: Any) -> int | str | None:
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        return None
    return value if isinstance(value, int) and abs(value) < 10**40 else shown(value).strip("'\"")
