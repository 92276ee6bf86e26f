"""From a template and what goes into it to a page that stands alone, images included."""

from __future__ import annotations

import base64
import io
import json
import math
import os
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup
from PIL import Image

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


def thumbnail(image: np.ndarray, long_side: int = 320, quality: int = 80) -> str:
    """An image as the address of an ``<img>``: shrunk, as JPEG, with its bytes in the address itself.

    Args:
        image: (H, W, 3) uint8, RGB.
        long_side: most pixels of the longer side; smaller images stay as they are.
        quality: of the JPEG, 1 to 95.
    """
    shown = Image.fromarray(np.ascontiguousarray(image))
    shown.thumbnail((long_side, long_side), Image.Resampling.BOX, reducing_gap=2.0)
    buffer = io.BytesIO()
    shown.save(buffer, "JPEG", quality=quality, optimize=True)
    return data_uri(buffer.getvalue(), "image/jpeg")


def data_uri(content: bytes, media_type: str) -> str:
    """Bytes as an address that needs no network."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode('ascii')}"
