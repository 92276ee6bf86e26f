"""What is right and wrong with labels: every rule of the project, in the order of the documentation.

``RULES`` has them all by their codes. A rule is declared in the module that finds and fixes what breaks it.
"""

from __future__ import annotations

from . import boxes, categories, ids, images, json_files, labels, masks, names, objects, pngs, splits  # noqa: F401
from .rule import SECTIONS, Change, Fault, Finding, Place, Rule, faults, fix

RULES: dict[str, Rule] = {rule.code: rule for section in SECTIONS for rule in section.rules}

__all__ = ["RULES", "SECTIONS", "Change", "Fault", "Finding", "Place", "Rule", "faults", "fix", "markdown_table"]


def markdown_table() -> str:
    """All rules as docs/data.md has them; ``python -m detr_d2.labels.rules`` prints them."""
    lines: list[str] = []
    for section in SECTIONS:
        lines += [f"### {section.title}", "", "| fault | severity | what to do | with `--fix` |", "|---|---|---|---|"]
        lines += [f"| `{rule.code}` | {rule.severity} | {rule.advice} | {rule.fixed} |" for rule in section.rules]
        lines.append("")
    return "\n".join(lines)
