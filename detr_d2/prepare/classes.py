"""What labels become: which class of the dataset each class of the exports is, and which crowds are objects."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

from detr_d2.data.categories import Category, coco_categories, construction_categories, distinct_colors
from detr_d2.data.coco_json import read_categories
from detr_d2.errors import DatasetError, MissingFileError, UserError
from detr_d2.files import SpecialFileError, open_regular
from detr_d2.labels.records import ClassRecord, Export, Note
from detr_d2.labels.rules.categories import find_name, near_names, normal_name, spelling
from detr_d2.labels.rules.json_files import objects_of, parse_json
from detr_d2.labels.values import color_of, is_text, numbered
from detr_d2.plain_yaml import read_yaml

from .options import Crowds, Overlap

logger = logging.getLogger(__name__)

#: What a label's class may be instead of a number: not labelled at all, or void.
REST, VOID = -1, -2
#: What becomes of a raw name: a class, or one of the above.
Meaning: TypeAlias = ClassRecord | int


@dataclass(frozen=True)
class ClassTable:
    """The classes of the dataset, and what becomes of the exports' class names.

    Args:
        classes: in the order of their ids. Those of ``auto`` are numbered anew once it is known which are used.
        numbers: for each raw name, also of stuff policies, the index in ``classes``, :data:`REST` or :data:`VOID`.
        is_fixed: the list was given; classes without a segment stay in it.
    """

    classes: tuple[Category, ...]
    numbers: dict[str, int]
    is_fixed: bool = True

    def matched_from(self, number: int) -> list[str]:
        """The raw names that became a class, sorted."""
        return sorted(raw for raw, found in self.numbers.items() if found == number)


def build_class_table(
    exports: Sequence[Export], stuff: Sequence[ClassRecord], categories: str = "auto", classes: Path | None = None
) -> ClassTable:
    """Match all class names.

    Args:
        exports: whose classes are matched.
        stuff: classes of the policy for what people didn't label.
        categories: ``auto``, ``construction``, ``coco``, or a file that lists them.
        classes: a yaml with a line ``raw name: class`` for names to be matched otherwise; ``null`` is what nobody
            labelled, ``void`` is void.

    Raises:
        DatasetError: names that are unknown, with the nearest ones, or no text; classes that are things here and stuff
            there; a file that isn't understood.
        MissingFileError: a file isn't there.
    """
    rules = _read_rules(classes) if classes else {}
    records = [*stuff, *(record for export in exports for record in export.classes)]
    _refuse_unwritable_names(
        {record.name: "--stuff" for record in stuff}
        | {record.name: str(export.file) for export in exports for record in export.classes}
        | {rule.name: str(classes) for rule in rules.values() if isinstance(rule, ClassRecord)}
    )
    _warn_of_unused(rules, records, classes)
    wanted: list[tuple[str, Meaning]] = []
    for record in records:
        rule = rules.get(record.name, rules.get(normal_name(record.name), record))
        if isinstance(rule, ClassRecord):
            is_thing = record.is_thing if rule.is_thing is None else rule.is_thing
            rule = replace(rule, is_thing=is_thing, color=rule.color or record.color)
        wanted.append((record.name, rule))
    if categories == "auto":
        return _found_table(wanted)
    known = read_known(categories)
    _refuse_unwritable_names({category.name: categories for category in known})
    return _known_table(wanted, known, categories)


def _refuse_unwritable_names(origins: Mapping[str, str]) -> None:
    """Raises a DatasetError that lists all class names, each with where it is from, that can't stand in a JSON."""
    shown = [f"{name!r} of {origin}" for name, origin in origins.items() if not is_text(name)]
    if shown:
        raise DatasetError(
            f"names of classes have to be text in UTF-8, and these aren't: {', '.join(shown)}. Rename them there."
        )


def _warn_of_unused(rules: Mapping[str, Meaning], records: Sequence[ClassRecord], classes: Path | None) -> None:
    """A line that no name of the exports matches may be a slip of the pen."""
    known = {normal_name(record.name) for record in records}
    unused: dict[str, str] = {}
    for raw in rules:
        unused.setdefault(normal_name(raw), raw)
    for raw in (raw for normal, raw in unused.items() if normal not in known):
        near = near_names(raw, [record.name for record in records])
        hint = f"; near are {', '.join(near)}" if near else ""
        logger.warning("%s has a line for %r, which no export has%s.", classes, raw, hint)


