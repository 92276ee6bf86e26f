"""From a template and what goes into it to a page that stands alone."""

from __future__ import annotations

import json
import math
import os
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from detr_d2.files import write_text
from detr_d2.wording import counted


def render_page(template: str | os.PathLike[str], **context: Any) -> str:
    """A page from a Jinja template; every value is escaped.

    A template extends ``base.html`` and may import the macros of ``parts.html``, both of which lie beside this module.
    Filters: ``number`` (a number with one decimal, or so many; a dash for None and NaN), ``counted`` (a number and
    what it counts, one or many), ``data`` (JSON that may stand inside ``<script type="application/json">``).

    Args:
        template: path of the template file.
        context: its variables; ``base.html`` wants ``title``.

    Raises:
        jinja2.UndefinedError: a variable that the template uses wasn't given.
    """
    path = Path(template)
    return _environment(str(path.parent)).get_template(path.name).render(**context)


def write_page(path: str | os.PathLike[str], template: str | os.PathLike[str], **context: Any) -> Path:
    """Renders a page and writes it, whole or not at all; see :func:`render_page`."""
    return write_text(path, render_page(template, **context))


@cache
def _environment(folder: str) -> jinja2.Environment:
    common = Path(__file__).parent / "templates"
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([folder, common]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(number=shown_number, counted=shown_count, data=script_data)
    return environment


def shown_number(value: float | None, digits: int = 1) -> str:
    """A number for people: whole ones with thin spaces between thousands, a dash where there is none."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "–"
    if isinstance(value, float):
        return f"{value:,.{digits}f}".replace(",", "\u2009")
    return f"{value:,}".replace(",", "\u2009")


def shown_count(number: int, one: str, many: str | None = None) -> str:
    """A whole number with what it counts; see :func:`detr_d2.wording.counted`."""
    return f"{shown_number(number)} {counted(number, one, many).partition(' ')[2]}"


def script_data(value: Any) -> Markup:
    """JSON that can't end the script element it stands in; NaN isn't allowed, as it isn't JSON.

    Raises:
        ValueError: ``value`` holds NaN or Infinity.
    """
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))
