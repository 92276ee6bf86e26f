"""Faults of a file's ``categories``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from detr_d2.labels.similar_names import is_text

from .faults import Fault, fault, shown
from .values import is_whole, numbered

_QUIRK = re.compile(r"^\s|\s$|[()\[\]{}<>%/\\\"'\x00-\x1f]|[\s_-]{2,}")


def normalised_name(name: str) -> str:
    """A class name without case, brackets and what stands in them, and with one ``_`` between words.

    ``'Wheel-Loader '`` and ``'wheel_loader'`` are the same, ``'concrete_pump_(50%)'`` is ``'concrete_pump'``.
    """
    without = re.sub(r"\([^()]*\)|\[[^\[\]]*\]", " ", name)
    return "_".join(re.findall(r"[^\W_]+", (without if without.strip(" _-") else name).lower()))


def is_quirky(name: str) -> bool:
    """Whether a class name has what labelling programs add: outer spaces, brackets, doubled spaces and dashes."""
    return bool(_QUIRK.search(name))


def category_faults(entries: list[Any], file: str, with_isthing: bool) -> Iterator[Fault]:
    """Faults of ids, names and ``isthing``.

    Args:
        entries: of ``categories``; None for what isn't an object.
        file: their JSON.
        with_isthing: a panoptic file, where each category must say whether it is a thing.
    """
    if not entries:
        yield fault("json-key", file, "'categories' is empty; without them there is nothing to learn.")
    first_of_id: dict[int, int] = {}
    first_of_name: dict[str, int] = {}
    for number, entry in numbered(entries):
        category_id, name = entry.get("id"), entry.get("name")
        place = f"categories[{number}] ({shown(name)})"
        if not is_whole(category_id):
            yield fault("category-id", file, f"{place} has id={shown(category_id)}.")
        elif first_of_id.setdefault(category_id, number) != number:
            first = first_of_id[category_id]
            yield fault("id-duplicate", file, f"{place} has the id {shown(category_id)} of categories[{first}].")
        yield from _name_faults(name, number, file, first_of_name)
        is_thing = entry.get("isthing")
        if (with_isthing or "isthing" in entry) and not (is_whole(is_thing) and is_thing in (0, 1)):
            found = f"isthing={shown(is_thing)}" if "isthing" in entry else "no isthing"
            yield fault("isthing", file, f"{place} has {found}.")
    yield from _gap_faults(sorted(first_of_id), file)


def _name_faults(name: Any, number: int, file: str, first_of_name: dict[str, int]) -> Iterator[Fault]:
    place = f"categories[{number}]"
    if not isinstance(name, str) or not name.strip():
        yield fault("category-name", file, f"{place} has name={shown(name)}.")
        return
    if not is_text(name):
        yield fault("category-name", file, f"{place} has name={shown(name)}, which isn't text.")
        return
    if first_of_name.setdefault(name, number) != number:
        yield fault("category-name", file, f"{place} has the name {shown(name)} of categories[{first_of_name[name]}].")
        return
    normalised = normalised_name(name)
    if is_quirky(name) and normalised:
        yield fault("category-name-quirk", file, f"{place} is called {shown(name)}; plainly: {shown(normalised)}.")
    alike = first_of_name.setdefault(f"\0{normalised}", number)  # no name that was read starts so
    if alike != number:
        yield fault("category-name-alike", file, f"{place}, {shown(name)}, is called almost as categories[{alike}].")


def _gap_faults(ids: list[int], file: str) -> Iterator[Fault]:
    if not ids:
        return
    missing = ids[-1] - ids[0] + 1 - len(ids)
    if missing:
        spanned = f"from {shown(ids[0])} to {shown(ids[-1])}"
        yield fault("category-gap", file, f"the {len(ids)} category ids {spanned} leave {shown(missing)} out.")