def read_known(categories: str) -> tuple[Category, ...]:
    """The categories of ``construction``, ``coco``, a yaml or a COCO JSON; raises as :func:`build_class_table`."""
    if categories in ("construction", "coco"):
        return construction_categories() if categories == "construction" else coco_categories()
    path = Path(categories).expanduser()
    content = _load(path, "--categories", "auto, construction, coco, or the path of a yaml or JSON")
    if isinstance(content, list):
        content = {"categories": content}
    if not isinstance(content, dict):
        raise DatasetError(f"{path} lists no categories; write '- {{id: 1, name: wall, isthing: 0}}' and so on.")
    says_things = any("isthing" in one for _, one in numbered(objects_of(content, "categories")))
    return tuple(read_categories(content, str(path), all_things=not says_things))


def _known_table(wanted: Sequence[tuple[str, Meaning]], known: tuple[Category, ...], where: str) -> ClassTable:
    names = {normal_name(category.name): category.name for category in known}
    indices = {category.name: index for index, category in enumerate(known)}
    numbers: dict[str, int] = {}
    lines: list[str] = []
    for raw, meaning in wanted:
        if isinstance(meaning, int):
            numbers[raw] = meaning
        elif name := find_name(meaning.name, names):
            numbers[raw] = indices[name]
        elif raw not in numbers:
            numbers[raw] = REST
            near = near_names(meaning.name, list(indices))
            shown = repr(raw) if meaning.name == raw else f"{raw!r}, which --classes makes {meaning.name!r}"
            lines.append(f"  {shown}: " + (f"near are {', '.join(near)}" if near else "nothing is near"))
    if lines:
        names_are = "class name of the exports isn't" if len(lines) == 1 else "class names of the exports aren't"
        raise DatasetError(
            f"{len(lines)} {names_are} among those of --categories {where}:\n" + "\n".join(lines) + "\nWrite a yaml "
            "with a line 'raw name: class' for each ('null' leaves its labels out, 'void' makes them void) and give "
            "it by --classes; or take --categories auto."
        )
    return ClassTable(known, numbers)


def _found_table(wanted: Sequence[tuple[str, Meaning]]) -> ClassTable:
    """The classes that occur, stuff first, each in the order of appearance."""
    numbers: dict[str, int] = {}
    spelled: dict[str, list[tuple[str, ClassRecord]]] = {}
    for raw, meaning in wanted:
        if isinstance(meaning, int):
            numbers[raw] = meaning
        else:
            spelled.setdefault(normal_name(meaning.name) or meaning.name, []).append((raw, meaning))
    ordered = sorted(spelled, key=lambda normal: _is_thing(spelled[normal]))
    colors = _colors({normal: [record for _, record in spelled[normal]] for normal in ordered})
    classes = []
    for number, normal in enumerate(ordered):
        found = spelled[normal]
        name = spelling([record.name for _, record in found])
        classes.append(Category(number + 1, name, _is_thing(found), colors[normal]))
        numbers.update((raw, number) for raw, _ in found)
    return ClassTable(tuple(classes), numbers, is_fixed=False)


def _is_thing(found: Sequence[tuple[str, ClassRecord]]) -> bool:
    """What the exports say of a class; where none of them does, it is a thing."""
    said = {record.is_thing for _, record in found} - {None}
    if len(said) == 2:
        raise DatasetError(
            f"the class {found[0][0]!r} is a thing in one place and stuff in another (exports, --stuff); "
            "rename one of them with --classes."
        )
    return said != {False}


