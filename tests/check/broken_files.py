"""Ways to break the files of a dataset: pictures and panoptic PNGs."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
from PIL import Image

from detr_d2.labels.values import MOST_PIXELS
from tests.check.breaking import IMAGE, INSTANCES, PANOPTIC, SEGMENT, Ways, png_of

WAYS = Ways()


@WAYS.case("image-size", IMAGE, INSTANCES)
def json_size_is_another(built: Any, image: Any, segment: Any) -> None:
    with Image.open(built.folder / "images" / image["file_name"]) as picture:
        picture.resize((70, 70)).save(built.folder / "images" / image["file_name"])


@WAYS.case("image-turned", IMAGE)
def picture_is_turned_by_exif(built: Any, image: Any, segment: Any) -> None:
    _save_again(built, image, orientation=built.random.choice([5, 6, 7, 8]))


@WAYS.case("image-orientation", IMAGE)
def picture_is_upside_down_by_exif(built: Any, image: Any, segment: Any) -> None:
    _save_again(built, image, orientation=built.random.choice([2, 3, 4]))


@WAYS.case("image-depth", IMAGE)
def picture_has_sixteen_bits(built: Any, image: Any, segment: Any) -> None:
    pixels = np.full((image["height"], image["width"]), 40000, np.uint16)
    Image.fromarray(pixels).save(built.folder / "images" / image["file_name"])


@WAYS.case("image-frames", IMAGE)
def image_has_several_frames(built: Any, image: Any, segment: Any) -> None:
    path = built.folder / "images" / image["file_name"]
    with Image.open(path) as picture:
        picture.save(path.with_suffix(".tif"), save_all=True, append_images=[picture.rotate(180)])
    path.unlink()
    image["file_name"] = path.with_suffix(".tif").name


@WAYS.case("image-mode", IMAGE)
def picture_is_not_rgb(built: Any, image: Any, segment: Any) -> None:
    mode, kind = built.random.choice([("RGBA", "PNG"), ("P", "PNG"), ("CMYK", "JPEG"), ("LA", "PNG")])
    path = built.folder / "images" / image["file_name"]
    with Image.open(path) as picture:
        changed = picture.convert(mode)
    changed.save(path, format=kind)


@WAYS.case("image-broken", IMAGE)
def picture_is_cut_off_or_empty_or_noise(built: Any, image: Any, segment: Any) -> None:
    path = built.folder / "images" / image["file_name"]
    content = path.read_bytes()
    path.write_bytes(built.random.choice([b"", content[: len(content) // 2], built.random.randbytes(500)]))


@WAYS.case("image-suffix", IMAGE)
def picture_is_called_otherwise(built: Any, image: Any, segment: Any) -> None:
    path = built.folder / "images" / image["file_name"]
    image["file_name"] = path.rename(path.with_suffix(built.random.choice([".data", ""]))).name


@WAYS.case("image-missing", IMAGE)
def picture_is_gone(built: Any, image: Any, segment: Any) -> None:
    (built.folder / "images" / image["file_name"]).unlink()


@WAYS.case("image-large", IMAGE)
def picture_is_a_bomb(built: Any, image: Any, segment: Any) -> None:
    path = built.folder / "images" / image["file_name"]
    side = built.random.choice([14_000, 60_000])
    assert side**2 > MOST_PIXELS
    content = bytearray(path.read_bytes())
    content[16:24] = side.to_bytes(4, "big") * 2
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    path.write_bytes(content)


@WAYS.case("png-missing", IMAGE, PANOPTIC)
def png_is_gone(built: Any, image: Any, segment: Any) -> None:
    png_of(built, image).unlink()


@WAYS.case("png-broken", IMAGE, PANOPTIC)
def png_is_noise(built: Any, image: Any, segment: Any) -> None:
    png_of(built, image).write_bytes(built.random.choice([b"", built.random.randbytes(300)]))


@WAYS.case("png-mode", IMAGE, PANOPTIC)
def png_is_palette_grey_or_jpeg(built: Any, image: Any, segment: Any) -> None:
    mode, kind = built.random.choice([("P", "PNG"), ("L", "PNG"), ("RGB", "JPEG")])
    with Image.open(png_of(built, image)) as picture:
        changed = picture.convert(mode)
    changed.save(png_of(built, image), format=kind)


@WAYS.case("png-alpha", IMAGE, PANOPTIC)
def png_has_transparency(built: Any, image: Any, segment: Any) -> None:
    with Image.open(png_of(built, image)) as picture:
        changed = picture.convert("RGBA")
    changed.save(png_of(built, image))


@WAYS.case("png-unlisted", SEGMENT, PANOPTIC)
def json_lacks_an_id_of_thepng_of(built: Any, image: Any, segment: Any) -> None:
    for entry in built.content["annotations"]:
        entry["segments_info"] = [info for info in entry["segments_info"] if info is not segment]


@WAYS.case("png-absent", SEGMENT, PANOPTIC)
def png_lacks_an_id_of_the_json(built: Any, image: Any, segment: Any) -> None:
    with Image.open(png_of(built, image)) as picture:
        colors = np.asarray(picture).astype(np.int64)
    ids = colors[..., 0] + 256 * colors[..., 1] + 65536 * colors[..., 2]
    built.write_ids(png_of(built, image), np.where(ids == segment["id"], 0, ids))


def _save_again(built: Any, image: Any, orientation: int) -> None:
    path = built.folder / "images" / image["file_name"]
    exif = Image.Exif()
    exif[274] = orientation
    with Image.open(path) as picture:
        picture.load()
        picture.save(path, exif=exif)


@WAYS.case("png-size", IMAGE, PANOPTIC)
def png_is_of_another_size(built: Any, image: Any, segment: Any) -> None:
    with Image.open(png_of(built, image)) as picture:
        changed = picture.resize((70, 70), Image.Resampling.NEAREST)
    changed.save(png_of(built, image))


@WAYS.case("png-void", IMAGE, PANOPTIC)
def png_is_void(built: Any, image: Any, segment: Any) -> None:
    built.write_ids(png_of(built, image), np.zeros((image["height"], image["width"]), np.int64))
    entry = next(entry for entry in built.content["annotations"] if entry["image_id"] == image["id"])
    entry["segments_info"] = []
