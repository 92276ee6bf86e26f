"""What the short words of the report mean."""

from __future__ import annotations

from detr_d2.labels.rules.table import RULES

_MEANINGS = {
    "left-out": "labels of a class that --classes or the list of categories leaves out",
    "void": "labels of a class that --classes makes void: their pixels belong to nobody",
    "joined": "pieces of an object that was cut into several labels; they are one segment now",
    "covered": "hidden below other labels, to the last pixel",
    "small": "fewer visible pixels than --min-area; they became void",
    "mask-empty": "labels that cover no pixel",
    "shape-broken": "outlines or run lengths that can't be drawn",
    "crowd-cleared": "classes with nothing but CVAT's brush masks, which are written as crowds; they are objects now",
    "crowd-kept": "classes with crowds and with objects; the crowds stay, and aren't trained on",
    "crowd-value": "labels whose iscrowd is neither 0 nor 1; taken for 0",
    "mask-box": "labels without an outline but with a box, which is their mask",
    "mask-type": "labels whose outline is neither polygons nor run lengths",
    "box-empty": "boxes without an area",
    "polygon-points": "outlines of fewer than three points, or of points that are no numbers",
    "polygon-holes": "labels with polygons inside polygons, which are holes; they are cut out, or filled (--holes)",
    "rle-counts": "masks whose run lengths don't fill their size",
    "rle-size": "masks of another size than their image",
    "shape-number": "shapes with something else than numbers",
    "shape-undrawn": "lines and points, which cover no pixels",
    "shape-unknown": "shapes that CVAT's format doesn't have",
    "label-duplicate": "labels that are there twice",
    "category-unknown": "labels of a class that their file doesn't list",
    "attribute-unused": "attributes of labels, which a dataset has no place for",
    "objects-missing": "images with masks of classes but not of objects; all of a class in one is one object",
    "labels-unchanged": "exports with images that have the labels of BASE (--only-changed); these are left out",
    "json-key": "entries that lack something",
    "json-type": "images whose width or height is no number of pixels; their own size counts",
    "id-duplicate": "entries with an id that was there before",
    "id-range": "segments with an id that a PNG can't have",
    "image-unknown": "labels of images that their file doesn't list",
    "path-escape": "names of images that lead out of the export",
    "path-duplicate": "images listed twice; their labels were put together, unless their sizes differ",
    "png-missing": "panoptic PNGs that aren't there",
    "png-mode": "masks that aren't PNGs",
    "stuff-mask-missing": "images without a mask in the folder of --stuff masks; their rest is void",
    "coco-few": "fewer images of COCO than --coco-images asked for",
    "exif-applied": "images turned upright as their EXIF tag says, as they were when they were labelled",
    "exif-refused": "images that were labelled unturned; saved so, without the EXIF tag",
    "exif-unsure": "images turned as their EXIF tag says; their size doesn't tell whether the labels fit",
    "image-mode": "images with a palette, transparency, inks or 16 bits; saved with 8 bits a channel",
    "image-frames": "files of several images; the first one was taken",
    "image-broken": "images that can't be read",
    "image-missing": "images that aren't there",
    "image-size": "images of another size than their labels",
    "image-large": "images beyond what Pillow takes for safe to open",
    "labels-broken": "images whose labels, or whose stuff, can't be read",
    "no-segment": "images without a label, or with none left",
}

#: Who a segment is from, in the order of the page.
SOURCES = {
    "human": "people",
    "coco": "COCO",
    "masks": "masks",
    "model": "model",
    "rest": "what was left",
}


def meaning(code: str) -> str:
    """A code in words, or nothing where it says it all."""
    rule = RULES.get(code)
    return _MEANINGS.get(code) or (f"{rule.advice}; here: {rule.fixed}".replace("`", "") if rule else "")