def _colors(records: Mapping[str, Sequence[ClassRecord]]) -> dict[str, tuple[int, int, int]]:
    """A colour of its own for each class: the exports', or the usual one of that name, or one unlike the others."""
    usual = {normal_name(c.name): c.color for c in (*coco_categories(), *construction_categories())}
    colors: dict[str, tuple[int, int, int]] = {}
    for normal, found in records.items():
        color = next((record.color for record in found if record.color), usual.get(normal))
        if color and color != (0, 0, 0) and color not in colors.values():
            colors[normal] = color
    free = iter([color for color in distinct_colors(min(2 * len(records), 1000)) if color not in colors.values()])
    return {normal: colors.get(normal) or next(free, (128, 128, 128)) for normal in records}


def _read_rules(path: Path) -> dict[str, Meaning]:
    content = _load(path, "--classes", "a yaml with a line 'raw name: class' for each")
    if not isinstance(content, dict):
        raise DatasetError(f"{path} has no lines 'raw name: class'; write one for each name.")
    rules: dict[str, Meaning] = {}
    for raw, value in content.items():
        rules[str(raw)] = meaning = _meaning(value, f"{path}: {raw}")
        rules.setdefault(normal_name(str(raw)), meaning)
    return rules


def _meaning(value: Any, prefix: str) -> Meaning:
    """What a line of ``--classes`` makes of its name."""
    if value is None or value == "void":
        return REST if value is None else VOID
    if isinstance(value, str):
        return ClassRecord(value)
    if isinstance(value, dict) and isinstance(value.get("name"), str) and set(value) <= {"name", "isthing", "color"}:
        color, is_thing = value.get("color"), value.get("isthing")
        if is_thing not in (None, 0, 1):
            raise DatasetError(f"{prefix} has isthing={is_thing!r}; allowed are 0 (stuff) and 1 (thing).")
        if color is not None and color_of(color) is None:
            raise DatasetError(f"{prefix} has color={color!r}; write [red, green, blue], each 0 to 255.")
        return ClassRecord(value["name"], None if is_thing is None else bool(is_thing), color_of(color))
    raise DatasetError(
        f"{prefix}: {value!r} is no class; write its name, null, void, or {{name: wall, isthing: 0}} (and color)."
    )


def _load(path: Path, option: str, allowed: str) -> Any:
    try:
        if path.suffix.lower() == ".json":
            with open_regular(path) as file:
                return parse_json(file)
        return read_yaml(path)
    except FileNotFoundError as error:
        raise MissingFileError(f"{option}: {path} isn't there. Give {allowed}.") from error
    except SpecialFileError as error:
        raise DatasetError(f"{option}: {error}") from error
    except (UserError, OSError, ValueError, RecursionError) as error:
        raise DatasetError(f"{option}: {path} can't be read: {error}") from error


@dataclass(frozen=True)
class CrowdRule:
    """Which crowds become objects: all, or those of CVAT's exports of some classes."""

    clears_all: bool = False
    classes: frozenset[int] = frozenset()

    def is_crowd(self, said: bool, number: int, is_cvat: bool) -> bool:
        """Whether a label of class ``number`` that the export calls a crowd, or not, stays one."""
        return said and not self.clears_all and not (is_cvat and number in self.classes)


@dataclass(frozen=True)
class LabelRules:
    """What labels become.

    Args:
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
    crowds: Counter[int] = Counter()
    objects: Counter[int] = Counter()
    painted = (export for export in exports if export.is_cvat and export.kind == "coco-instances")
    for label in (label for export in painted for record in export.images for label in record.read_labels()):
        number = table.numbers.get(label.class_name, REST)
        if number >= 0:
            (crowds if label.is_crowd else objects)[number] += 1
    cleared, kept = [], []
    for number, count in sorted(crowds.items()):
        name = table.classes[number].name
        if objects[number]:
            message = (
                f"{count} labels of {name} from CVAT are crowds, {objects[number]} aren't; crowds aren't "
                "trained on. If they were painted with the brush, take --crowd clear."
            )
            kept.append(Note("crowd-kept", message, class_name=name))
        else:
            message = (
                f"all {count} labels of {name} from CVAT are crowds, as its brush writes them; they are taken "
                "as objects (--crowd keep leaves them crowds)."
            )
            cleared.append(Note("crowd-cleared", message, class_name=name))
    return CrowdRule(classes=frozenset(number for number in crowds if not objects[number])), cleared + kept
