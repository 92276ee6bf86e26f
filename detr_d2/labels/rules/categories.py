"""A file's ``categories``: one id and one name for each, whether it is a thing, and which names mean the same class.

Names are the same where their normal names are, whatever their capitals, spaces and dashes: ``Dump truck - (10t)`` is
``dump_truck_10t``. Where a list of classes is given and lacks that, what stands in brackets is left out:
:func:`find_name` finds ``dump_truck`` in it.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, TypeGuard, TypeVar

from ..values import as_flag, as_whole, free_ids, is_text, is_whole, numbered, shown
from .rule import Done, Finding, Fix, Place, fixing, setting

#: What labelling programs add to class names: outer spaces, brackets, doubled spaces and dashes.
_QUIRK = re.compile(r"^\s|\s$|[()\[\]{}<>%/\\\"'\x00-\x1f]|[\s_-]{2,}")
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
    """What is known, by normal names, by the name that ``raw`` of a file or model stands for; or None."""
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
    without_digits = [re.sub(r"\d+", "", name) for name in normal]
    published = [[name in found for name in normal] for found in ({*map(normal_name, one)} for one in lists)]
    pairs = []
    for second in range(len(names)):
        matcher = difflib.SequenceMatcher(b=normal[second], autojunk=False)
        for first in range(second):
            if any(is_listed[first] and is_listed[second] for is_listed in published):
                continue
            matcher.set_seq1(normal[first])
            differ_in_letters = without_digits[first] != without_digits[second]  # pump_1 and pump_2 are meant to be two
            if differ_in_letters and matcher.quick_ratio() >= _NEAR <= matcher.ratio():
                pairs.append((names[first], names[second]))
    return pairs


class Categories:
    """The categories of a file, looked at one after another.

    Args:
        entries: of ``categories``; what isn't an object is passed by.
        file: their JSON.
        with_isthing: a panoptic file, where each category must say whether it is a thing.
        is_thing_of: 1 or 0 for names that are known, by their normal names; for fixes.
    """

    def __init__(
        self, entries: list[Any], file: str, with_isthing: bool, is_thing_of: Mapping[str, int] | None = None
    ) -> None:
        self._file, self._with_isthing, self._is_thing_of = file, with_isthing, is_thing_of or {}
        self.is_empty = not entries
        self.entries: list[dict[str, Any]] = []
        #: Id to be written by the id that the file has; several where categories of one name became one.
        self.ids: dict[int | str, int] = {}
        #: Ids that mean several categories: nobody knows what is labelled with them.
        self.unclear: set[int] = set()
        self._first: dict[int, tuple[int, Any]] = {}
        self._first_of_name: dict[str, tuple[int, dict[str, Any]]] = {}
        self._free_ids = free_ids(entry for _, entry in numbered(entries))
        names = [entry.get("name") for _, entry in numbered(entries)]
        self._plain_names = Counter(normal_name(name) for name in set(filter(_is_name, names)))

    @property
    def names(self) -> dict[int, Any]:
        """Names by id."""
        return {entry["id"]: entry.get("name") for entry in self.entries}

    def id_of(self, value: Any) -> int | None:
        """The id to be written for what a label has for its category; None where there is none."""
        if isinstance(value, bool) or not isinstance(value, (int, float, str)):
            return None
        if isinstance(value, str) and value in self.ids:
            return self.ids[value]
        number = as_whole(value)
        return self.ids.get(number) if number is not None else None

    def rules(self, entry: dict[str, Any], number: int) -> Iterator[Finding]:
        """Findings about one category."""
        place = Place(self._file, text=f"categories[{number}] ({shown(entry.get('name'))})")
        if not is_whole(entry.get("id")):
            yield place.found("category-id", f"has id={shown(entry.get('id'))}.", partial(self._numbering, entry))
        if is_whole(entry.get("id")) and entry["id"] in self._first:
            first, name = self._first[entry["id"]]
            message = f"has the id {shown(entry['id'])} of categories[{first}]."
            yield place.found("id-duplicate", message, self._parting(entry, name))
        yield from self._name_rules(entry, number, Place(self._file, text=f"categories[{number}]"))
        is_thing = entry.get("isthing")
        if (self._with_isthing or "isthing" in entry) and not (is_whole(is_thing) and is_thing in (0, 1)):
            found = f"isthing={shown(is_thing)}" if "isthing" in entry else "no isthing"
            yield place.found("isthing", f"has {found}.", partial(self._deciding, entry))

    def add(self, entry: dict[str, Any], number: int) -> None:
        """Keep a category that has been looked at."""
        if is_whole(entry.get("id")) and entry["id"] not in self._first:
            self._first[entry["id"]] = number, entry.get("name")
            self.ids[entry["id"]] = entry["id"]
            self.entries.append(entry)

    def final_rules(self) -> Iterator[Finding]:
        """Findings about all together: none at all, ids that leave some out."""
        if self.is_empty:
            message = "'categories' is empty; without them there is nothing to learn."
            yield Place(self._file).found("json-key", message)
        ids = sorted(self._first)
        missing = ids[-1] - ids[0] + 1 - len(ids) if ids else 0
        if missing:
            spanned = f"from {shown(ids[0])} to {shown(ids[-1])}"
            message = f"the {len(ids)} category ids {spanned} leave {shown(missing)} out."
            yield Place(self._file).found("category-gap", message)

    def _name_rules(self, entry: dict[str, Any], number: int, place: Place) -> Iterator[Finding]:
        name = entry.get("name")
        if not _is_name(name):
            why = ", which isn't text" if isinstance(name, str) and name.strip() else ""
            text = f"class_{entry.get('id')}"
            yield place.found("category-name", f"has name={shown(name)}{why}.", setting(entry, "name", text))
            if not _is_name(name := entry.get("name")):
                return
        first, earlier = self._first_of_name.setdefault(name, (number, entry))
        if first != number:
            message = f"has the name {shown(name)} of categories[{first}]."
            yield place.found("category-name", message, self._joining(entry, earlier))
            return
        plain = normal_name(name)
        if _QUIRK.search(name) and plain:
            fix = setting(entry, "name", plain) if self._plain_names[plain] == 1 else None
            yield place.found("category-name-quirk", f"is called {shown(name)}; plainly: {shown(plain)}.", fix)
        alike, _ = self._first_of_name.setdefault(f"\0{plain}", (number, entry))  # no name that was read starts so
        if alike != number:
            near = Place(self._file, text=f"categories[{number}], {shown(name)},")
            yield near.found("category-name-alike", f"is called almost as categories[{alike}].")

    def _numbering(self, entry: dict[str, Any]) -> Done:
        """Gives a category the id that was meant, or a new one."""
        value = entry.get("id")
        whole = as_whole(value)
        number = next(self._free_ids) if whole is None else whole
        if isinstance(value, str):
            self.ids[value] = number
        return setting(entry, "id", number)()

    def _parting(self, entry: dict[str, Any], name: Any) -> Fix:
        """A category with the id of an earlier one: a repetition, or nobody knows which one labels mean."""
        if entry.get("name") == name:
            return fixing(f"repeats {shown(name)}", action="removed", is_gone=True)
        text = f"the id {entry['id']} means {shown(name)} too; what is labelled with it is left out"
        return fixing(text, partial(self.unclear.add, entry["id"]), "removed", is_gone=True)

    def _joining(self, entry: dict[str, Any], earlier: dict[str, Any]) -> Fix:
        """A category with the name of an earlier one becomes that one."""

        def join() -> None:
            self.ids[entry["id"]] = earlier["id"]
            self._first[entry["id"]] = self._first[earlier["id"]]

        text = f"is one with the category {earlier.get('id')} of the same name, {shown(entry['name'])}"
        return fixing(text, join, is_gone=True)

    def _deciding(self, entry: dict[str, Any]) -> Done:
        """Says whether a category is a thing: as it was meant, as its name is known, or so."""
        flag, why = as_flag(entry.get("isthing")), "as it was meant"
        if flag is None:
            known = find_name(entry["name"], self._is_thing_of)
            flag = 1 if known is None else known
            why = "as the name isn't known: look at it" if known is None else "as the name is known"
        return setting(entry, "isthing", flag, f", {why}")()


def _is_name(value: Any) -> TypeGuard[str]:
    return isinstance(value, str) and bool(value.strip()) and is_text(value)
