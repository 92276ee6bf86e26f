"""What is wrong with panoptic maps and their lists of segments, in the words of the rules, and as a table."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from tabulate import tabulate

from detr_d2.errors import DatasetError
from detr_d2.evaluation.overlaps import VOID
from detr_d2.labels.panoptic_png import absent_message, size_message, unlisted_message
from detr_d2.labels.rules.rule import Finding, Place
from detr_d2.wording import counted

#: A table has at most so many faults of one kind, and so many in all; the others are counted.
MAX_OF_A_KIND, MAX_SHOWN = 8, 40
#: So many segments of an image that only one of PNG and JSON has are named one by one.
MAX_OF_AN_IMAGE = 10
#: No more faults of a dataset that is evaluated than this are listed.
MAX_FAULTS = 10


class FaultRow(NamedTuple):
    """One thing that is wrong.

    Args:
        where: which of the two files, and the image id.
        fault: what came.
        fix: what to do; equal for faults of a kind.
    """

    where: str
    fault: str
    fix: str


def faults_of(findings: Iterable[Finding], where: str) -> list[FaultRow]:
    """The errors that are found, in the rules' words."""
    faults = []
    for found in findings:
        if found.rule.severity == "error":
            name = found.place.text or os.path.basename(found.place.file)
            faults.append(FaultRow(where, f"{name} {found.message}".strip(" ."), found.rule.advice))
    return faults


def map_faults(
    where: str,
    segment_ids: Sequence[int],
    areas: Mapping[int, int],
    shape: tuple[int, ...],
    size: tuple[int, ...] | None,
    source: str = "the JSON",
) -> list[FaultRow]:
    """How a map and the ids that its JSON entry lists contradict each other.

    Args:
        where: names the image in the faults.
        segment_ids: as listed, in any order.
        areas: the map's ids and their pixels.
        shape: of the map.
        size: height and width as ``source`` has them; None where it doesn't say.
        source: who says so, for the message.
    """
    place, listed, painted = Place(""), Counter(segment_ids), areas.keys() - {VOID}
    found = []
    if size is not None and tuple(shape) != size:
        found.append(place.found("png-size", size_message((shape[1], shape[0]), (size[1], size[0]), source)))
    if VOID in listed:
        found.append(place.found("id-range", "a segment has id=0."))
    for segment_id, times in sorted(listed.items()):
        if times > 1:
            found.append(place.found("id-duplicate", f"{times} segments have the id {segment_id}."))
    unlisted = painted - listed.keys()
    found += _some("png-unlisted", unlisted, lambda i: f"has {unlisted_message(i, areas[i])}.", "so it has")
    found += _some("png-absent", listed.keys() - painted - {VOID}, absent_message, "none of")
    return faults_of(found, where)


def find_faults(record: Mapping[str, Any], areas: Mapping[int, int], shape: tuple[int, int]) -> list[str]:
    """How an image's PNG and its entry in the panoptic JSON contradict each other.

    Args:
        record: the dataset's dict of the image.
        areas: the PNG's segment ids, and the pixels of each.
        shape: height and width of the PNG.

    Returns:
        One sentence a fault, each with file, image id and segment id; empty if all is well.
    """
    where = f"{record['pan_seg_file_name']} (image id {record['image_id']})"
    listed = [segment["id"] for segment in record["segments_info"]]
    faults = map_faults(where, listed, areas, shape, (record["height"], record["width"]))
    return [f"{fault.where}: {fault.fault}" for fault in faults]


def contradiction(name: str, faults: Sequence[str]) -> DatasetError:
    """The error of ground truth, called ``name``, that has faults; some of them are listed."""
    shown = "\n".join(f"  {fault}" for fault in faults[:MAX_FAULTS])
    more = "\n  ... and perhaps more." if len(faults) >= MAX_FAULTS else ""
    return DatasetError(
        f"{name} contradicts itself, so that no number would mean anything:\n{shown}{more}\n"
        "Make PNGs and JSON agree; ids are R + 256 G + 65536 B, and 0 is void."
    )


def count_stale_areas(segments: Sequence[Mapping[str, Any]], areas: Mapping[int, int]) -> int:
    """How many segments have another area in the JSON than in the PNG, whose ids and pixels are ``areas``."""
    return sum(1 for s in segments if "area" in s and s["area"] != areas.get(s["id"], 0))


def _some(code: str, ids: Collection[int], message: Callable[[int], str], others: str) -> Iterator[Finding]:
    """A finding for each of the first ids, and one for all others."""
    for segment_id in sorted(ids)[:MAX_OF_AN_IMAGE]:
        yield Place("").found(code, message(segment_id))
    more = len(ids) - MAX_OF_AN_IMAGE
    if more > 0:
        yield Place("").found(code, f"and {others} {counted(more, 'more id')}.")


def faults_table(faults: Sequence[FaultRow]) -> str:
    """A row a fault, some of each kind, and how many more there are."""
    shown: list[FaultRow] = []
    of_a_kind: Counter[str] = Counter()
    for fault in faults:
        of_a_kind[fault.fix] += 1
        if of_a_kind[fault.fix] <= MAX_OF_A_KIND and len(shown) < MAX_SHOWN:
            shown.append(fault)
    text = tabulate(shown, headers=["image", "fault", "what to do"], tablefmt="pipe", disable_numparse=True)
    if len(shown) == len(faults):
        return text
    kinds = "\n".join(f"  {count:,} x {fix}" for fix, count in of_a_kind.most_common(MAX_SHOWN))
    return f"{text}\n... {counted(len(faults) - len(shown), 'more fault')}; all {len(faults):,} by what to do:\n{kinds}"
