"""Photos: the pixels that Detectron2 reads, or an error where the file is cut off."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detr_d2.data import DetrPanopticDatasetMapper
from detr_d2.errors import DatasetError
from detr_d2.labels.image_reading import read_whole_image

from detectron2.data.detection_utils import read_image

NOISE = np.random.default_rng(0).integers(0, 256, (200, 300, 3), dtype=np.uint8)


@pytest.mark.parametrize("image_format", ["RGB", "BGR", "L"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize(("mode", "suffix"), [("RGB", ".jpg"), ("RGBA", ".png"), ("P", ".png"), ("L", ".webp")])
def test_pixels_are_those_that_detectron2_reads(
    tmp_path: Path, mode: str, suffix: str, orientation: int, image_format: str
) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    path = str(tmp_path / f"image{suffix}")
    Image.fromarray(NOISE[:20, :30]).convert(mode).save(path, exif=exif)

    np.testing.assert_array_equal(read_whole_image(path, image_format), read_image(path, format=image_format))


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".bmp", ".tif"])
@pytest.mark.parametrize("share", [0.05, 0.3, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("with_exif", [False, True])
def test_image_that_is_cut_off_is_an_error(tmp_path: Path, suffix: str, share: float, with_exif: bool) -> None:
    exif = Image.Exif()
    exif[274] = 6
    path = tmp_path / f"image{suffix}"
    Image.fromarray(NOISE).save(path, **({"exif": exif} if with_exif and suffix != ".bmp" else {}))
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])

    with pytest.raises(Exception, match=r"\w"):
        read_whole_image(str(path), "RGB")


def test_damaged_exif_data_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "image.jpg"
    Image.fromarray(NOISE).save(path, exif=b"Exif\x00\x00MM\x00\x2a\xff\xff\xff\xff")

    assert read_whole_image(str(path), "RGB").shape == (200, 300, 3)


@pytest.mark.parametrize("is_train", [False, True])
def test_cut_off_image_is_named_by_the_mapper(tmp_path: Path, is_train: bool) -> None:
    path = tmp_path / "photo.png"
    Image.fromarray(NOISE).save(path)
    path.write_bytes(path.read_bytes()[:60_000])  # Detectron2 reads it, its lower part black
    mapper = DetrPanopticDatasetMapper(is_train, augmentations=[])
    record = {"file_name": str(path), "image_id": 7, "height": 200, "width": 300, "annotations": []}

    with pytest.raises(DatasetError, match=r"photo\.png \(image id 7\): image-broken: can't be read: .*Fix: restore"):
        mapper(record)
