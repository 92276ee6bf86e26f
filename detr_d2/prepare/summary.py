"""What went into a dataset, what was dropped and why: the content of ``report.json``."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from detr_d2.data.categories import Category
from detr_d2.labels.records import Export, Note

from .classes import REST, VOID, ClassTable
from .results import PictureResult
from .writing import SPLITS

_EXAMPLES = 10
_NOTE_EXAMPLES = 5
_MOST_SKIPPED = 1000


class _OfClass:
    """Counts of one class."""

    def __init__(self) -> None:
        self.areas = array("q")
        self.places: dict[str, array[int]] = {"image": array("q"), "segment": array("q")}
        self.pictures = dict.fromkeys(SPLITS, 0)
        self.crowds = 0
        self.sources: Counter[str] = Counter()
        self.dropped: Counter[str] = Counter()


class Summary:
    """Counts everything while the pictures pass by; keeps a few bytes for each segment.

    Args:
        table: of the classes.
        exports: with their notes.
    """

    def __init__(self, table: ClassTable, exports: Sequence[Export]) -> None:
        self._table = table
        self._exports = exports
        self._classes = [_OfClass() for _ in table.classes]
        self._left_out: dict[str, Counter[str]] = {}
        self._together = np.zeros((len(table.classes), len(table.classes)), np.int64)
        self._notes: dict[str, dict[str, Any]] = {}
        self._skipped: list[dict[str, str]] = []
        self._counts = {**dict.fromkeys(SPLITS, 0), "skipped": 0, "pixels": 0}
        self.warnings: list[str] = []
        for export in exports:
            for note in export.notes:
                self.add_note(note)
                if note.class_name:
                    self._drop(note.class_name, note.code, 1)

    def add_note(self, note: Note) -> None:
        """Something that was left out or changed."""
        found = self._notes.setdefault(note.code, {"count": 0, "examples": []})
        found["count"] += 1
        if len(found["examples"]) < _NOTE_EXAMPLES:
            told = {
                "file": note.file,
                "picture": note.picture,
                "class_name": note.class_name,
                "label_id": note.label_id,
            }
            found["examples"].append({"message": note.message, **{key: value for key, value in told.items() if value}})

    def note_count(self, code: str) -> int:
        """How many notes of a kind there are."""
        return int(self._notes.get(code, {"count": 0})["count"])

    def add_skipped(self, result: PictureResult) -> None:
        """A picture that is no part of the dataset."""
        self._counts["skipped"] += 1
        self._add_labels(result)
        if len(self._skipped) < _MOST_SKIPPED:
            self._skipped.append({"name": result.name, "reason": result.skipped, "message": result.why})

    def add(self, result: PictureResult, image_id: int, split: str) -> None:
        """A picture of the dataset."""
        self._counts[split] += 1
        self._counts["pixels"] += result.width * result.height
        self._add_labels(result)
        for segment in result.segments:
            counts = self._classes[segment.class_number]
            counts.areas.append(segment.area)
            counts.places["image"].append(image_id)
            counts.places["segment"].append(segment.id)
            counts.crowds += segment.is_crowd
            counts.sources[segment.source] += 1
        shown = sorted({segment.class_number for segment in result.segments})
        for number in shown:
            self._classes[number].pictures[split] += 1
        self._together[np.ix_(shown, shown)] += 1

    def _add_labels(self, result: PictureResult) -> None:
        for dropped in result.dropped:
            self._drop(dropped.class_name, dropped.reason, dropped.count)
        for remark in result.remarks:
            self.add_note(Note(remark.code, remark.message, "", result.name, remark.class_name, remark.label_id))

    def _drop(self, raw: str, reason: str, count: int) -> None:
        number = self._table.numbers.get(raw, REST)
        if number >= 0:
            self._classes[number].dropped[reason] += count
        else:
            self._left_out.setdefault(raw, Counter())[reason] += count

    def used(self) -> list[bool]:
        """For each class whether it has a segment."""
        return [bool(counts.areas) for counts in self._classes]

    def picture_counts(self) -> list[int]:
        """For each class how many pictures show it."""
        return [sum(counts.pictures.values()) for counts in self._classes]

    def wanted_examples(self) -> dict[int, list[tuple[int, int]]]:
        """For each class up to ten segments, spread over all of them: image id and segment id."""
        wanted = {}
        for number, counts in enumerate(self._classes):
            total = len(counts.areas)
            chosen = sorted({int(place) for place in np.linspace(0, total - 1, min(total, _EXAMPLES))}) if total else []
            wanted[number] = [(counts.places["image"][i], counts.places["segment"][i]) for i in chosen]
        return wanted

    def report(
        self,
        options: dict[str, Any],
        categories: Sequence[Category | None],
        pictures: Iterable[tuple[int, PictureResult]],
        seconds: float,
    ) -> dict[str, Any]:
        """Everything, as ``report.json`` has it.

        Args:
            options: what was asked for.
            categories: for each place in the class table what it became, or None.
            pictures: all pictures of the dataset with their image ids.
            seconds: how long it took.
        """
        files = self._files_of_examples(pictures)
        used = [number for number, category in enumerate(categories) if category is not None]
        return {
            "options": options,
            "exports": [_told(export) for export in self._exports],
            "classes": [self._class(number, category, files) for number, category in enumerate(categories)],
            "names": [
                {"from": raw, "to": self._meaning(number), "dropped": dict(self._left_out.get(raw, {}))}
                for raw, number in sorted(self._table.numbers.items())
            ],
            "cooccurrence": {
                "names": [self._table.classes[number].name for number in used],
                "counts": self._together[np.ix_(used, used)].tolist(),
            },
            "pictures": {**self._counts, "skipped": self._skipped, "skipped_count": self._counts["skipped"]},
            "warnings": self.warnings,
            "notes": dict(sorted(self._notes.items())),
            "seconds": round(seconds, 1),
        }

    def _meaning(self, number: int) -> str | None:
        return {REST: None, VOID: "void"}.get(number) if number < 0 else self._table.classes[number].name

    def _files_of_examples(self, pictures: Iterable[tuple[int, PictureResult]]) -> dict[int, tuple[str, str]]:
        wanted = {image_id for chosen in self.wanted_examples().values() for image_id, _ in chosen}
        return {image_id: (result.file_name, result.png) for image_id, result in pictures if image_id in wanted}

    def _class(self, number: int, category: Category | None, files: dict[int, tuple[str, str]]) -> dict[str, Any]:
        counts, said = self._classes[number], self._table.classes[number]
        quantiles = np.quantile(counts.areas, [0, 0.25, 0.5, 0.75, 1]).tolist() if counts.areas else []
        examples = [
            {"file_name": files[image][0], "png": files[image][1], "segment_id": segment, "image_id": image}
            for image, segment in self.wanted_examples()[number]
        ]
        return {
            "name": said.name,
            "is_thing": said.is_thing,
            "id": category.id if category else None,
            "color": list(said.color),
            "matched_from": self._table.matched_from(number),
            "kept": len(counts.areas),
            "crowds": counts.crowds,
            "sources": dict(counts.sources),
            "pictures": counts.pictures,
            "pixels": sum(counts.areas),
            "dropped": dict(sorted(counts.dropped.items())),
            "areas": quantiles,
            "examples": examples,
        }


def _told(export: Export) -> dict[str, Any]:
    return {
        "name": export.name,
        "kind": export.kind,
        "file": str(export.file),
        "pictures": len(export.pictures),
        "notes": len(export.notes),
    }
