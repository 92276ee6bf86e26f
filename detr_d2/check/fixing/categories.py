"""Mending ``categories``: one id and one name for each, and things told from stuff."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from detr_d2.data.categories import coco_categories, construction_categories
from detr_d2.labels.similar_names import is_text

from ..categories import is_quirky, normalised_name
from ..faults import shown
from ..values import is_whole, numbered
from .changes import Change, mended, removed
from .values import as_flag, as_whole, shallow


@dataclass
class MendedCategories:
    """Categories of the copy.

    Args:
        entries: for its ``categories``.
        ids: of the copy, by what the original has for an id.
        unclear: ids that mean several categories: nobody knows what is labelled with them.
    """

    entries: list[dict[str, Any]] = field(default_factory=list)
    ids: dict[int | str, int] = field(default_factory=dict)
    unclear: set[int] = field(default_factory=set)

    def id_of(self, value: Any) -> int | None:
        """The id in the copy of what a label has for its category; None where there is none."""
        if isinstance(value, bool) or not isinstance(value, (int, float, str)):
            return None
        if isinstance(value, str) and value in self.ids:
            return self.ids[value]
        number = as_whole(value)
        return self.ids.get(number) if number is not None else None

    def is_unclear(self, value: Any) -> bool:
        """Whether the id of a label stands for several categories."""
        return not isinstance(value, bool) and as_whole(value) in self.unclear


def mend_categories(entries: list[Any], file: str, with_isthing: bool, changes_: list[Change]) -> MendedCategories:
    """Categories that have no error left.

    Args:
        entries: of ``categories``; None for what isn't an object.
        file: their JSON.
        with_isthing: each must say whether it is a thing.
        changes_: gets what was changed.
    """
    found = MendedCategories()
    free_ids = _free_ids(entries)
    by_id: dict[int, dict[str, Any]] = {}
    by_name: dict[str, dict[str, Any]] = {}
    for number, original in numbered(entries):
        entry, place = shallow(original), f"categories[{number}]"
        category_id = as_whole(entry.get("id"))
        known = by_id.get(category_id) if category_id is not None else None
        if known is not None:
            changes_.append(_id_again(known, entry, place, file, found))
            continue
        if not is_whole(entry.get("id")):
            category_id = next(free_ids) if category_id is None else category_id
            changes_.append(mended("category-id", file, f"{place}: id {shown(entry.get('id'))} is {category_id} now"))
        assert category_id is not None
        if isinstance(original.get("id"), str):
            found.ids[original["id"]] = category_id
        entry["id"] = category_id
        changes_ += _name_mended(entry, place, file)
        first = by_name.get(entry["name"])
        if first is not None:
            found.ids[category_id] = first["id"]
            by_id[category_id] = entry
            done = f"{place} is one with the category {first['id']} of the same name, {shown(entry['name'])}"
            changes_.append(mended("category-name", file, done))
            continue
        if with_isthing or "isthing" in entry:
            changes_ += _isthing_mended(entry, place, file)
        by_id[category_id] = by_name[entry["name"]] = entry
        found.ids[category_id] = category_id
        found.entries.append(entry)
    changes_ += _quirks_mended(found.entries, file)
    return found


def _free_ids(entries: list[Any]) -> Iterator[int]:
    """Ids beyond all that are used, for categories that have none."""
    used = [number for _, entry in numbered(entries) if (number := as_whole(entry.get("id"))) is not None]
    number = max(used, default=0)
    while True:
        number += 1
        yield number


def _id_again(known: dict[str, Any], entry: dict[str, Any], place: str, file: str, found_: MendedCategories) -> Change:
    """A category with the id of an earlier one: a repetition, or nobody knows which one labels mean."""
    names = shown(known["name"]), shown(entry.get("name"))
    if entry.get("name") == known["name"]:
        return removed("id-duplicate", file, f"{place} repeats {names[0]}")
    found_.unclear.add(known["id"])
    done = f"{place}: the id {known['id']} means {names[0]} and {names[1]}; what is labelled with it is left out"
    return removed("id-duplicate", file, done)


def _name_mended(entry_: dict[str, Any], place: str, file: str) -> Iterator[Change]:
    name = entry_.get("name")
    if not isinstance(name, str) or not name.strip() or not is_text(name):
        entry_["name"] = f"class_{entry_['id']}"
        yield mended("category-name", file, f"{place} had the name {shown(name)}: {entry_['name']}; write a better one")


def _isthing_mended(entry_: dict[str, Any], place: str, file: str) -> Iterator[Change]:
    value = entry_.get("isthing")
    if is_whole(value) and value in (0, 1):
        return
    flag, why = as_flag(value), "as it was meant"
    if flag is None:
        known = _known_names().get(normalised_name(entry_["name"]))
        flag, why = (known, "as the name is known") if known is not None else (1, "as the name isn't known: look at it")
    entry_["isthing"] = flag
    said = f"isthing={shown(value)}" if value is not None else "no isthing"
    yield mended("isthing", file, f"{place} ({shown(entry_['name'])}) had {said}: {flag}, {why}")


def _quirks_mended(entries_: list[dict[str, Any]], file: str) -> Iterator[Change]:
    """Names without what stands in the way, where that makes no two of them the same."""
    plain_names = [normalised_name(entry["name"]) for entry in entries_]
    for entry, plain_name in zip(entries_, plain_names):
        if is_quirky(entry["name"]) and plain_name and plain_names.count(plain_name) == 1:
            yield mended("category-name-quirk", file, f"{shown(entry['name'])} is called {shown(plain_name)} now")
            entry["name"] = plain_name


@cache
def _known_names() -> dict[str, int]:
    """Whether the categories of COCO and of construction are things, by their plain names."""
    known = (*coco_categories(), *construction_categories())
    return {normalised_name(category.name): int(category.is_thing) for category in known}
