"""Class names as people write them: one answer to which of them mean the same class.

Names are the same where their normal names are, whatever their capitals, spaces and dashes: ``Dump truck - (10t)`` is
``dump_truck_10t``. Where a list of classes is given and lacks that, what stands in brackets is left out:
:func:`find_name` finds ``dump_truck`` in it.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TypeVar

_BRACKETS = re.compile(r"\([^()]*\)|\[[^\[\]]*\]|\{[^{}]*\}")
#: More classes than this aren't compared pair by pair.
MOST_COMPARED = 500
_NEAR = 0.84
Known = TypeVar("Known")


def normal_name(name: str) -> str:
    """Small letters and digits, anything else between them one ``_``: ``Dump truck - (10t)`` is ``dump_truck_10t``."""
    folded = unicodedata.normalize("NFKC", name).casefold()
    return re.sub(r"[\W_]+", "_", folded).strip("_")


def _bare_name(name: str) -> str:
    """The normal name without what stands in brackets: ``concrete_pump_(50%)`` is ``concrete_pump``."""
    previous, bare = "", name
    while bare != previous:
        previous, bare = bare, _BRACKETS.sub(" ", bare)
    return normal_name(bare)


def find_name(raw: str, known: Mapping[str, Known]) -> Known | None:
    """What is known by the name that ``raw`` stands for, such as the name itself; or None.

    Args:
        raw: as an export, a model or a file has it.
        known: by normal names.
    """
    normal = normal_name(raw)
    return known[normal] if normal in known else known.get(_bare_name(raw))


def spelling(raws: Sequence[str]) -> str:
    """Of several spellings of one class the one that is its normal name, else the first without spaces around it."""
    normal = normal_name(raws[0])
    return normal if normal and normal in raws else " ".join(raws[0].split())


def near_names(raw: str, names: Iterable[str], most: int = 3) -> list[str]:
    """Names that look like ``raw``, the nearest first."""
    by_normal: dict[str, str] = {}
    for name in names:
        by_normal.setdefault(normal_name(name), name)
    found = difflib.get_close_matches(_bare_name(raw) or normal_name(raw), list(by_normal), most, 0.6)
    return [by_normal[normal] for normal in found]


def near_pairs(names: Sequence[str], lists: Sequence[Collection[str]] = ()) -> list[tuple[str, str]]:
    """Pairs of names so alike that one of them may be a slip of the pen.

    Args:
        names: those of a dataset.
        lists: published ones; two names of one of them are meant to be two.
    """
    if len(names) > MOST_COMPARED:
        return []
    normal = [normal_name(name) for name in names]
    published = [[name in found for name in normal] for found in ({*map(normal_name, one)} for one in lists)]
    pairs = []
    for second in range(len(names)):
        matcher = difflib.SequenceMatcher(b=normal[second], autojunk=False)
        for first in range(second):
            if any(is_listed[first] and is_listed[second] for is_listed in published):
                continue
            matcher.set_seq1(normal[first])
            if _differ_in_letters(normal[first], normal[second]) and matcher.quick_ratio() >= _NEAR <= matcher.ratio():
                pairs.append((names[first], names[second]))
    return pairs


def _differ_in_letters(first: str, second: str) -> bool:
    """``pump_1`` and ``pump_2`` are meant to be two."""
    return re.sub(r"\d+", "", first) != re.sub(r"\d+", "", second)
