"""Rules of a file's ``images`` and of labels on them: one id and one file for each, whose label it is, and crowds."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import partial
from typing import Any

from ..values import as_flag, as_whole, free_ids, is_id, is_whole, numbered, same, shown, size_problem
from .categories import CATEGORY_ID, CATEGORY_UNKNOWN, Categories
from .image_files import Size, resizing
from .json_files import ID_DUPLICATE, ID_TYPE, IMAGE_UNKNOWN
from .names import FileNames
from .rule import RULES, Done, Finding, Fix, Place, fixing, setting

#: What ``images`` has for an id.
ImageId = int | str

IMAGE_UNLABELLED = RULES["image-unlabelled"]


@dataclass(frozen=True)
class ListedImage:
    """An image as the JSON has it.

    Args:
        image_id: its id.
        width, height: in pixels; 0 and 0 where the JSON doesn't say them rightly.
        path: of its file; None where that isn't known.
    """

    image_id: ImageId
    width: int
    height: int
    path: str | None

    @property
    def size(self) -> Size:
        """width, height"""
        return self.width, self.height


def size_rules(entry: dict[str, Any], place: Place, known: Size | None = None) -> Iterator[Finding]:
    """Findings about ``width`` and ``height``.

    Args:
        entry: of ``images``.
        place: of the entry.
        known: the size of the image's file, or of the masks on it; for the fix.
    """
    problem = size_problem(entry)
    if problem:
        yield place.found(RULES[problem[0]], problem[1], resizing(entry, known) if known else None)


class Images:
    """The images of a file, looked at one after another.

    Args:
        file: their JSON.
        names: looks for their files.
        stems: names without ending of the PNGs that belong to an id, of a panoptic file: they say which image of
            several with one id is meant.
    """

    def __init__(self, file: str, names: FileNames, stems: Mapping[ImageId, str] | None = None) -> None:
        self._file, self._names, self._stems = file, names, stems or {}
        self.entries: dict[ImageId, dict[str, Any]] = {}
        self._merged: dict[ImageId, ImageId] = {}
        self._gone: set[ImageId] = set()

    def rules(self, entry: dict[str, Any], number: int) -> Iterator[Finding]:
        """Findings about the id and the name of one entry."""
        place = Place(self._file, text=f"images[{number}]")
        yield from self.id_rules(entry, place)
        if is_id(entry.get("id")) and entry["id"] not in self.entries:
            place = place._replace(image_id=entry["id"])
            yield from self._names.rules(entry, place, lambda other: self._merging(entry, other))

    def id_rules(self, entry: dict[str, Any], place: Place) -> Iterator[Finding]:
        """Findings about the id of one entry."""
        if not is_id(entry.get("id")):
            whole = as_whole(entry.get("id"))
            fix = setting(entry, "id", whole) if whole is not None else None
            yield place._replace(image_id=whole).found(ID_TYPE, f"has id={shown(entry.get('id'))}.", fix)
        if is_id(entry.get("id")) and (entry["id"] in self.entries or entry["id"] in self._gone):
            place = place._replace(image_id=entry["id"])
            yield place.found(ID_DUPLICATE, "has the id of an earlier image.", self._choosing(entry))

    def add(self, entry: dict[str, Any]) -> bool:
        """Keep an entry that has been looked at; False where its id can't be used."""
        if not is_id(entry.get("id")) or entry["id"] in self.entries:
            return False
        self.entries[entry["id"]] = entry
        return True

    @property
    def merged_into(self) -> Set[ImageId]:
        """The images that other entries became one with."""
        return set(self._merged.values())

    def leave_out(self, image_id: Any) -> None:
        """Labels of this id are of an image that is left out."""
        if is_id(image_id) and image_id not in self.entries and image_id not in self._merged:
            self._gone.add(image_id)

    def id_of(self, value: Any) -> ImageId | None:
        """The id to be written for what a label has for its image; None: there is none, or it has been left out."""
        for candidate in _readings(value):
            image_id = self._merged.get(candidate, candidate)
            if image_id in self.entries:
                return image_id
        return None

    def was_left_out(self, value: Any) -> bool:
        """Whether the image of a label was there, and is left out for a fault of its own."""
        return any(candidate in self._gone for candidate in _readings(value))

    def is_listed(self, value: Any) -> bool:
        """Whether a label's image is there by just this id."""
        return is_id(value) and (value in self.entries or value in self._merged)

    def _choosing(self, entry: dict[str, Any]) -> Fix:
        """Of several entries with one id the one that a PNG is named like; else nobody knows whose the labels are."""

        def apply() -> Done:
            image_id, name = entry["id"], entry.get("file_name")
            earlier = self.entries.get(image_id)
            stem = self._stems.get(image_id)
            if earlier is not None and earlier.get("file_name") == name:
                return Done("fixed", f"{shown(name)} was listed before", is_gone=True)
            if earlier is not None and _stem_of(earlier) == stem:
                name = earlier["file_name"]
                return Done("removed", f"the labels of this id are those of {shown(name)}", is_gone=True)
            self.entries.pop(image_id, None)
            if _stem_of(entry) == stem:
                self._gone.discard(image_id)
                return Done("removed", f"the labels of this id are those of {shown(name)}; other images are left out")
            self._gone.add(image_id)
            return Done("removed", "nobody knows whose the labels of this id are; all are left out", is_gone=True)

        return apply

    def _merging(self, entry: dict[str, Any], other: Any) -> Fix:
        """An entry of the same file as that of another id becomes one with it, if both say the same of it."""
        text, earlier = f"{shown(entry['file_name'])} is image id {shown(other)} too", self.entries.get(other, {})
        sizes = [(each.get("width"), each.get("height")) for each in (entry, earlier)]
        if earlier and same(*sizes):
            merge = partial(self._merged.__setitem__, entry["id"], other)
            return fixing(f"{text}; the labels of both are together now", merge, is_gone=True)
        return fixing(f"{text}, otherwise; left out with its labels", action="removed", is_gone=True)


