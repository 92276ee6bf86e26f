"""Rules of right and wrong labels: each declared once, with its severity, what to do about it and what fixes it.

``rules.md`` is the table of them. A function of this package that finds what breaks some of them looks at one thing (a
category, an image, a label) and yields findings, each with the fix of just that. :func:`faults` lists them, a check;
:func:`fix` applies the fixes while the function goes on, which therefore reads anew what it has found wrong. An error
without a fix costs the thing that it is about; a warning without one stays.

A walk goes through many things: :class:`Listing`, :func:`fix_all` and :func:`raise_first` are the ways to take one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Generator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, NamedTuple, TypeVar

from detr_d2.errors import DatasetError, MissingFileError

from ..values import shown

#: ``fixed``: right now; ``removed``: couldn't be fixed, and is left out.
Action = Literal["fixed", "removed"]


@dataclass(frozen=True)
class Rule:
    """A kind of fault: an error where training would stop or go wrong, a warning where it copes.

    ``advice`` is what the user does about it, ``fixed`` what ``--fix`` makes of it.
    """

    code: str
    severity: Literal["error", "warning"]
    advice: str
    fixed: str


def _read_rules() -> dict[str, Rule]:
    text = Path(__file__).with_name("rules.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([a-z-]+)` \| (error|warning) \| (.*) \| (.*) \|$", text, re.MULTILINE)
    return {row[0]: Rule(*row) for row in rows}


#: All rules by their codes, in the order of the documentation.
RULES = _read_rules()


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong, and where.

    Args:
        code, severity: of its rule.
        file: the JSON, image or PNG that has it.
        image_id, segment_id: of the image, and of the annotation or panoptic segment, or None.
        message: what is wrong, with the values found.
        fix: what to do.
    """

    code: str
    severity: Literal["error", "warning"]
    file: str
    image_id: int | str | None
    segment_id: int | str | None
    message: str
    fix: str

    def line(self) -> str:
        """Where and what, in one line."""
        ids = (("image id", self.image_id), ("segment id", self.segment_id))
        named = ", ".join(f"{word} {value}" for word, value in ids if value is not None)
        return f"{self.file}{f' ({named})' if named else ''}: {self.code}: {self.message}"


@dataclass(frozen=True)
class Change:
    """One thing that a fixed copy has otherwise.

    Args:
        action: see :data:`Action`.
        code, file, image_id, segment_id: of the fault in the original.
        done: what was done, and with what.
    """

    action: Action
    code: str
    file: str
    image_id: int | str | None
    segment_id: int | str | None
    done: str


class Done(NamedTuple):
    """What a fix did; ``is_gone``: the thing that was looked at is to be left out."""

    action: Action
    text: str
    is_gone: bool = False


Fix = Callable[[], Done]
Result = TypeVar("Result")


class Place(NamedTuple):
    """Where something is: its file, image and own id; ``text`` names it in a message."""

    file: str
    image_id: Any = None
    segment_id: Any = None
    text: str = ""

    def found(self, code: str, message: str, fix: Fix | None = None) -> Finding:
        """That the rule of this code is broken here."""
        return Finding(RULES[code], self, message, fix)

    def where(self) -> tuple[str, int | str | None, int | str | None]:
        """File, image id and segment id, as far as they are ids."""
        return self.file, _plain_id(self.image_id), _plain_id(self.segment_id)

    def sentence(self, separator: str, text: str) -> str:
        """The place's name and what is said of it."""
        return f"{self.text}{separator}{text}" if self.text else text


class Finding(NamedTuple):
    """A broken rule.

    Args:
        rule: which one.
        place: where.
        message: what is wrong; goes on where the name of the place ends.
        fix: changes what was found, and says how; None where nobody knows what was meant, or a person decides.
    """

    rule: Rule
    place: Place
    message: str
    fix: Fix | None = None

    def fault(self) -> Fault:
        """As a check lists it."""
        rule, place = self.rule, self.place
        return Fault(rule.code, rule.severity, *place.where(), place.sentence(" ", self.message), rule.advice)

    def change(self, done: Done) -> Change:
        """As a list of changes has it."""
        return Change(done.action, self.rule.code, *self.place.where(), self.place.sentence(": ", done.text))


