"""Images and PNGs that the mapper reads: other modes, turned, of another size, broken, absent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from detr_d2.errors import DatasetError, MissingFileError
from tests.data.made_samples import SKY, make_mapper, write_ids


def test_unlisted_ids_are_an_error_with_image_and_segment(sample: dict[str, Any]) -> None:
    del sample["segments_info"][1]

    with pytest.raises(DatasetError, match=r"a\.png \(image id 42, segment id 300\): png-unlisted: has .*doesn't list"):
        make_mapper()(sample)


def test_png_of_another_size_is_an_error_with_both_sizes(sample: dict[str, Any]) -> None:
    write_ids(Path(sample["pan_seg_file_name"]), np.full((20, 31), SKY))

    with pytest.raises(DatasetError, match=r"a\.png \(image id 42\): png-size: is 31x20 pixels; the JSON says 30x20"):
        make_mapper()(sample)


def test_json_of_another_size_is_an_error(sample: dict[str, Any]) -> None:
    sample["width"] = 31

    with pytest.raises(DatasetError, match=r"image id 42\): image-size: is 30x20 pixels upright; .* for 31x20"):
        make_mapper()(sample)


def write_turned(path: Path, upright: Image.Image) -> None:
    """An image stored lying on its side, with the EXIF tag that says how to turn it."""
    exif = Image.Exif()
    exif[274] = 6
    upright.transpose(Image.Transpose.ROTATE_90).save(path, exif=exif)


def test_exif_rotation_is_undone_before_labels_are_compared(sample: dict[str, Any], tmp_path: Path) -> None:
    expected = make_mapper()(sample)
    write_turned(tmp_path / "turned.png", Image.open(sample["file_name"]))

    turned = make_mapper()({**sample, "file_name": str(tmp_path / "turned.png")})

    torch.testing.assert_close(turned["image"], expected["image"])
    torch.testing.assert_close(turned["instances"].gt_masks.tensor, expected["instances"].gt_masks.tensor)


def test_sizes_of_the_unturned_image_are_explained(sample: dict[str, Any], tmp_path: Path) -> None:
    write_turned(tmp_path / "turned.png", Image.open(sample["file_name"]))

    with pytest.raises(DatasetError, match=r"image-turned: .* for 20x30.*EXIF"):
        make_mapper()({**sample, "file_name": str(tmp_path / "turned.png"), "width": 20, "height": 30})


@pytest.mark.parametrize("key", ["file_name", "pan_seg_file_name"])
def test_missing_image_is_named(sample: dict[str, Any], key: str) -> None:
    Path(sample[key]).unlink()

    with pytest.raises(MissingFileError, match=Path(sample[key]).name):
        make_mapper()(sample)


@pytest.mark.parametrize("key", ["file_name", "pan_seg_file_name"])
@pytest.mark.parametrize("share", [0, 0.3, 0.6])
def test_broken_image_is_named(sample: dict[str, Any], key: str, share: float) -> None:
    path = Path(sample[key])
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])

    with pytest.raises(DatasetError, match=rf"{path.name}.* can't be read"):
        make_mapper()(sample)


@pytest.mark.parametrize("mode", ["L", "P", "I;16"])
def test_panoptic_png_without_colours_is_refused(sample: dict[str, Any], mode: str) -> None:
    Image.new(mode, (30, 20)).save(sample["pan_seg_file_name"])

    with pytest.raises(DatasetError, match=r"a\.png \(image id 42\): png-mode: is a PNG of mode"):
        make_mapper()(sample)


def test_panoptic_jpeg_is_refused(sample: dict[str, Any]) -> None:
    Image.new("RGB", (30, 20)).save(sample["pan_seg_file_name"], format="JPEG")

    with pytest.raises(DatasetError, match=r"a\.png \(image id 42\): png-mode: is a JPEG"):
        make_mapper()(sample)


@pytest.mark.parametrize("mode", ["L", "RGBA", "CMYK", "P"])
def test_images_of_other_modes_become_rgb(sample: dict[str, Any], tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("other.jpg" if mode == "CMYK" else "other.png")
    Image.open(sample["file_name"]).convert(mode).save(path)

    result = make_mapper()({**sample, "file_name": str(path)})

    assert result["image"].shape == (3, 20, 30)
    assert result["image"].dtype == torch.uint8