def _stem_of(entry: dict[str, Any]) -> str:
    return os.path.splitext(str(entry.get("file_name")))[0]


def _readings(value: Any) -> Iterator[ImageId]:
    """What an image id may mean: itself first."""
    if is_id(value):
        yield value
    whole = as_whole(value) if not isinstance(value, bool) else None
    if whole is not None:
        yield whole
        yield str(whole)


CROWD_VALUE = RULES["crowd-value"]
CROWD_ONLY = RULES["crowd-only"]
CROWD = RULES["crowd"]


def is_crowd(label: dict[str, Any]) -> bool:
    """Whether it is said to be a crowd, in whatever form."""
    return label.get("iscrowd", 0) in (1, True)


class AnnotationIds:
    """Ids of COCO instances, each of which may come once.

    Args:
        entries: of ``annotations``; what isn't an object is passed by.
    """

    def __init__(self, entries: Sequence[Any]) -> None:
        self._first: dict[int, dict[str, Any]] = {}
        self._free_ids = free_ids(entry for _, entry in numbered(list(entries)))

    def rules(self, label: dict[str, Any], place: Place) -> Iterator[Finding]:
        """Findings about the id of one annotation, which is taken then."""
        value = label.get("id")
        if not is_whole(value):
            whole = as_whole(value)
            is_free = whole is not None and whole not in self._first
            fix = setting(label, "id", whole) if is_free else self._renumbering(label)
            yield place.found(ID_TYPE, f"has id={shown(value)}.", fix)
        if is_whole(label.get("id")) and label["id"] in self._first:
            message = "has the id of an earlier annotation."
            yield place.found(ID_DUPLICATE, message, self._renumbering(label))

    def add(self, label: dict[str, Any], original: dict[str, Any]) -> None:
        """Take the id of an annotation that has been looked at."""
        if is_whole(label.get("id")):
            self._first.setdefault(label["id"], original)

    def _renumbering(self, label: dict[str, Any]) -> Fix:
        def apply() -> Done:
            number = as_whole(label.get("id"))
            if number is not None and number in self._first and same(self._first[number], label):
                return Done("removed", "repeats an earlier annotation", is_gone=True)
            return setting(label, "id", next(self._free_ids))()

        return apply


