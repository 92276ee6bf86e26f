"""Labels that the exports call crowds: CVAT does so with whatever was painted with its brush."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from detr_d2.labels.records import Export, Note

from .classes import ClassTable
from .options import Crowds


@dataclass(frozen=True)
class CrowdRule:
    """Which crowds become objects.

    Args:
        clears_all: every one.
        classes: those of CVAT's exports, of these classes.
    """

    clears_all: bool = False
    classes: frozenset[int] = frozenset()

    def is_crowd(self, said: bool, number: int, is_cvat: bool) -> bool:
        """Whether a label of class ``number`` that the export calls a crowd, or not, stays one."""
        return said and not self.clears_all and not (is_cvat and number in self.classes)


def decide_crowds(exports: Sequence[Export], table: ClassTable, choice: Crowds) -> tuple[CrowdRule, list[Note]]:
    """What to do with crowds, and what there is to say of it.

    ``auto`` makes objects of a class's crowds where CVAT's exports have nothing else of that class.
    """
    if choice != "auto":
        return CrowdRule(clears_all=choice == "clear"), []
    crowds: Counter[int] = Counter()
    objects: Counter[int] = Counter()
    for export in exports:
        if export.is_cvat and export.kind == "coco-instances":
            _count(export, table, crowds, objects)
    cleared = frozenset(number for number in crowds if not objects[number])
    notes = [
        Note("crowd-cleared", _cleared_message(table, number, crowds[number]), class_name=table.classes[number].name)
        for number in sorted(cleared)
    ]
    notes += [
        Note("crowd-kept", _kept_message(table, number, crowds, objects), class_name=table.classes[number].name)
        for number in sorted(set(crowds) - cleared)
    ]
    return CrowdRule(classes=cleared), notes


def _count(export: Export, table: ClassTable, crowds: Counter[int], objects: Counter[int]) -> None:
    for picture in export.pictures:
        for label in picture.labels if isinstance(picture.labels, tuple) else picture.labels():
            number = table.numbers.get(label.class_name, -1)
            if number >= 0:
                (crowds if label.is_crowd else objects)[number] += 1


def _cleared_message(table: ClassTable, number: int, count: int) -> str:
    return (
        f"all {count} labels of {table.classes[number].name} from CVAT are crowds, as its brush writes them; they are "
        "taken as objects (--crowd keep leaves them crowds)."
    )


def _kept_message(table: ClassTable, number: int, crowds: Counter[int], objects: Counter[int]) -> str:
    return (
        f"{crowds[number]} labels of {table.classes[number].name} from CVAT are crowds, {objects[number]} aren't; "
        "crowds aren't trained on. If they were painted with the brush, take --crowd clear."
    )
