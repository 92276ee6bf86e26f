"""What the classes of a model, of masks or of COCO are called in the dataset that is being made."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

from detr_d2.data.categories import coco_categories
from detr_d2.labels.records import ClassRecord

from ..class_names import normal_name
from .settings import ForeignThings, StuffClasses
from .super_categories import MISC, coco_stuff, super_categories, super_category_of


@dataclass(frozen=True)
class ClassMapping:
    """COCO's stuff as super-categories or as it is; things as ``misc`` or void; names that COCO lacks stay.

    Args:
        classes: ``super`` or ``coco``.
        things: ``misc`` or ``void``.
    """

    classes: StuffClasses = "super"
    things: ForeignThings = "misc"

    def name_of(self, name: str, is_thing: bool | None = None) -> str:
        """A class's name in the dataset, or an empty one for void.

        Args:
            name: as the model or the file has it; upper case, ``_`` and spaces don't count.
            is_thing: None where nobody says; then COCO's things are things and all else is stuff.
        """
        coco = _coco_names().get(normal_name(name))
        if is_thing is None:
            is_thing = coco is not None and coco[1]
        if is_thing:
            return MISC if self.things == "misc" else ""
        if coco is None or coco[1]:
            return name
        return super_category_of()[coco[0]] if self.classes == "super" else coco[0]

    def records(self, names: Iterable[str] = ()) -> tuple[ClassRecord, ...]:
        """The stuff classes that may come out: the usual ones, and those of ``names`` that COCO lacks.

        Args:
            names: all classes of stuff that the model or the files know.
        """
        usual = super_categories() if self.classes == "super" else coco_stuff()
        records = {category.name: ClassRecord(category.name, False, category.color) for category in usual}
        for name in names:
            found = self.name_of(name, False)
            records.setdefault(found, ClassRecord(found, False))
        return tuple(records.values())


@cache
def _coco_names() -> dict[str, tuple[str, bool]]:
    """COCO's own spelling of a name, and whether it is a thing, by the normalised name."""
    return {normal_name(category.name): (category.name, category.is_thing) for category in coco_categories()}
