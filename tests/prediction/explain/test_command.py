"""``detr-d2 explain``: a page that stands alone, every figure as a PNG, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detr_d2.checkpoint import DetrCheckpointer
from detr_d2.cli import main
from detr_d2.errors import ConfigError, MissingFileError


class _Images(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[dict[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "img":
            self.found.append(dict(attrs))


@pytest.fixture
def checkpoint(make_model: Callable, tmp_path: Path) -> Callable[..., str]:
    def save(*overrides: object) -> str:
        model = make_model("INPUT.MIN_SIZE_TEST", 64, *overrides)
        model.detr.class_embed.bias.data[-1] = 4.0  # few queries are kept
        DetrCheckpointer(model, str(tmp_path)).save("model_final")
        return str(tmp_path / "model_final.pth")

    return save


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "photos" / "site a.jpg"
    path.parent.mkdir()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8)).save(path)
    return path


def _images_of(page: str) -> list[dict[str, str | None]]:
    parser = _Images()
    parser.feed(page)
    return parser.found


def test_page_stands_alone_and_describes_every_image(checkpoint, image, tmp_path, capsys):
    words = ["explain", checkpoint(), str(image), "--out", str(tmp_path / "out"), "--most", "2", "--point", "100,80"]

    code = main(words)

    folder = tmp_path / "out" / "site a"
    page = (folder / "explain.html").read_text(encoding="utf-8")
    images = _images_of(page)
    assert code == 0 and "explain.html" in capsys.readouterr().out
    assert "http:" not in page and "https:" not in page and "file:" not in page
    assert len(images) >= 12
    assert all((one["src"] or "").startswith("data:image/") and len(one["alt"] or "") > 20 for one in images)
    assert page.count("<h2>") == 9
    names = sorted(path.name for path in folder.glob("*.png"))
    assert names[:8] == [
        *("00_result.png", "01_backbone.png", "02_encoder.png", "03_extremities.png", "04_active_queries.png"),
        *("05_decoder_layers.png", "06_argmax.png", "07_matching.png"),
    ]
    assert len(names) == 8 + 2 * 3
    assert all(name in page for name in names)


def test_boxes_only_are_explained_as_far_as_they_go(checkpoint, image, tmp_path):
    code = main(
        ["explain", checkpoint("MODEL.DETR.MASK_ON", False), str(image), "--out", str(tmp_path / "out"), "--most", "1"]
    )

    page = (tmp_path / "out" / "site a" / "explain.html").read_text(encoding="utf-8")
    assert code == 0
    assert "no mask head" in page and page.count("<h2>") == 9
    assert not list((tmp_path / "out" / "site a").glob("mask_*.png"))


def test_a_folder_adds_where_queries_find_things(checkpoint, image, tmp_path, capsys):
    (image.parent / "broken.png").write_bytes(b"no image")

    code = main(
        [
            "explain",
            checkpoint("MODEL.DETR.MASK_ON", False),
            str(image),
            str(image.parent),
            "--out",
            str(tmp_path),
            "--most",
            "1",
        ]
    )

    assert code == 2 and "broken.png" in capsys.readouterr().err
    assert (tmp_path / "site a" / "query_places.png").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--layer", "7"], r"--layer 7: this model has 2 decoder layers; allowed are 1 to 2"),
        (["--point", "128,5"], r"128 pixels wide and 96 high; allowed are 0 to 127"),
    ],
)
def test_what_the_model_or_image_lacks_is_refused(words, message, checkpoint, image, tmp_path):
    with pytest.raises(ConfigError, match=message):
        main(["explain", checkpoint(), str(image), "--out", str(tmp_path / "out"), *words])

    assert not (tmp_path / "out").exists()


def test_a_point_that_is_none_is_refused(image, capsys):
    with pytest.raises(SystemExit):
        main(["explain", "unread.pth", str(image), "--point", "5;6"])

    assert "'5;6' isn't X,Y" in capsys.readouterr().err


def test_no_image_is_one_clear_line(tmp_path, capsys):
    with pytest.raises(MissingFileError, match="names no image"):
        main(["explain", "unread.pth", str(tmp_path / "gone.jpg")])

    assert "gone.jpg" in capsys.readouterr().err


def test_a_file_in_place_of_the_folder_is_refused_before_the_model_is_read(image):
    with pytest.raises(ConfigError, match="is a file; name a folder"):
        main(["explain", "unread.pth", str(image), "--out", str(image)])
