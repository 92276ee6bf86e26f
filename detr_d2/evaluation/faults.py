"""What is wrong with panoptic maps and their lists of segments, and how it is told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from tabulate import tabulate

from detr_d2.evaluation.overlaps import VOID
from detr_d2.wording import counted

#: A table has at most so many faults of one cure, and so many in all; the others are counted.
MAX_OF_A_KIND, MAX_SHOWN = 8, 40
#: So many segments of an image that only one of PNG and JSON has are told one by one.
MAX_OF_A_PICTURE = 10

CURE_IDS = "export PNG and JSON together; a pixel's id is R + 256 G + 65536 B"
CURE_SIZE = "make the map at the size of the picture itself"
CURE_VOID = "ids are 1 to 16777215; 0 is void and isn't listed"
CURE_TWICE = "list each id once in a picture"


class Fault(NamedTuple):
    """One thing that is wrong.

    Args:
        picture: which of the two files, and the image id.
        fault: what came.
        cure: what to do; equal for faults of a kind.
    """

    picture: str
    fault: str
    cure: str


def map_faults(
    picture: str,
    segment_ids: Sequence[int],
    areas: Mapping[int, int],
    shape: tuple[int, ...],
    size: tuple[int, int] | None,
    source: str = "the JSON",
) -> list[Fault]:
    """How a map and the ids that its JSON entry lists contradict each other.

    Args:
        picture: names the image in the faults.
        segment_ids: as listed, in any order.
        areas: the map's ids and their pixels.
        shape: of the map.
        size: height and width as ``source`` has them; None where it doesn't say.
        source: who says so, for the message.
    """
    faults = []
    if size is not None and tuple(shape) != size:
        text = f"is {shape[0]} x {shape[1]} (height x width), but {source} says {size[0]} x {size[1]}"
        faults.append(Fault(picture, text, CURE_SIZE))
    listed, painted = Counter(segment_ids), areas.keys() - {VOID}
    if VOID in listed:
        faults.append(Fault(picture, "the JSON has a segment with id 0, which means void", CURE_VOID))
    faults += [
        Fault(picture, f"segment {i} is {n} times in the JSON", CURE_TWICE) for i, n in sorted(listed.items()) if n > 1
    ]
    for ids, text in (
        (painted - listed.keys(), "in the PNG but not in the JSON"),
        (listed.keys() - painted - {VOID}, "in the JSON but not in the PNG"),
    ):
        faults += [Fault(picture, f"segment {i} is {text}", CURE_IDS) for i in sorted(ids)[:MAX_OF_A_PICTURE]]
        more = len(ids) - MAX_OF_A_PICTURE
        if more > 0:
            faults.append(Fault(picture, f"{counted(more, 'more segment is', 'more segments are')} {text}", CURE_IDS))
    return faults


def faults_table(faults: Sequence[Fault]) -> str:
    """A row a fault, some of each kind, and how many more there are."""
    shown: list[Fault] = []
    of_a_kind: Counter[str] = Counter()
    for fault in faults:
        of_a_kind[fault.cure] += 1
        if of_a_kind[fault.cure] <= MAX_OF_A_KIND and len(shown) < MAX_SHOWN:
            shown.append(fault)
    text = tabulate(shown, headers=["picture", "fault", "what to do"], tablefmt="pipe", disable_numparse=True)
    if len(shown) == len(faults):
        return text
    kinds = "\n".join(f"  {count} x {cure}" for cure, count in of_a_kind.most_common(MAX_SHOWN))
    return f"{text}\n... {counted(len(faults) - len(shown), 'more fault')}; all {len(faults)} by what to do:\n{kinds}"
