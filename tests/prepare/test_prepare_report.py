"""The page of ``detr-d2 prepare``: it stands alone, is light, and shows what report.json says."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from collections import Counter, defaultdict

import numpy as np
import pytest
from PIL import Image

from detr_d2.prepare.report import _size_axis, _spread, draw_example, draw_examples, write_report


@pytest.fixture
def dataset(yard_folder, tmp_path):
    """A copy of the yard and what ``prepare`` would say of it."""
    folder = tmp_path / "site"
    shutil.copytree(yard_folder, folder)
    return folder, _report(folder)


def _report(folder):
    content = {split: json.loads((folder / f"panoptic_{split}.json").read_text()) for split in ("train", "val")}
    names = {(split, one["id"]): one["file_name"] for split, found in content.items() for one in found["images"]}
    areas, examples, images = defaultdict(list), defaultdict(list), defaultdict(Counter)
    for split, found in content.items():
        for annotation in found["annotations"]:
            for segment in annotation["segments_info"]:
                number = segment["category_id"]
                areas[number].append(segment["area"])
                images[number][split] += 1
                examples[number].append(
                    {
                        "file_name": names[split, annotation["image_id"]],
                        "png": annotation["file_name"],
                        "segment_id": segment["id"],
                        "image_id": annotation["image_id"],
                    }
                )
    classes = [
        {
            "name": category["name"],
            "is_thing": bool(category["isthing"]),
            "id": category["id"],
            "color": category["color"],
            "matched_from": [category["name"], f"<b>{category['name']}</b>"],
            "kept": len(areas[category["id"]]),
            "crowds": 0,
            "sources": {"human": len(areas[category["id"]])} if category["isthing"] else {"model": 1, "rest": 2},
            "images": {split: images[category["id"]][split] for split in ("train", "val")},
            "pixels": sum(areas[category["id"]]),
            "dropped": {"small": 3} if category["id"] == 1 else {},
            "areas": np.quantile(areas[category["id"]], [0, 0.25, 0.5, 0.75, 1]).tolist()
            if areas[category["id"]]
            else [],
            "examples": examples[category["id"]][:10],
        }
        for category in content["train"]["categories"]
    ]
    used = [entry for entry in classes if entry["kept"]]
    return {
        "options": {"name": "site", "val": 0.2, "classes": None},
        "exports": [{"name": "job_1", "kind": "cvat-xml", "file": "exports/job_1.zip", "images": 9, "notes": 1}],
        "classes": classes,
        "names": [{"from": "Trash", "to": None, "dropped": {"left-out": 4}}],
        "cooccurrence": {"names": [e["name"] for e in used], "counts": (np.ones((len(used),) * 2, int) * 2).tolist()},
        "images": {
            "train": 6,
            "val": 3,
            "skipped": [{"name": "job_1/5.jpg", "reason": "image-broken", "message": "it is <cut> off."}],
            "skipped_count": 1,
            "pixels": 10**6,
        },
        "warnings": ["something & <script>alert(1)</script>"],
        "notes": {"mask-empty": {"count": 7, "examples": [{"message": "covers no pixel.", "image": "job_1/2.jpg"}]}},
        "seconds": 3.0,
    }


def test_report_shows_every_class_with_examples_and_all_that_was_dropped(dataset):
    folder, report = dataset

    page = write_report(folder, report).read_text(encoding="utf-8")

    kept = [entry for entry in report["classes"] if entry["kept"]]
    assert len(re.findall(r'<section class="class"', page)) == len(kept)
    assert page.count("data:image/webp;base64,") == sum(len(entry["examples"]) for entry in kept)
    for text in ("left-out", "mask-empty", "image-broken", "job_1.zip", "Trash", "6 for training, 3 for validation"):
        assert text in page
    assert "<script>alert" not in page and "&lt;cut&gt;" in page and "<b>" not in page


def test_report_stands_alone_and_is_light(dataset):
    folder, report = dataset

    page = write_report(folder, report)

    text = page.read_text(encoding="utf-8")
    assert not re.search(r'(?:src|href)="(?!data:|#)', text) and "://" not in re.sub(r"data:[^\"]*", "", text)
    assert page.stat().st_size < 5e6


def test_many_examples_become_small_enough(dataset):
    folder, report = dataset
    classes = [{**entry, "name": f"{entry['name']} {n}"} for n in range(3) for entry in report["classes"]]

    few = draw_examples(folder, report["classes"])
    many = draw_examples(folder, classes, budget=500_000)

    assert sum(len(found) for found in many.values()) == 3 * sum(len(found) for found in few.values())
    total = sum(len(example.address) * 0.75 for found in many.values() for example in found)
    assert total < 1.3 * 500_000
    name = next(name for name, found in few.items() if found)
    assert len(few[name][0].address) > len(many[f"{name} 0"][0].address)


def test_examples_that_cant_be_read_are_left_out(dataset):
    folder, report = dataset
    name = next(entry for entry in report["classes"] if entry["examples"])["examples"][0]["file_name"]
    (folder / "images" / name).write_bytes(b"cut off")

    page = write_report(folder, report).read_text(encoding="utf-8")

    shown = sum(len(entry["examples"]) for entry in report["classes"])
    lost = sum(one["file_name"] == name for entry in report["classes"] for one in entry["examples"])
    assert page.count("data:image/webp;base64,") == shown - lost and lost


def test_report_of_a_single_class_without_anything_else(dataset):
    folder, report = dataset
    entry = {**next(e for e in report["classes"] if e["kept"]), "dropped": {}, "matched_from": [], "sources": {}}
    alone = {
        **report,
        "classes": [entry],
        "names": [],
        "warnings": [],
        "notes": {},
        "images": {"train": 1, "val": 0, "skipped": [], "skipped_count": 0, "pixels": 10**6},
        "cooccurrence": {"names": [entry["name"]], "counts": [[1]]},
    }

    page = write_report(folder, alone).read_text(encoding="utf-8")

    assert "There is one class only." in page and "Not a single label." in page and "void" in page


def test_example_shows_the_segment_and_something_around_it():
    image = Image.new("RGB", (400, 300), (100, 150, 200))
    mask = np.zeros((300, 400), bool)
    mask[100:200, 150:250] = True

    shown = draw_example(image, mask, (255, 0, 0), 160)

    assert shown.shape == (120, 160, 3)
    np.testing.assert_array_equal(shown[60, 80], (100, 150, 200))
    assert shown[2, 2].astype(int).sum() < 300
    assert (shown == (255, 0, 0)).all(axis=2).sum() > 150


def test_example_of_an_image_that_was_read_smaller_is_nearly_the_same():
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 255, (6, 8, 3), np.uint8)).resize((800, 600), Image.Resampling.BICUBIC)
    mask = np.zeros((600, 800), bool)
    mask[100:500, 150:650] = True

    large, small = (draw_example(shown, mask, (9, 9, 9), 160) for shown in (image, image.resize((400, 300))))

    assert large.shape == small.shape
    assert np.abs(large.astype(int) - small).mean() < 3


@pytest.mark.parametrize(
    "box", [(0, 0, 1, 1), (299, 399, 300, 400), (0, 0, 300, 400), (0, 200, 300, 201), (5, 0, 6, 400)]
)
def test_example_of_any_mask_has_an_outline_or_fills_the_image(box):
    mask = np.zeros((300, 400), bool)
    mask[box[0] : box[2], box[1] : box[3]] = True

    shown = draw_example(Image.new("RGB", (400, 300)), mask, (255, 0, 0), 120)

    assert 0 < shown.shape[1] <= 120 and 0 < shown.shape[0] <= 91
    assert (shown == (255, 0, 0)).all(axis=2).any() or mask.all()


def test_sizes_are_placed_between_the_smallest_and_the_largest():
    axis = _size_axis([{"areas": [10, 20, 100, 200, 1000]}, {"areas": [100] * 5}, {"areas": []}])

    assert axis == (10, 1000) and _spread([], axis) is None
    assert _spread([10, 100, 100, 100, 1000], axis) == {"low": 0, "first": 50, "median": 50, "third": 50, "high": 100}
    assert _spread([7] * 5, (7, 7))["high"] == 0


STEPS = """
const seen = {errors: window.errors};
const rows = () => [...document.querySelectorAll("#class-table tbody tr")].map((row) => row.dataset.class);
document.querySelectorAll("#class-table th button")[3].click();
seen.byKept = rows();
document.getElementById("filter").value = "E";
document.getElementById("filter").dispatchEvent(new Event("input"));
seen.filtered = [...document.querySelectorAll("section.class:not([hidden])")].map((one) => one.dataset.class);
document.querySelector("section.class:not([hidden]) button.thumbnail").click();
seen.isOpen = document.querySelector("dialog").open;
seen.lostAnchors = [...document.querySelectorAll("a[href^='#']")].filter((a) => !document.querySelector(a.hash)).length;
document.body.dataset.seen = JSON.stringify(seen);
"""


def test_page_sorts_filters_and_enlarges(dataset, tmp_path):
    browser = shutil.which("chromium")
    if browser is None:
        pytest.skip("chromium isn't installed (Debian's package chromium)")
    folder, report = dataset
    page = write_report(folder, report)
    guard = "<script>window.errors = []; window.onerror = (text) => window.errors.push(text);</script>"
    text = page.read_text(encoding="utf-8").replace("<header>", f"{guard}<header>", 1)
    page.write_text(text.replace("</body>", f"<script>{STEPS}</script></body>"), encoding="utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
    options += ["--disable-background-networking", "--disable-component-update", f"--user-data-dir={tmp_path / 'user'}"]

    command = [browser, *options, "--dump-dom", page.as_uri()]
    elements = subprocess.run(command, check=True, capture_output=True, text=True, timeout=3600).stdout

    seen = json.loads(html.unescape(re.search(r'data-seen="([^"]*)"', elements)[1]))
    kept = {entry["name"]: entry["kept"] for entry in report["classes"] if entry["kept"]}
    assert seen["errors"] == [] and seen["isOpen"] and not seen["lostAnchors"]
    assert [kept[name] for name in seen["byKept"]] == sorted(kept.values())
    assert set(seen["filtered"]) == {name for name in kept if "e" in name} and len(seen["filtered"]) < len(kept)