def image_of_rules(label: dict[str, Any], images: Images, place: Place) -> Iterator[Finding]:
    """Findings about ``image_id``."""
    value = label.get("image_id")
    if not images.is_listed(value):
        meant = images.id_of(value)
        fix = setting(label, "image_id", meant) if meant is not None else None
        yield place.found(IMAGE_UNKNOWN, f"has image_id={shown(value)}, which images lacks.", fix)


def category_of_rules(label: dict[str, Any], categories: Categories, place: Place) -> Iterator[Finding]:
    """Findings about ``category_id``."""
    value = label.get("category_id")
    if categories.unclear and not isinstance(value, bool) and as_whole(value) in categories.unclear:
        yield place.found(ID_DUPLICATE, f"has category_id={shown(value)}, the id of several categories.")
    elif not is_whole(value):
        meant = categories.id_of(value)
        fix = setting(label, "category_id", meant) if meant is not None else None
        yield place.found(CATEGORY_ID, f"has category_id={shown(value)}.", fix)
    elif value not in categories.ids:
        yield place.found(CATEGORY_UNKNOWN, f"has category_id={shown(value)}, which categories lacks.")


def crowd_rules(label: dict[str, Any], place: Place) -> Iterator[Finding]:
    """Findings about ``iscrowd``, and crowds themselves."""
    crowd = label.get("iscrowd", 0)
    if not is_whole(crowd) or crowd not in (0, 1):
        flag = as_flag(crowd)
        fix = setting(label, "iscrowd", int(bool(crowd)) if flag is None else flag)
        yield place.found(CROWD_VALUE, f"has iscrowd={shown(crowd)}.", fix)
    elif crowd:
        yield place.found(CROWD, "is a crowd.")


def crowd_only_rules(labels: Sequence[dict[str, Any]], names: Mapping[int, Any], file: str) -> Iterator[Finding]:
    """Categories of which CVAT wrote crowds only: its brush masks, which every loader drops."""
    of_category = [label for label in labels if is_whole(label.get("category_id"))]
    crowds = Counter(label["category_id"] for label in of_category if is_crowd(label))
    if not crowds or not any(_is_of_cvat(label) for label in labels):
        return
    total = Counter(label["category_id"] for label in of_category)
    for category_id, count in sorted(crowds.items()):
        if count == total[category_id]:
            name = shown(names.get(category_id, category_id))
            message = f"all {count} annotations of the category {name} are crowds: nothing of it would be learnt."
            yield Place(file).found(CROWD_ONLY, message, _clearing(of_category, category_id, name))


def _is_of_cvat(label: dict[str, Any]) -> bool:
    attributes = label.get("attributes")
    return isinstance(attributes, dict) and "occluded" in attributes


def _clearing(labels_: Sequence[dict[str, Any]], category_id: int, name: str) -> Fix:
    brushed = [label for label in labels_ if label["category_id"] == category_id]
    text = f"{len(brushed)} brush masks of {name} aren't crowds any more"
    return fixing(text, lambda: [label.update(iscrowd=0) for label in brushed])


def unlabelled_rules(listed: Collection[Any], labelled: Collection[Any], file: str) -> Iterator[Finding]:
    """One finding for all images without a label; both are ids."""
    without = [image_id for image_id in listed if image_id not in labelled]
    if without:
        named = ", ".join(shown(image_id) for image_id in without[:5]) + (", ..." if len(without) > 5 else "")
        message = f"{len(without)} of {len(listed)} images have no annotation: image id {named}."
        yield Place(file, without[0] if len(without) == 1 else None).found(IMAGE_UNLABELLED, message)
