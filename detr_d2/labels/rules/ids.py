"""Rules of ids, whatever they are ids of."""

from __future__ import annotations

from ..panoptic_ids import MAX_SEGMENT_ID
from .rule import IDS

ID_TYPE = IDS.error(
    "id-type",
    "give a whole number",
    '`7.0` and `"7"` become 7; labels get a new id; a segment gets that of the pixels with just its box and area; '
    "else left out",
    needs_pixels=True,
)
ID_DUPLICATE = IDS.error(
    "id-duplicate",
    "renumber; each id may come once",
    "repetitions go; annotations get new ids; images or categories with one id, and their labels, are left out, "
    "unless a PNG's name says which is meant",
)
ID_RANGE = IDS.error(
    "id-range",
    f"renumber with ids from 1 to {MAX_SEGMENT_ID}; 0 is void",
    "the id of the pixels with just its box and area; else left out",
    needs_pixels=True,
)
IMAGE_UNKNOWN = IDS.error("image-unknown", "remove the entry, or add its image to images", "left out")
ID_SHARED = IDS.warning(
    "id-shared", "renumber when you merge them; each export counts from 1", "stays; `detr-d2 prepare` renumbers"
)