class BrokenRuleError(DatasetError):
    """Labels or an image that can't be used; ``code`` is that of the rule, as far as another process has said it."""

    def __init__(self, message: str, code: str = "labels-broken") -> None:
        super().__init__(message)
        self.code = code


def raise_errors(findings: Iterable[Finding], tolerated: Container[str] = ()) -> None:
    """Raise the first error, but for rules of the ``tolerated`` codes.

    Raises:
        BrokenRuleError: there is one.
        MissingFileError: it is that a file is missing.
    """
    for finding in findings:
        if finding.rule.severity == "error" and finding.rule.code not in tolerated:
            fault = finding.fault()
            message = f"{fault.line()} Fix: {fault.fix}."
            if fault.code.endswith("-missing"):
                raise MissingFileError(message)
            raise BrokenRuleError(message, fault.code)


def faults(findings: Iterable[Finding]) -> Iterator[Fault]:
    """What is wrong; nothing is changed."""
    return (finding.fault() for finding in findings)


def fix(findings: Iterable[Finding], changes_: list[Change]) -> bool:
    """Apply the fixes of what is found about one thing; False where that has to be left out."""
    for finding in findings:
        if finding.fix is not None:
            done = finding.fix()
        elif finding.rule.severity == "error":
            done = Done("removed", finding.message.rstrip("."), is_gone=True)
        else:
            continue
        changes_.append(finding.change(done))
        if done.is_gone:
            return False
    return True


#: A way through things, one after another: yields the findings about each, and is sent whether it stays.
Walk = Generator[Iterable[Finding], bool, Result]


class Listing(Generic[Result]):
    """The faults that a walk finds, while it goes on as if there were none; its ``result`` is there after the last."""

    result: Result

    def __init__(self, walk: Walk[Result]) -> None:
        self._walk = walk

    def __iter__(self) -> Iterator[Fault]:
        try:
            findings = next(self._walk)
            while True:
                yield from faults(findings)
                findings = self._walk.send(True)
        except StopIteration as stop:
            self.result = stop.value


def drive(walk: Walk[Result], keeps: Callable[[Iterable[Finding]], bool]) -> Result:
    """Goes through a walk, asks by the findings about each thing whether it stays, and returns what is made of all."""
    try:
        findings = next(walk)
        while True:
            findings = walk.send(keeps(findings))
    except StopIteration as stop:
        result: Result = stop.value
        return result


def raise_first(walk: Walk[Result], tolerated: Container[str] = ()) -> Result:
    """What a walk makes of things that are right; raises the first error, as :func:`raise_errors` does."""

    def keeps(findings: Iterable[Finding]) -> bool:
        raise_errors(findings, tolerated)
        return True

    return drive(walk, keeps)


def fix_all(walk: Walk[Result], changes_: list[Change]) -> Result:
    """Apply the fixes of what a walk finds, and return what it makes of it."""
    return drive(walk, lambda findings: fix(findings, changes_))


def fixing(text: str, apply: Callable[[], object] = bool, action: Action = "fixed", is_gone: bool = False) -> Fix:
    """A fix that calls ``apply``, and says what that did; see :class:`Done`."""

    def fix() -> Done:
        apply()
        return Done(action, text, is_gone)

    return fix


def setting(entry_: dict[str, Any], key: str, value: Any, why: str = "") -> Fix:
    """A fix that gives a key another value; ``why`` is put behind what it says."""

    def apply() -> Done:
        text = f"{key} {shown(entry_.get(key))} is {shown(value)} now{why}"
        entry_[key] = value
        return Done("fixed", text)

    return apply


def dropping(entry_: dict[str, Any], key: str, why: str) -> Fix:
    """A fix that takes a key away; what has it stays."""
    return lambda: Done("removed", f"{key} {shown(entry_.pop(key))} is left out: {why}")


def _plain_id(value: Any) -> int | str | None:
    """The id, or None for what is neither a whole number nor a word."""
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        return None
    return value if isinstance(value, int) and abs(value) < 10**40 else shown(value).strip("'\"")
