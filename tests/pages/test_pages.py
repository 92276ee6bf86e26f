"""Pages: whole, alone, escaped, and alive in a browser."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import jinja2
import numpy as np
import pytest

from detr_d2.pages import render_page, thumbnail, write_page
from detr_d2.pages.rendering import script_data, shown_number

PAGE = """{% extends "base.html" %}{% import "parts.html" as parts %}
{% block content %}
<table class="sortable"><thead><tr><th>class</th><th>PQ</th></tr></thead><tbody>
{% for name, value in rows %}<tr><td>{{ name }}</td><td>{{ value | number }}</td></tr>{% endfor %}
</tbody></table>
<div class="gallery">{{ parts.thumbnail([["truth", image], ["prediction", image]], "a <yard>") }}</div>
<script type="application/json">{{ data | data }}</script>
{% endblock %}
{% block script %}{{ action | safe }}{% endblock %}
"""


@pytest.fixture
def template(tmp_path: Path) -> Path:
    path = tmp_path / "page.html"
    path.write_text(PAGE, encoding="utf-8")
    return path


def context(action: str = "") -> dict[str, object]:
    image = thumbnail(np.full((30, 60, 3), 200, np.uint8))
    rows = [("pipe", 9.0), ("<b>brick</b>", 80.5), ("crane", None)]
    return {"title": "A & B", "rows": rows, "image": image, "data": {"end": "</script>"}, "action": action}


def test_page_escapes_what_is_put_in(template: Path) -> None:
    page = render_page(template, **context())

    assert "<b>brick" not in page and "&lt;b&gt;brick" in page and "A &amp; B" in page
    assert "\\u003c/script\\u003e" in page


def test_page_refers_to_nothing_outside_of_itself(template: Path) -> None:
    page = render_page(template, **context())

    assert "http:" not in page and "https:" not in page and 'src="data:' in page


def test_page_wants_every_variable(template: Path) -> None:
    with pytest.raises(jinja2.UndefinedError, match="rows"):
        render_page(template, title="empty")


def test_write_page_leaves_nothing_when_it_fails(template: Path, tmp_path: Path) -> None:
    with pytest.raises(jinja2.UndefinedError):
        write_page(tmp_path / "out" / "page.html", template, title="empty")

    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("value", "text"), [(None, "–"), (float("nan"), "–"), (12.345, "12.3"), (1234567, "1\u2009234\u2009567"), (0, "0")]
)
def test_numbers_are_shown_for_people(value: float | None, text: str) -> None:
    assert shown_number(value) == text


def test_data_refuses_what_json_has_not() -> None:
    with pytest.raises(ValueError):
        script_data(float("nan"))


def test_thumbnail_is_no_larger_than_asked() -> None:
    import base64
    import io

    from PIL import Image

    address = thumbnail(np.zeros((100, 400, 3), np.uint8), long_side=200)

    assert Image.open(io.BytesIO(base64.b64decode(address.split(",")[1]))).size == (200, 50)


def in_browser(page: Path, folder: Path) -> str:
    """The page's elements after its scripts have run."""
    browser = shutil.which("chromium")
    if browser is None:
        pytest.skip("chromium isn't installed (Debian's package chromium)")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
    options += ["--disable-background-networking", "--disable-component-update", f"--user-data-dir={folder}"]
    command = [browser, *options, "--dump-dom", page.as_uri()]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=3600).stdout


def test_table_sorts_and_absent_values_go_last(template: Path, tmp_path: Path) -> None:
    action = 'for (let i = 0; i < 2; i++) document.querySelectorAll("th button")[1].click();'
    page = write_page(tmp_path / "out.html", template, **context(action))

    elements = in_browser(page, tmp_path / "profile")

    assert elements.index("brick") < elements.index("pipe") < elements.index("crane")
    assert 'aria-sort="descending"' in elements


def test_image_opens_and_switches_its_view(template: Path, tmp_path: Path) -> None:
    action = """document.querySelector("button.thumbnail").click();
      dialog.dispatchEvent(new KeyboardEvent("keydown", {key: " "}));"""
    page = write_page(tmp_path / "out.html", template, **context(action))

    elements = in_browser(page, tmp_path / "profile")

    assert '<dialog tabindex="-1" open' in elements
    assert '<button type="button" class="view" aria-pressed="true">prediction' in elements
