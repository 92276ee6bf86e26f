"""Pictures of a command line are found once each, read as their EXIF says, and their results never meet."""

from __future__ import annotations

import io
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from detr_d2.errors import ConfigError
from detr_d2.prediction import image_files
from detr_d2.prediction.image_files import FoundImage, FoundInputs, drawing_paths, find_inputs
from detr_d2.prediction.images import ImageError, more_pixels, read_image


def make(*paths: Path) -> list[Path]:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (6, 4), (10, 20, 30)).save(path, format="PNG")
    return list(paths)


def paths_of(found: FoundInputs) -> list[Path]:
    return [image.file.path for image in found.images]


def images_at(*paths: Path) -> list[FoundImage]:
    return find_inputs([str(path) for path in make(*paths)]).images


def test_images_of_files_folders_and_patterns_are_found_once(tmp_path: Path) -> None:
    a, b, c = make(tmp_path / "x" / "a.jpg", tmp_path / "x" / "B.JPEG", tmp_path / "x" / "deep" / "c.tif")
    (tmp_path / "x" / "notes.md").write_text("no image")
    make(tmp_path / "x" / ".hidden.jpg")

    found = find_inputs([str(a), str(tmp_path / "x"), str(tmp_path / "x" / "*"), str(tmp_path / "x" / "**" / "*.tif")])

    assert paths_of(found) == [a, b, c]
    assert [image.name for image in found.images] == ["a.jpg", "B.JPEG", "deep/c.tif"]
    assert found.complaints == []


def test_zips_lists_and_the_standard_input_name_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = make(tmp_path / "a.png", tmp_path / "b.png")
    with zipfile.ZipFile(tmp_path / "c.zip", "w") as archive:
        archive.write(a, "day/c.png")
        archive.writestr("readme.txt", "no image")
    (tmp_path / "list").write_text(f"# mine\n{a}\n\n")
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(f"{b}\n".encode())))

    found = find_inputs([str(tmp_path / "c.zip"), f"@{tmp_path / 'list'}", "-"])

    assert [image.name for image in found.images] == ["day/c.png", "a.png", "b.png"]
    assert read_image(found.images[0].file).shape == (4, 6, 3)


def test_standard_input_may_be_an_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (a,) = make(tmp_path / "a.png")
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(a.read_bytes())))

    (image,) = find_inputs(["-"]).images

    assert (image.name, image.stem, image.content) == ("stdin.png", "stdin", a.read_bytes())


def test_standard_input_beyond_the_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_files, "MOST_BYTES", 10)
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"n" * 11)))

    found = find_inputs(["-"])

    assert found.complaints == ["-: more than 10 bytes came through the standard input; name files instead."]


def test_videos_are_apart_and_results_are_left_out(tmp_path: Path) -> None:
    (a, _) = make(tmp_path / "a.png", tmp_path / "out" / "drawings" / "a.png")
    (tmp_path / "b.MP4").write_bytes(b"")

    found = find_inputs([str(tmp_path), str(tmp_path / "b.MP4")], leave_out=[tmp_path / "out" / "drawings"])

    assert paths_of(found) == [a] and found.videos == [tmp_path / "b.MP4"]


