"""Pictures of any kind, as their labels see them."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detr_d2.errors import MissingFileError
from detr_d2.labels.records import FileRef, ImageRecord
from detr_d2.labels.rules.rule import BrokenRuleError
from detr_d2.labels.rules.splits import group_equal, image_hash
from detr_d2.prepare.preparing import decode, encode

SHADES = np.arange(24 * 32).reshape(24, 32) * 65535 // (24 * 32)


def record(path: Path, width: int = 0, height: int = 0) -> ImageRecord:
    return ImageRecord(FileRef(path), path.name, width, height, ())


def saved(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)
    return path


def turned(path: Path, orientation: int) -> Path:
    """A picture 32 wide and 24 high, red at its left, with an EXIF tag."""
    pixels = np.zeros((24, 32, 3), np.uint8)
    pixels[:, :8, 0] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    return saved(path, Image.fromarray(pixels), exif=exif)


def test_a_turn_by_exif_is_applied_or_refused_to_match_the_labels(tmp_path: Path) -> None:
    path = turned(tmp_path / "a.png", 6)

    upright, stored, unsaid = (decode(record(path, *size)) for size in ((24, 32), (32, 24), (0, 0)))

    assert upright.image.size == unsaid.image.size == (24, 32) and stored.image.size == (32, 24)
    assert upright.pixels()[2, 12].tolist() == [255, 0, 0]  # what was left is on top
    assert stored.pixels()[12, 2].tolist() == [255, 0, 0]
    assert [one.notes[0][0] for one in (upright, stored)] == ["image-orientation", "image-turned"]
    assert not upright.is_plain and not stored.is_plain


def test_what_is_written_anew_has_no_exif_tag_and_the_same_pixels(tmp_path: Path) -> None:
    decoded = decode(record(turned(tmp_path / "a.png", 6), 32, 24))

    with Image.open(io.BytesIO(encode(decoded, ".png"))) as again:
        assert again.getexif().get(0x0112) is None
        assert (np.asarray(again) == decoded.pixels()).all()


def test_a_half_turn_is_applied_and_reported(tmp_path: Path) -> None:
    decoded = decode(record(turned(tmp_path / "a.png", 3), 32, 24))

    assert decoded.pixels()[12, 30].tolist() == [255, 0, 0]
    assert decoded.notes[0][0] == "image-orientation"


@pytest.mark.parametrize("mode", ["1", "P", "LA", "RGBA", "CMYK", "I;16", "I", "F", "HSV", "YCbCr"])
def test_every_mode_becomes_eight_bits(tmp_path: Path, mode: str) -> None:
    if mode in ("I;16", "I", "F"):
        kind = {"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode]
        path = saved(tmp_path / "a.tif", Image.fromarray(SHADES.astype(kind)))
    else:
        picture = Image.fromarray((SHADES // 256).astype(np.uint8)).convert("RGB").convert(mode)
        suffix = {"CMYK": "jpg", "YCbCr": "jpg", "HSV": "tif"}.get(mode, "png")
        picture = picture.convert("RGB") if mode == "HSV" else picture
        path = saved(tmp_path / f"a.{suffix}", picture)

    decoded = decode(record(path))

    assert decoded.image.mode in ("RGB", "L")
    pixels = decoded.pixels()
    assert pixels.dtype == np.uint8 and pixels.shape == (24, 32, 3)
    assert pixels[0].mean() < 40 < 215 < pixels[-1].mean()  # dark on top, bright below: scaled, not cut off


def test_a_plain_image_is_copied_as_it_is(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.jpg", Image.new("RGB", (32, 24), (9, 99, 199)))

    decoded = decode(record(path, 32, 24))

    assert decoded.is_plain and decoded.is_lossy and decoded.content == path.read_bytes()


@pytest.mark.parametrize(
    ("content", "code"),
    [(b"", "image-broken"), (b"GIF89a" * 9, "image-broken"), (b"<html>", "image-broken")],
)
def test_what_is_no_image_is_named(tmp_path: Path, content: bytes, code: str) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(content)

    with pytest.raises(BrokenRuleError, match=r"a\.jpg") as caught:
        decode(record(path))

    assert caught.value.code == code


def test_a_truncated_image_and_one_of_another_size_are_named(tmp_path: Path) -> None:
    whole = saved(tmp_path / "a.jpg", Image.effect_noise((64, 64), 90))
    half = tmp_path / "b.jpg"
    half.write_bytes(whole.read_bytes()[:-600])

    with pytest.raises(BrokenRuleError, match=r"b\.jpg"):
        decode(record(half))
    with pytest.raises(BrokenRuleError, match="64x64 pixels upright; its labels are for 32x24") as caught:
        decode(record(whole, 32, 24))

    assert caught.value.code == "image-size"


def test_an_image_of_the_ratio_of_its_labels_is_resized_to_their_size(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", Image.fromarray((SHADES // 256).astype(np.uint8)))

    decoded = decode(record(path, 64, 48))

    assert decoded.image.size == (64, 48) and not decoded.is_plain
    assert [code for code, _ in decoded.notes] == ["image-size"]


def test_the_size_of_a_panoptic_png_decides_where_the_json_is_wrong(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.jpg", Image.new("RGB", (32, 24), (9, 99, 199)))
    png = saved(tmp_path / "a.png", Image.new("RGB", (32, 24)))

    decoded = decode(replace(record(path, 16, 12), png=FileRef(png)))

    assert decoded.image.size == (32, 24) and decoded.content == path.read_bytes() and decoded.is_plain
    assert [code for code, _ in decoded.notes] == ["image-size"]


def test_a_missing_image_is_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError):
        decode(record(tmp_path / "nowhere.jpg"))


def test_images_saved_again_or_made_smaller_have_the_same_hash() -> None:
    chance = np.random.default_rng(0)
    first, other = (
        Image.fromarray(chance.integers(0, 256, (6, 8, 3), np.uint8)).resize((320, 240), Image.Resampling.BICUBIC)
        for _ in range(2)
    )
    lossy = io.BytesIO()
    first.save(lossy, "JPEG", quality=80)

    hashes = [image_hash(one) for one in (first, Image.open(lossy), first.resize((160, 120)), other)]

    assert group_equal(hashes) == [0, 0, 0, 3]
