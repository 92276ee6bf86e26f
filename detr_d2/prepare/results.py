"""What is known of a picture once it is prepared; one line of the journal."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Segment:
    """A segment of a panoptic PNG.

    Args:
        id: the pixels' red + 256 green + 65536 blue.
        class_number: place in the class table.
        area: pixels.
        bbox: left, top, width, height in pixels.
        is_crowd: it can't be counted.
        source: ``human``, ``model``, ``coco`` or ``rest``.
        score: of a model, or None.
        runs: of a thing, compressed run lengths as COCO has them; else empty.
    """

    id: int
    class_number: int
    area: int
    bbox: tuple[int, int, int, int]
    is_crowd: bool = False
    source: str = "human"
    score: float | None = None
    runs: str = ""


@dataclass(frozen=True)
class Dropped:
    """Labels that didn't become a segment of their own.

    Args:
        class_name: as the export has it.
        reason: a short word with hyphens.
        count: how many.
    """

    class_name: str
    reason: str
    count: int = 1


@dataclass(frozen=True)
class Remark:
    """Something to say of one picture, as :class:`records.Note` without the names of the picture and its file."""

    code: str
    message: str
    class_name: str = ""
    label_id: int = 0


@dataclass(frozen=True)
class PictureResult:
    """A picture that was prepared, or why it wasn't.

    Args:
        name: of the picture, ``<export>/<name>``.
        file_name: below ``images/``; empty where the picture is left out.
        png: below ``panoptic/``.
        width, height: in pixels, upright.
        sizes: bytes of the two files, to know them again.
        look: the perceptual hash.
        segments: from the first label to the last piece of stuff.
        dropped: what became of labels without a segment.
        remarks: what was changed or left out.
        skipped: a short code where the picture is left out.
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
    dropped: tuple[Dropped, ...] = ()
    remarks: tuple[Remark, ...] = ()
    skipped: str = ""
    why: str = ""
    overlaps: tuple[tuple[int, int, int], ...] = ()

    def to_json(self) -> str:
        """One line."""
        return json.dumps(asdict(self), separators=(",", ":"))


def result_from_json(line: str) -> PictureResult:
    """What :meth:`PictureResult.to_json` wrote.

    Raises:
        ValueError: it is something else, such as a line that was cut off.
    """
    try:
        content: dict[str, Any] = json.loads(line)
        return PictureResult(
            **{
                **content,
                "sizes": tuple(content["sizes"]),
                "segments": tuple(Segment(**{**one, "bbox": tuple(one["bbox"])}) for one in content["segments"]),
                "dropped": tuple(Dropped(**one) for one in content["dropped"]),
                "remarks": tuple(Remark(**one) for one in content["remarks"]),
                "overlaps": tuple(tuple(pair) for pair in content["overlaps"]),
            }
        )
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"not a prepared picture: {error}") from error