def test_a_pattern_takes_no_results(tmp_path: Path) -> None:
    (a, _) = make(tmp_path / "a.png", tmp_path / "out" / "drawings" / "a.png")

    found = find_inputs([str(tmp_path / "**" / "*.png")], leave_out=[tmp_path / "out" / "drawings"])

    assert paths_of(found) == [a]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_lists_of_all_systems_are_read(tmp_path: Path, encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make(Path("ü.png"), Path("#1.png"))
    (tmp_path / "list.txt").write_text("# mine\r\nü.png\r\n#1.png\r\n", encoding=encoding)

    assert [str(path) for path in paths_of(find_inputs(["list.txt"]))] == ["ü.png", "#1.png"]


def test_a_list_of_names_between_zeros_is_named(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes(b"a.png\0b.png\0")

    found = find_inputs([str(tmp_path / "list.txt")])

    assert found.images == []
    assert found.complaints == [f"{tmp_path / 'list.txt'}: neither an image nor a list of paths, one on each line."]


def test_file_named_like_a_pattern_is_found(tmp_path: Path) -> None:
    (strange,) = make(tmp_path / "shot [1].jpg")

    assert paths_of(find_inputs([str(strange)])) == [strange]


def test_inputs_that_stand_for_nothing_are_named(tmp_path: Path) -> None:
    found = find_inputs([str(tmp_path / "no.jpg"), str(tmp_path), str(tmp_path / "*.jpg")])

    assert paths_of(found) == []
    assert [complaint.split(": ")[1].split(" (")[0].split(";")[0] for complaint in found.complaints] == [
        "there is no such file or folder",
        "no image in this folder",
        "no image matches this pattern",
    ]


def test_home_folder_may_be_written_as_a_tilde(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (image,) = make(tmp_path / "a.png")

    assert paths_of(find_inputs(["~/a.png"])) == [image]


def test_image_is_turned_as_exif_says_and_in_rgb(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright
    Image.new("RGB", (6, 4), (10, 20, 30)).save(tmp_path / "a.png", exif=exif)

    image = read_image(tmp_path / "a.png")

    assert image.shape == (6, 4, 3)
    assert image.dtype == np.uint8
    assert image[0, 0].tolist() == [10, 20, 30]


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1"])
def test_images_of_all_modes_have_three_channels(tmp_path: Path, mode: str) -> None:
    Image.new(mode, (6, 4)).save(tmp_path / "a.tif")

    assert read_image(tmp_path / "a.tif").shape == (4, 6, 3)


def test_unreadable_images_are_named_with_the_reason(tmp_path: Path) -> None:
    Image.effect_noise((80, 60), 50).save(tmp_path / "cut.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "cut.jpg").read_bytes()[:1000])
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "text.png").write_text("no image")

    reasons = {
        "cut.jpg": "truncated",
        "empty.jpg": "the file is empty",
        "text.png": "no image, or none of JPEG",
        "gone.jpg": "No such",
    }
    for name, reason in reasons.items():
        with pytest.raises(ImageError, match=f"{name}: can't be read as an image: .*{reason}"):
            read_image(tmp_path / name)


def test_drawings_keep_their_images_names_and_are_jpg_or_png(tmp_path: Path) -> None:
    images = images_at(tmp_path / "a.jpg", tmp_path / "b.JPEG", tmp_path / "c.webp")

    assert [path.name for path in drawing_paths(images, tmp_path / "out")] == ["a.jpg", "b.jpg", "c.png"]


def test_images_of_one_name_have_names_and_stems_of_their_own(tmp_path: Path) -> None:
    images = images_at(
        tmp_path / "one" / "site" / "a.jpg",
        tmp_path / "two" / "site" / "A.jpg",
        tmp_path / "two" / "site" / "b.jpg",
        tmp_path / "c.png",
        tmp_path / "c.bmp",
        tmp_path / "c_2.png",
    )

    names = [image.name for image in images]
    assert names == ["one/site/a.jpg", "two/site/A.jpg", "b.jpg", "c.png", "c.bmp", "c_2.png"]
    assert [image.stem for image in images] == ["one/site/a", "two/site/A", "b", "c", "c_3", "c_2"]


def test_one_image_may_have_a_file_for_its_drawing(tmp_path: Path) -> None:
    a, b = images_at(tmp_path / "a.jpg", tmp_path / "b.jpg")

    assert drawing_paths([a], tmp_path / "drawn.png") == [tmp_path / "drawn.png"]
    with pytest.raises(ConfigError, match="one file for 2 images"):
        drawing_paths([a, b], tmp_path / "drawn.png")


def test_drawings_never_replace_an_image(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"a\.png is one of the images"):
        drawing_paths(images_at(tmp_path / "a.png", tmp_path / "b.png"), tmp_path)


def test_output_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")

    with pytest.raises(ConfigError, match="is a file; name a folder"):
        drawing_paths(images_at(tmp_path / "a.jpg"), tmp_path / "notes.txt")


def test_limit_of_pixels_is_the_same_for_threads_that_read_at_once() -> None:
    before = Image.MAX_IMAGE_PIXELS

    def read(_: int) -> int | None:
        with more_pixels(1000):
            sum(range(1000))
            return Image.MAX_IMAGE_PIXELS

    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(read, range(500))) == {500}
    assert before == Image.MAX_IMAGE_PIXELS
