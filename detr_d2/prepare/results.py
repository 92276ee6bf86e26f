"""What is known of an image once it is prepared; one line of the journal."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from detr_d2.labels.records import Note


@dataclass(frozen=True)
class Segment:
    """A segment of a panoptic PNG.

    Args:
        class_number: index in the class table.
        is_crowd: it can't be counted.
        source: ``human``, ``model``, ``masks``, ``coco`` or ``rest``.
        score: of a model, or None.
        id: the pixels' red + 256 green + 65536 blue; 0 as long as the segment isn't measured.
        area: pixels.
        bbox: left, top, width, height in pixels.
        runs: of a thing, compressed run lengths as COCO has them; else empty.
    """

    class_number: int
    is_crowd: bool = False
    source: str = "human"
    score: float | None = None
    id: int = 0
    area: int = 0
    bbox: tuple[int, int, int, int] = (0, 0, 0, 0)
    runs: str = ""


@dataclass(frozen=True)
class ImageResult:
    """An image that was prepared, or why it wasn't.

    Args:
        name: of the image, ``<export>/<name>``.
        file_name: below ``images/``; empty where the image is left out.
        png: below ``panoptic/``.
        width, height: in pixels, upright.
        sizes: bytes of the two files, to know them again.
        look: the perceptual hash.
        segments: from the first label to the last piece of stuff.
        dropped: labels that didn't become a segment of their own: class as the export has it, and a short word.
        notes: what was changed or left out.
        skipped: a short code where the image is left out.
        why: a sentence for it.
        overlaps: pairs of label ids that share pixels, with their number; where overlaps are errors.
    """

    name: str
    file_name: str = ""
    png: str = ""
    width: int = 0
    height: int = 0
    sizes: tuple[int, int] = (0, 0)
    look: int = 0
    segments: tuple[Segment, ...] = ()
    dropped: tuple[tuple[str, str], ...] = ()
    notes: tuple[Note, ...] = ()
    skipped: str = ""
    why: str = ""
    overlaps: tuple[tuple[int, int, int], ...] = ()

    def to_json(self) -> str:
        """One line."""
        return json.dumps(asdict(self), separators=(",", ":"))


def result_from_json(line: str) -> ImageResult:
    """What :meth:`ImageResult.to_json` wrote.

    Raises:
        ValueError: it is something else, such as a line that was cut off.
    """
    try:
        content: dict[str, Any] = json.loads(line)
        content["segments"] = tuple(Segment(**{**one, "bbox": tuple(one["bbox"])}) for one in content["segments"])
        content["notes"] = tuple(Note(**one) for one in content["notes"])
        for key in ("dropped", "overlaps"):
            content[key] = tuple(map(tuple, content[key]))
        return ImageResult(**{**content, "sizes": tuple(content["sizes"])})
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"not a prepared image: {error}") from error
