"""All rules by their codes, and as a table for docs/data.md, which ``python -m detr_d2.labels.rules.table`` prints."""

from __future__ import annotations

from . import masks, objects, splits  # noqa: F401
from .rule import SECTIONS, Rule

RULES: dict[str, Rule] = {rule.code: rule for section in SECTIONS for rule in section.rules}


def markdown_table() -> str:
    """A table for each section of rules."""
    lines: list[str] = []
    for section in SECTIONS:
        lines += [f"### {section.title}", "", "| fault | severity | what to do | with `--fix` |", "|---|---|---|---|"]
        lines += [f"| `{rule.code}` | {rule.severity} | {rule.advice} | {rule.fixed} |" for rule in section.rules]
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    print(markdown_table(), end="")
