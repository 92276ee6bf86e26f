"""What the page does with a photo; and the page itself, in headless Chromium where there is one."""

from __future__ import annotations

import gc
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from defusedxml import ElementTree
from PIL import Image

import detr_d2
from detr_d2.cli import main
from detr_d2.errors import ConfigError
from detr_d2.prediction.app.page import build_page, serve
from detr_d2.prediction.app.session import Choices, Limits, SeenPhoto, sentence_of
from detr_d2.prediction.images import ImageError


@pytest.fixture
def every(predictor: detr_d2.Predictor) -> Choices:
    return Choices(0.02, 0.0, 4, tuple(category.name for category in predictor.categories))


@pytest.fixture
def seen(predictor: detr_d2.Predictor, photo: Path, every: Choices) -> SeenPhoto:
    uploaded = SeenPhoto(predictor, photo, Limits())
    uploaded.choose(every)
    return uploaded


def test_choices_change_the_map_without_the_network(
    predictor: detr_d2.Predictor, seen: SeenPhoto, every: Choices, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predictor.model.detr, "forward", lambda *_: pytest.fail("the network ran again"))
    all_of_it = seen.choose(every)
    name = all_of_it.segments[0]["category"]

    one = seen.choose(every.__class__(every.score, every.overlap, every.min_area, (name,)))
    none = seen.choose(every.__class__(1.0, every.overlap, every.min_area, every.classes))

    assert {segment["category"] for segment in one.segments} == {name}
    assert all_of_it.segments and not none.segments


def test_page_shows_each_segment_with_name_and_score(seen: SeenPhoto) -> None:
    image, masks, colors = seen.shown()

    assert seen.prediction is not None
    assert len(masks) == len(seen.prediction.segments) == len(colors)
    for (mask, label), segment in zip(masks, seen.prediction.segments):
        assert mask.shape == image.shape[:2] and int(mask.sum()) == segment["area"]
        assert label.startswith(segment["category"]) and label.endswith("%")


def test_segment_shows_where_its_queries_look(seen: SeenPhoto) -> None:
    heat, sentence = seen.attention(0)

    assert seen.prediction is not None
    assert heat.shape == seen.prediction.image.shape and heat.std() > 0
    assert seen.prediction.segments[0]["category"] in sentence and "query" in sentence


def test_downloads_are_the_map(seen: SeenPhoto) -> None:
    drawing, png, panoptic, xml = map(Path, seen.files())

    assert seen.prediction is not None and seen.prediction.panoptic is not None
    colors = np.asarray(Image.open(png)).astype(int)
    np.testing.assert_array_equal(colors @ [1, 256, 65536], seen.prediction.panoptic)
    assert len(ElementTree.parse(xml).findall(".//mask")) == len(seen.prediction.segments)
    assert "segments_info" in panoptic.read_text() and Image.open(drawing).width >= seen.prediction.image.shape[1]


def test_files_are_deleted_with_the_photo(predictor: detr_d2.Predictor, photo: Path, every: Choices) -> None:
    uploaded = SeenPhoto(predictor, photo, Limits())
    uploaded.choose(every)
    folder = Path(uploaded.files()[0]).parent

    del uploaded
    gc.collect()

    assert not folder.exists()


def test_what_is_no_image_gets_a_sentence(predictor: detr_d2.Predictor, photo: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.jpg").write_text("no image")
    (tmp_path / "cut.jpg").write_bytes(photo.read_bytes()[:1500])
    Image.new("RGB", (2000, 1000)).save(tmp_path / "large.png")
    limits = Limits(megabytes=1, megapixels=1)

    for name, words in (("notes.jpg", "isn't an image"), ("cut.jpg", "can't be read"), ("large.png", "2 megapixels")):
        with pytest.raises(ImageError, match=words) as caught:
            SeenPhoto(predictor, tmp_path / name, limits)
        assert name in sentence_of(caught.value)


def test_image_beyond_pillows_limit_is_said_to_be_large(
    predictor: detr_d2.Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # so that Pillow refuses more than 200
    Image.new("RGB", (30, 10)).save(tmp_path / "huge.png")

    with pytest.raises(ImageError, match=r"huge\.png has more than .* pixels; at most 50 megapixels"):
        SeenPhoto(predictor, tmp_path / "huge.png", Limits())


def test_errors_of_the_program_are_not_shown_to_visitors() -> None:
    assert "secret" not in sentence_of(RuntimeError("/home/secret/model.pth"))


def test_missing_gradio_is_named(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "gradio", None)

    with pytest.raises(ConfigError, match=r"pip install 'detr_d2\[app\]'"):
        main(["app", str(checkpoint)])


@pytest.fixture
def served(predictor: detr_d2.Predictor, photo: Path) -> Iterator[str]:
    pytest.importorskip("gradio", reason="Gradio isn't installed: pip install 'detr_d2[app]'")
    page = build_page(predictor, Limits(megapixels=1), [photo])
    yield serve(page, "127.0.0.1", None, Limits(), [photo], waits=False)
    page.close()


@pytest.fixture
def browser() -> Iterator[Any]:
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium isn't installed")
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("no Chromium with its driver: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1400,1500"):
        options.add_argument(argument)
    started = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield started
    started.quit()


@pytest.mark.slow
def test_page_in_a_browser_uploads_slides_clicks_and_downloads(
    served: str, browser: Any, photo: Path, tmp_path: Path
) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.support.ui import WebDriverWait

    def find(css: str) -> Any:
        return WebDriverWait(browser, 120).until(lambda driver: driver.find_elements("css selector", css))[0]

    def wait(condition: Any) -> None:
        WebDriverWait(browser, 120).until(lambda _: condition())

    browser.get(served)
    (tmp_path / "notes.jpg").write_text("no image")
    find("#upload input[type=file]").send_keys(str(tmp_path / "notes.jpg"))
    wait(lambda: "isn't an image" in find("#summary").text)
    find("#upload button[aria-label='Clear'], #upload button[aria-label='Remove this file']").click()
    find("#upload input[type=file]").send_keys(str(photo))
    wait(lambda: f"{160}x{128}" in find("#summary").text)
    before = find("#summary").text

    seen_map, pointed = find("#segments .base-image"), find("#pointed")
    wait(lambda: seen_map.get_property("complete") and find("#segments .mask").get_property("naturalWidth"))
    ActionChains(browser).move_to_element(seen_map).perform()
    wait(
        lambda: pointed.text in {item.text for item in browser.find_elements("css selector", "#segments .legend-item")}
    )
    name = pointed.text
    ActionChains(browser).click().perform()
    wait(lambda: "query" in find("#sentence").text)
    assert find("#sentence").text.startswith(name)
    assert find("#attention img").get_attribute("src")
    assert find("#files a[href$='.xml']")
    browser.save_screenshot(str(tmp_path / "page.png"))

    number = find("#score input[type=number]")
    number.send_keys(Keys.CONTROL, "a")
    number.send_keys("1", Keys.ENTER)
    wait(lambda: find("#summary").text not in ("", before) and "nothing" in find("#summary").text)
    assert find("#files a[href$='.xml']")
