"""One image is the same whoever reads it, and one of more than 8 bits a channel is neither black nor white."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detr_d2 import cli
from detr_d2.data import Category, DetrPanopticDatasetMapper
from detr_d2.evaluation.report import write_run_report
from detr_d2.prediction.images import read_image
from tests.faults.label_files import faults_of, png_of_16_bits, tiff_of_16_bits, write_dataset
from tests.report.made_runs import made_images, write_run

SIZE = (30, 40)
RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 4096, SIZE)
GREY[0, :2] = 4095, 0
COLOURS = RNG.integers(0, 4096, (*SIZE, 4))
COLOURS[0, 0] = 4095


def saved(values: np.ndarray, kind: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(values).save(file, kind)
    return file.getvalue()


#: Name of the file, its content, and what it shows in 8 bits.
DEEP: dict[str, tuple[str, bytes, np.ndarray]] = {
    "12-bit grey PNG": ("a.png", saved(GREY.astype(np.uint16), "PNG"), GREY >> 4),
    "12-bit grey TIFF": ("a.tif", saved(GREY.astype(np.uint16), "TIFF"), GREY >> 4),
    "12-bit grey TIFF, big-endian": ("a.tif", saved(GREY.astype(">u2"), "TIFF"), GREY >> 4),
    "16-bit grey PNG": ("a.png", saved((GREY * 16).astype(np.uint16), "PNG"), GREY >> 4),
    "8 bits in 16": ("a.png", saved((GREY >> 4).astype(np.uint16), "PNG"), GREY >> 4),
    "32-bit TIFF": ("a.tif", saved((GREY * 70000).astype(np.int32), "TIFF"), GREY * 70000 >> 21),
    "negative values": ("a.tif", saved((GREY - 900).astype(np.int32), "TIFF"), (GREY - GREY.min()) >> 4),
    "fractions": ("a.tif", saved((GREY / 4095).astype(np.float32), "TIFF"), (GREY / 4095 * 255).round()),
    "floating point": ("a.tif", saved(GREY.astype(np.float32), "TIFF"), GREY >> 4),
    "12-bit RGB PNG": ("a.png", png_of_16_bits(COLOURS[:, :, :3]), COLOURS[:, :, :3] >> 4),
    "12-bit RGBA PNG": ("a.png", png_of_16_bits(COLOURS), COLOURS[:, :, :3] >> 4),
    "12-bit grey PNG with alpha": ("a.png", png_of_16_bits(COLOURS[:, :, :2]), COLOURS[:, :, 0] >> 4),
    "16-bit RGB PNG": ("a.png", png_of_16_bits(COLOURS[:, :, :3] * 16), COLOURS[:, :, :3] >> 4),
    "12-bit RGB TIFF": ("a.tif", tiff_of_16_bits(COLOURS[:, :, :3]), COLOURS[:, :, :3] >> 4),
    "12-bit RGB TIFF, big-endian": ("a.tif", tiff_of_16_bits(COLOURS[:, :, :3], ">"), COLOURS[:, :, :3] >> 4),
    "12-bit RGB TIFF, compressed": ("a.tif", tiff_of_16_bits(COLOURS[:, :, :3], "<", True), COLOURS[:, :, :3] >> 4),
    "12-bit RGB TIFF, compressed, big-endian": (
        "a.tif",
        tiff_of_16_bits(COLOURS[:, :, :3], ">", True),
        COLOURS[:, :, :3] >> 4,
    ),
}  # fmt: skip
EIGHT_BITS = {"1": "png", "L": "png", "LA": "png", "P": "gif", "RGBA": "png", "RGBX": "tif", "CMYK": "tif"}


def by_training(folder: Path, name: str) -> np.ndarray:
    """What the model is given."""
    mapper = DetrPanopticDatasetMapper(False, augmentations=[])
    given = mapper({"file_name": str(folder / "images" / name), "image_id": 1})["image"].numpy()
    return given.transpose(1, 2, 0)


def by_prediction(folder: Path, name: str) -> np.ndarray:
    return read_image(folder / "images" / name)


def by_prepare(folder: Path, name: str) -> np.ndarray:
    words = ["--coco", folder, "--out", folder.parent / "prepared", "--workers", "1", "--val", "0"]
    assert cli.main(["prepare", *map(str, words)]) == 0
    (path,) = (path for path in (folder.parent / "prepared" / "images").rglob("*") if path.is_file())
    with Image.open(path) as image:
        assert image.mode in ("L", "RGB") or path.suffix == Path(name).suffix  # no copy of what only some can read
    return by_training(folder.parent / "prepared", str(path.relative_to(folder.parent / "prepared" / "images")))


def by_fix(folder: Path, name: str) -> np.ndarray:
    assert (
        cli.main(["check", str(folder / "labels.json"), "--fix", str(folder.parent / "fixed"), "--workers", "1"]) == 0
    )
    (path,) = (folder.parent / "fixed" / "images").iterdir()
    with Image.open(path) as image:
        assert image.mode in ("L", "RGB")
    return by_training(folder.parent / "fixed", path.name)


READERS: dict[str, Callable[[Path, str], np.ndarray]] = {
    "training": by_training,
    "prediction": by_prediction,
    "prepare": by_prepare,
    "check --fix": by_fix,
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("kind", DEEP)
def test_the_highest_eight_bits_that_are_used_are_read(kind: str, reader: str, tmp_path: Path) -> None:
    name, content, shown = DEEP[kind]
    write_dataset(tmp_path / "made", {name: content})

    read = READERS[reader](tmp_path / "made", name)

    expected = shown if shown.ndim == 3 else np.repeat(shown[:, :, None], 3, axis=2)
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, expected)


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("mode", EIGHT_BITS)
def test_eight_bits_are_read_as_pillow_converts_them(mode: str, reader: str, tmp_path: Path) -> None:
    colours = Image.fromarray((COLOURS[:, :, :3] >> 4).astype(np.uint8))
    name = f"a.{EIGHT_BITS[mode]}"
    folder = tmp_path / "made"
    write_dataset(folder, {name: colours.convert(mode)})
    with Image.open(folder / "images" / name) as image:
        expected = np.asarray(image.convert("RGB"))

    read = READERS[reader](folder, name)

    np.testing.assert_array_equal(read, expected)


@pytest.mark.parametrize("transparent", [0, 1])
def test_what_transparency_hides_is_shown(transparent: int, tmp_path: Path) -> None:
    image = Image.fromarray((GREY >> 11).astype(np.uint8), "P")
    image.putpalette([10, 20, 30, 200, 210, 220])
    folder = tmp_path / "made"
    write_dataset(folder, {"b.png": image})
    image.save(folder / "images" / "b.png", transparency=transparent)
    expected = np.array([[10, 20, 30], [200, 210, 220]])[GREY >> 11]

    for reader in READERS.values():
        np.testing.assert_array_equal(reader(folder, "b.png"), expected)


def test_pages_of_datasets_show_what_the_model_is_given(tmp_path: Path) -> None:
    pages = []
    for values in (GREY >> 4, GREY):
        write_dataset(tmp_path / "made", {"a.png": Image.fromarray(values.astype(np.uint16))})
        assert cli.main(["browse", str(tmp_path / "made" / "labels.json"), "--out", str(tmp_path / "page")]) == 0
        pages.append((tmp_path / "page" / "labels.html").read_text())

    assert pages[0] == pages[1]


def test_reports_show_what_the_model_was_given(tmp_path: Path) -> None:
    categories = [Category(i, f"class {i}", i < 3, (40 * i, 90, 200 - 30 * i)) for i in range(1, 6)]
    images = [*made_images(tmp_path / "data", 3, categories)]
    run = write_run(tmp_path / "run", images, categories)
    pages = []
    for shift in (0, 4):
        for image in images:
            eight_bits = (image.true_map * 20 + 15).astype(np.uint16)
            Image.fromarray(eight_bits << shift).save(image.file_name)
        pages.append(write_run_report(run, images=3, resamples=100).read_text())

    assert pages[0] == pages[1]


@pytest.mark.parametrize("kind", DEEP)
def test_check_names_more_than_eight_bits_which_training_copes_with(kind: str, tmp_path: Path) -> None:
    name, content, _ = DEEP[kind]
    write_dataset(tmp_path / "made", {name: content})

    assert cli.main(["check", str(tmp_path / "made" / "labels.json"), "--json", str(tmp_path / "faults.json")]) == 0

    assert faults_of(tmp_path / "faults.json") == [("image-depth", "warning")]


def test_an_upright_copy_of_a_turned_image_of_12_bits_is_right(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    folder = tmp_path / "made"
    write_dataset(folder, {"a.png": Image.fromarray(GREY.astype(np.uint16))})
    Image.fromarray(GREY.astype(np.uint16)).save(folder / "images" / "a.png", exif=exif)
    content = json.loads((folder / "labels.json").read_text())
    content["images"][0].update(width=SIZE[0], height=SIZE[1])
    (folder / "labels.json").write_text(json.dumps(content))
    upright = np.repeat(np.rot90(GREY >> 4, -1)[:, :, None], 3, axis=2)

    for reader in READERS.values():
        np.testing.assert_array_equal(reader(folder, "a.png"), upright)


def test_a_panoptic_png_of_16_bits_is_refused_by_name(tmp_path: Path) -> None:
    labels = write_dataset(tmp_path, {"a.jpg": Image.new("RGB", (40, 30))}, panoptic=True)
    ids = np.zeros((30, 40, 3), np.uint16)
    ids[3:18, 2:22, 0] = 7
    (tmp_path / "panoptic" / "a.png").write_bytes(png_of_16_bits(ids))

    assert cli.main(["check", str(labels), "--json", str(tmp_path / "faults.json")]) == 1

    assert ("png-mode", "error") in faults_of(tmp_path / "faults.json")
