"""The page in a browser: it sorts, filters, enlarges and switches, by mouse and by keyboard, and logs no error."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

# What a person would do, one after the other, in one start of the browser; "seen" keeps what the page showed.
STEPS = """
const seen = { errors: window.errors, dialogAtFirst: dialog.open };
const write = () => document.body.dataset.seen = JSON.stringify(seen);
const names = () => [...document.querySelectorAll("#class-table tbody tr")]
  .filter((row) => !row.hidden).map((row) => row.cells[0].textContent.trim());
const view = () => dialog.querySelector(".view[aria-pressed=true]").textContent;
const caption = () => dialog.querySelector("p").textContent;
const press = (key) => dialog.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
seen.names = names();
document.querySelectorAll("#class-table th button")[2].click();
seen.turned = names();
filter.value = "SAND";
filter.dispatchEvent(new Event("input"));
seen.filtered = names();
document.querySelector(".sides").click();
seen.opened = [dialog.open, view(), caption()];
press(" ");
seen.space = view();
seen.focused = [document.activeElement === dialog];
press("2");
seen.two = view();
press("ArrowRight");
seen.next = [view(), caption()];
seen.focused.push(document.activeElement === dialog);
document.querySelectorAll(".sides img")[1].click();
seen.clicked = view();
dialog.addEventListener("close", () => { seen.focus = document.activeElement.className; write(); });
dialog.close();
seen.targets = [...document.querySelectorAll("a[href^='#']")].filter((a) => !document.querySelector(a.hash)).length;
seen.nameless = [...document.querySelectorAll("button, input, img[data-name], svg")]
  .filter((e) => !(e.textContent.trim() || e.ariaLabel || e.alt || e.labels?.length)).length;
write();
"""


@pytest.fixture(scope="session")
def seen(page: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the page showed in Debian's chromium."""
    browser = shutil.which("chromium")
    if browser is None:
        pytest.skip("chromium isn't installed (Debian's package chromium)")
    folder = tmp_path_factory.mktemp("browser")
    guard = "<script>window.errors = []; window.onerror = (text) => window.errors.push(text);</script>"
    text = page.read_text(encoding="utf-8").replace("<header>", f"{guard}<header>", 1)
    copy = folder / "page.html"
    copy.write_text(text.replace("</body>", f"<script>{STEPS}</script></body>"), encoding="utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
    options += [
        "--disable-background-networking",
        "--disable-component-update",
        f"--user-data-dir={folder / 'profile'}",
    ]
    command = [browser, *options, "--virtual-time-budget=30000", "--dump-dom", copy.as_uri()]  # until "close" has come
    shown: dict[str, Any] = {}
    for _ in range(5):  # on a busy machine the browser may end before "close" has come
        elements = subprocess.run(command, check=True, capture_output=True, text=True, timeout=3600).stdout
        found = re.search(r'data-seen="([^"]*)"', elements)
        assert found is not None
        shown = dict(json.loads(html.unescape(found[1])))
        if "focus" in shown:
            break
    return shown


def test_page_opens_without_errors_and_with_absent_classes_last(seen: dict[str, Any], content: dict[str, Any]) -> None:
    quality = {entry["name"]: entry["PQ"] for entry in content["classes"]}

    shown = [quality[name] for name in seen["names"]]

    assert seen["errors"] == [] and not seen["dialogAtFirst"]
    assert shown[:-1] == sorted(shown[:-1]) and shown[-1] is None


def test_heading_turns_the_order_and_absent_classes_stay_last(seen: dict[str, Any]) -> None:
    assert seen["turned"] == [*seen["names"][-2::-1], "never seen"]


def test_filter_shows_the_classes_with_the_letters(seen: dict[str, Any]) -> None:
    assert seen["filtered"] == ["sand & lime"]


def test_enter_enlarges_the_prediction_and_keys_switch_the_view(seen: dict[str, Any]) -> None:
    assert seen["opened"][:2] == [True, "prediction"]
    assert seen["space"] == "mistakes" and seen["two"] == "ground truth"


def test_arrow_goes_to_the_next_image_with_the_same_view(seen: dict[str, Any]) -> None:
    assert seen["next"][0] == "ground truth" and seen["next"][1] != seen["opened"][2]


def test_keys_reach_the_dialog_after_every_step(seen: dict[str, Any]) -> None:
    assert seen["focused"] == [True, True]


def test_click_on_a_view_opens_that_view(seen: dict[str, Any]) -> None:
    assert seen["clicked"] == "ground truth"


def test_closing_returns_to_the_image(seen: dict[str, Any]) -> None:
    assert seen["focus"] == "thumbnail sides"


def test_links_lead_somewhere_and_everything_that_is_operated_has_a_name(seen: dict[str, Any]) -> None:
    assert seen["targets"] == 0 and seen["nameless"] == 0
