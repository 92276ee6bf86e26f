"""Class names as people write them, matched by what is left without spaces, dashes, brackets and capitals."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterable, Sequence
from functools import cache

from detr_d2.data.categories import coco_categories, construction_categories

_BRACKETS = re.compile(r"\([^()]*\)|\[[^\[\]]*\]|\{[^{}]*\}")
#: More classes than this aren't compared pair by pair.
MOST_COMPARED = 500
_NEAR = 0.84


def normal_name(name: str) -> str:
    """Small letters and digits, anything else between them one ``_``: ``Dump truck - (10t)`` is ``dump_truck_10t``."""
    folded = unicodedata.normalize("NFKC", name).casefold()
    return re.sub(r"[\W_]+", "_", folded).strip("_")


def bare_name(name: str) -> str:
    """The normal name without what stands in brackets: ``concrete_pump_(50%)`` is ``concrete_pump``."""
    previous, bare = "", name
    while bare != previous:
        previous, bare = bare, _BRACKETS.sub(" ", bare)
    return normal_name(bare)


def find_name(raw: str, known: dict[str, str]) -> str | None:
    """The known name that ``raw`` stands for, or None.

    Args:
        raw: as an export has it.
        known: names by their normal names.
    """
    return known.get(normal_name(raw)) or known.get(bare_name(raw))


def spelling(raws: Sequence[str]) -> str:
    """Of several spellings of one class the one that is its normal name, else the first without spaces around it."""
    normal = normal_name(raws[0])
    return normal if normal and normal in raws else " ".join(raws[0].split())


def near_names(raw: str, names: Iterable[str], most: int = 3) -> list[str]:
    """Names that look like ``raw``, the nearest first."""
    by_normal: dict[str, str] = {}
    for name in names:
        by_normal.setdefault(normal_name(name), name)
    found = difflib.get_close_matches(bare_name(raw) or normal_name(raw), list(by_normal), most, 0.6)
    return [by_normal[normal] for normal in found]


def near_pairs(names: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs of names so alike that one of them may be a slip of the pen, but not two of one published list."""
    if len(names) > MOST_COMPARED:
        return []
    normal = [normal_name(name) for name in names]
    published = [[name in listed for name in normal] for listed in _published()]
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


@cache
def _published() -> tuple[frozenset[str], ...]:
    """The normal names of COCO's classes, and of the construction classes."""
    return tuple(
        frozenset(normal_name(category.name) for category in listed)
        for listed in (coco_categories(), construction_categories())
    )


def _differ_in_letters(first: str, second: str) -> bool:
    """``pump_1`` and ``pump_2`` are meant to be two."""
    return re.sub(r"\d+", "", first) != re.sub(r"\d+", "", second)
