"""What labels become, the same for all images, and which crowds are objects."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from detr_d2.labels.records import Export, Note

from .classes import ClassTable
from .options import Crowds, Overlap


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


@dataclass(frozen=True)
class LabelRules:
    """What labels become.

    Args:
        table: of the classes.
        crowds: which crowds become objects.
        overlap: who gets a pixel that several labels claim.
        min_area: segments of fewer pixels become void.
        fills_holes: holes that are written as polygons belong to their objects.
    """

    table: ClassTable
    crowds: CrowdRule
    overlap: Overlap
    min_area: int
    fills_holes: bool = False


def decide_crowds(exports: Sequence[Export], table: ClassTable, choice: Crowds) -> tuple[CrowdRule, list[Note]]:
    """What to do with crowds, which CVAT makes of whatever was painted with its brush, and what there is to say of it.

    ``auto`` makes objects of a class's crowds where CVAT's exports have nothing else of that class.
    """
    if choice != "auto":
        return CrowdRule(clears_all=choice == "clear"), []
    crowds, objects = _counts(exports, table)
    cleared = frozenset(number for number in crowds if not objects[number])
    notes = []
    for number in [*sorted(cleared), *sorted(set(crowds) - cleared)]:
        name = table.classes[number].name
        if number in cleared:
            message = (
                f"all {crowds[number]} labels of {name} from CVAT are crowds, as its brush writes them; they are taken "
                "as objects (--crowd keep leaves them crowds)."
            )
        else:
            message = (
                f"{crowds[number]} labels of {name} from CVAT are crowds, {objects[number]} aren't; crowds aren't "
                "trained on. If they were painted with the brush, take --crowd clear."
            )
        notes.append(Note("crowd-cleared" if number in cleared else "crowd-kept", message, class_name=name))
    return CrowdRule(classes=cleared), notes


def _counts(exports: Sequence[Export], table: ClassTable) -> tuple[Counter[int], Counter[int]]:
    """How many crowds and how many objects of each class CVAT's exports have that may have been painted."""
    crowds: Counter[int] = Counter()
    objects: Counter[int] = Counter()
    painted = (export for export in exports if export.is_cvat and export.kind == "coco-instances")
    for label in (label for export in painted for record in export.images for label in record.read_labels()):
        number = table.numbers.get(label.class_name, -1)
        if number >= 0:
            (crowds if label.is_crowd else objects)[number] += 1
    return crowds, objects
