"""Names that people gave, as texts of an image or a figure."""

from __future__ import annotations

from detr_d2.errors import printable

#: Longer names are cut.
MOST_CHARACTERS = 80


def drawn_name(name: str) -> str:
    """A name on one line, of characters that a font has, and short enough for an image."""
    short = name if len(name) <= MOST_CHARACTERS else name[: MOST_CHARACTERS - 1] + "…"
    return printable(" ".join(short.split()))


def figure_text(name: str) -> str:
    """A name as matplotlib draws it as it is: no dollar begins a formula, no underscore hides it from a legend."""
    plain = without_formulas(drawn_name(name))
    return f"\u200b{plain}" if plain.startswith("_") else plain


def without_formulas(text: str) -> str:
    """A text in which no dollar begins a formula of matplotlib's."""
    return text.replace("$", r"\$")
