"""Prints the table of all rules, for docs/data.md."""

from __future__ import annotations

from .table import markdown_table

print(markdown_table(), end="")
