"""Pictures of a command line are found once each, read as their EXIF says, and their results never meet."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detr_d2.errors import ConfigError
from detr_d2.prediction.image_files import find_images, result_paths
from detr_d2.prediction.images import ImageError, read_image


def make(*paths: Path) -> list[Path]:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (6, 4), (10, 20, 30)).save(path, format="PNG")
    return list(paths)


def test_pictures_of_files_folders_and_patterns_are_found_once(tmp_path: Path) -> None:
    a, b, c = make(tmp_path / "x" / "a.jpg", tmp_path / "x" / "B.JPEG", tmp_path / "x" / "deep" / "c.tif")
    (tmp_path / "x" / "notes.txt").write_text("no picture")
    make(tmp_path / "x" / ".hidden.jpg")

    found = find_images([str(a), str(tmp_path / "x"), str(tmp_path / "x" / "*"), str(tmp_path / "x" / "**" / "*.tif")])

    assert found.paths == [a, b, c]
    assert found.complaints == []


def test_file_named_like_a_pattern_is_found(tmp_path: Path) -> None:
    (strange,) = make(tmp_path / "shot [1].jpg")

    assert find_images([str(strange)]).paths == [strange]


def test_inputs_that_stand_for_nothing_are_named(tmp_path: Path) -> None:
    found = find_images([str(tmp_path / "no.jpg"), str(tmp_path), str(tmp_path / "*.jpg")])

    assert found.paths == []
    assert [complaint.split(": ")[1].split(" (")[0].split(";")[0] for complaint in found.complaints] == [
        "there is no such file or folder",
        "no image in this folder",
        "no image matches this pattern",
    ]


def test_home_folder_may_be_written_as_a_tilde(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (picture,) = make(tmp_path / "a.png")

    assert find_images(["~/a.png"]).paths == [picture]


def test_picture_is_turned_as_exif_says_and_in_rgb(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright
    Image.new("RGB", (6, 4), (10, 20, 30)).save(tmp_path / "a.png", exif=exif)

    picture = read_image(tmp_path / "a.png")

    assert picture.shape == (6, 4, 3)
    assert picture.dtype == np.uint8
    assert picture[0, 0].tolist() == [10, 20, 30]


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1"])
def test_pictures_of_all_modes_have_three_channels(tmp_path: Path, mode: str) -> None:
    Image.new(mode, (6, 4)).save(tmp_path / "a.tif")

    assert read_image(tmp_path / "a.tif").shape == (4, 6, 3)


def test_unreadable_pictures_are_named_with_the_reason(tmp_path: Path) -> None:
    Image.effect_noise((80, 60), 50).save(tmp_path / "cut.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "cut.jpg").read_bytes()[:1000])
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "text.png").write_text("not a picture")

    reasons = {
        "cut.jpg": "truncated",
        "empty.jpg": "the file is empty",
        "text.png": "no image, or none of JPEG",
        "gone.jpg": "No such",
    }
    for name, reason in reasons.items():
        with pytest.raises(ImageError, match=f"{name}: can't be read as an image: .*{reason}"):
            read_image(tmp_path / name)


def test_results_keep_their_pictures_names_and_are_jpg_or_png(tmp_path: Path) -> None:
    pictures = [tmp_path / "a.jpg", tmp_path / "b.JPEG", tmp_path / "c.webp"]

    assert [path.name for path in result_paths(pictures, tmp_path / "out")] == ["a.jpg", "b.jpg", "c.png"]


def test_results_of_pictures_of_one_name_do_not_meet(tmp_path: Path) -> None:
    pictures = [
        tmp_path / "one" / "site" / "a.jpg",
        tmp_path / "two" / "site" / "A.jpg",
        tmp_path / "two" / "site" / "b.jpg",
        tmp_path / "c.png",
        tmp_path / "c.bmp",
    ]

    names = [path.name for path in result_paths(pictures, tmp_path / "out")]

    assert names[:3] == ["one_site_a.jpg", "two_site_A.jpg", "b.jpg"]
    assert len({name.casefold() for name in names}) == 5
    assert all(path.parent == tmp_path / "out" for path in result_paths(pictures, tmp_path / "out"))


def test_results_of_clashing_prefixes_are_numbered(tmp_path: Path) -> None:
    pictures = [Path("/c.png"), Path("/c.bmp"), Path("/c_2.png")]

    assert [path.name for path in result_paths(pictures, tmp_path)] == ["c.png", "c_3.png", "c_2.png"]


def test_one_picture_may_have_a_file_for_its_result(tmp_path: Path) -> None:
    assert result_paths([Path("a.jpg")], tmp_path / "drawn.png") == [tmp_path / "drawn.png"]
    with pytest.raises(ConfigError, match="one file for 2 images"):
        result_paths([Path("a.jpg"), Path("b.jpg")], tmp_path / "drawn.png")


def test_results_never_replace_a_picture(tmp_path: Path) -> None:
    pictures = make(tmp_path / "a.png", tmp_path / "b.png")

    with pytest.raises(ConfigError, match=r"a\.png is one of the images"):
        result_paths(pictures, tmp_path)


def test_output_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")

    with pytest.raises(ConfigError, match="is a file; name a folder"):
        result_paths([Path("a.jpg")], tmp_path / "notes.txt")
