"""What went into a dataset, what was dropped and why: the content of ``report.json``."""

from __future__ import annotations

from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from detr_d2.data.categories import Category
from detr_d2.labels.records import Export, Note

from .classes import REST, ClassTable
from .journal import ImageResult
from .split import SPLITS

_EXAMPLES = 10
_NOTE_EXAMPLES = 5
_MOST_SKIPPED = 1000


class _ClassCounts:
    """Counts of one class; of each segment its area, its image's id and its own."""

    def __init__(self) -> None:
        self.areas, self.image_ids, self.segment_ids = array("q"), array("q"), array("q")
        self.images = dict.fromkeys(SPLITS, 0)
        self.crowds = 0
        self.sources: Counter[str] = Counter()

    def examples(self) -> list[tuple[int, int]]:
        """Up to ten segments, spread over all of them: image id and segment id."""
        total = len(self.areas)
        chosen = sorted({int(index) for index in np.linspace(0, total - 1, min(total, _EXAMPLES))}) if total else []
        return [(self.image_ids[index], self.segment_ids[index]) for index in chosen]


class Summary:
    """Counts everything while the images pass by; keeps a few bytes for each segment."""

    def __init__(self, table: ClassTable, exports: Sequence[Export]) -> None:
        self.table, self._exports = table, exports
        self._classes = [_ClassCounts() for _ in table.classes]
        #: Reasons by the number of a class, or by the raw name of one that is left out.
        self._dropped: defaultdict[int | str, Counter[str]] = defaultdict(Counter)
        self._together = np.zeros((len(table.classes), len(table.classes)), np.int64)
        self._notes: dict[str, dict[str, Any]] = {}
        self._skipped: list[dict[str, str]] = []
        self._counts = {**dict.fromkeys(SPLITS, 0), "skipped": 0, "pixels": 0}
        self.warnings: list[str] = []
        for note in (note for export in exports for note in export.notes):
            self.add_note(note)
            if note.is_lost:
                self._drop(note.class_name, note.code)

    def add_note(self, note: Note) -> None:
        """Something that was left out or changed."""
        found = self._notes.setdefault(note.code, {"count": 0, "examples": []})
        found["count"] += 1
        if len(found["examples"]) < _NOTE_EXAMPLES:
            about = {"file": note.file, "image": note.image, "class_name": note.class_name, "label_id": note.label_id}
            found["examples"].append({"message": note.message, **{key: value for key, value in about.items() if value}})

    def note_count(self, code: str) -> int:
        """How many notes of a kind there are."""
        return int(self._notes.get(code, {"count": 0})["count"])

    def add_skipped(self, result: ImageResult) -> None:
        """An image that is no part of the dataset."""
        self._counts["skipped"] += 1
        self._add_labels(result)
        if len(self._skipped) < _MOST_SKIPPED:
            self._skipped.append({"name": result.name, "reason": result.skipped, "message": result.why})

    def add(self, result: ImageResult, image_id: int, split: str) -> None:
        """An image of the dataset."""
        self._counts[split] += 1
        self._counts["pixels"] += result.width * result.height
        self._add_labels(result)
        for segment in result.segments:
            counts = self._classes[segment.class_number]
            counts.areas.append(segment.area)
            counts.image_ids.append(image_id)
            counts.segment_ids.append(segment.id)
            counts.crowds += segment.is_crowd
            counts.sources[segment.source] += 1
        shown = sorted({segment.class_number for segment in result.segments})
        for number in shown:
            self._classes[number].images[split] += 1
        self._together[np.ix_(shown, shown)] += 1

    def _add_labels(self, result: ImageResult) -> None:
        for class_name, reason in result.dropped:
            self._drop(class_name, reason)
        for note in result.notes:
            self.add_note(note)

    def _drop(self, raw: str, reason: str) -> None:
        number = self.table.numbers.get(raw, REST)
        self._dropped[number if number >= 0 else raw][reason] += 1

    def used(self) -> list[bool]:
        """For each class whether it has a segment."""
        return [bool(counts.areas) for counts in self._classes]

    def image_counts(self) -> list[int]:
        """For each class how many images show it."""
        return [sum(counts.images.values()) for counts in self._classes]

    def report(
        self,
        options: dict[str, Any],
        categories: Sequence[Category | None],
        images: Iterable[tuple[int, ImageResult]],
        seconds: float,
    ) -> dict[str, Any]:
        """Everything, as ``report.json`` has it.

        Args:
            options: what was asked for.
            categories: for each index in the class table what it became, or None.
            images: all images of the dataset with their ids.
            seconds: how long it took.
        """
        wanted = {image_id for counts in self._classes for image_id, _ in counts.examples()}
        files = {image_id: (result.file_name, result.png) for image_id, result in images if image_id in wanted}
        used = [number for number, category in enumerate(categories) if category is not None]
        return {
            "options": options,
            "exports": [
                {
                    "name": export.name,
                    "kind": export.kind,
                    "file": str(export.file),
                    "images": len(export.images),
                    "notes": len(export.notes),
                }
                for export in self._exports
            ],
            "classes": [self._class(number, category, files) for number, category in enumerate(categories)],
            "names": [self._name(raw, number) for raw, number in sorted(self.table.numbers.items())],
            "cooccurrence": {
                "names": [self.table.classes[number].name for number in used],
                "counts": self._together[np.ix_(used, used)].tolist(),
            },
            "images": {**self._counts, "skipped": self._skipped, "skipped_count": self._counts["skipped"]},
            "warnings": self.warnings,
            "notes": dict(sorted(self._notes.items())),
            "seconds": round(seconds, 1),
        }

    def _name(self, raw: str, number: int) -> dict[str, Any]:
        """What became of a raw name."""
        meaning = self.table.classes[number].name if number >= 0 else None if number == REST else "void"
        return {"from": raw, "to": meaning, "dropped": dict(self._dropped.get(raw, {}))}

    def _class(self, number: int, category: Category | None, files: dict[int, tuple[str, str]]) -> dict[str, Any]:
        counts, listed = self._classes[number], self.table.classes[number]
        examples = [
            {"file_name": files[image_id][0], "png": files[image_id][1], "segment_id": segment, "image_id": image_id}
            for image_id, segment in counts.examples()
        ]
        return {
            "name": listed.name,
            "is_thing": listed.is_thing,
            "id": category.id if category else None,
            "color": list(listed.color),
            "matched_from": self.table.matched_from(number),
            "kept": len(counts.areas),
            "crowds": counts.crowds,
            "sources": dict(counts.sources),
            "images": counts.images,
            "pixels": sum(counts.areas),
            "dropped": dict(sorted(self._dropped.get(number, {}).items())),
            "areas": np.quantile(counts.areas, [0, 0.25, 0.5, 0.75, 1]).tolist() if counts.areas else [],
            "examples": examples,
        }
