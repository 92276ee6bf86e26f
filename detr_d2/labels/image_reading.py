"""Images of any kind in 8 bits a channel, as training, prediction, ``prepare``, ``check`` and pages all read them.

Photos are given to a model upright, in the colours asked for, whole or not at all.
"""

from __future__ import annotations

import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import IO, Any, NamedTuple

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from detr_d2.files import open_regular

from .archives import NOT_THERE, opened, size_of
from .records import FileRef
from .rules.rule import Place, raise_errors
from .values import MOST_PIXELS, Size, Unreadable


def read_whole_image(path: str, image_format: str) -> np.ndarray:
    """The pixels that Detectron2's ``read_image`` gives, but an error where a file is cut off, and 8 bits of 16.

    Pillow may decode an image when its EXIF data are asked for, and Detectron2 passes over what goes wrong then; the
    lower part of a truncated PNG becomes black, and nobody notices. So the pixels are read first. More than 8 bits a
    channel aren't cut off, but shifted; see :func:`~detr_d2.labels.image_reading.load_eight_bits`.

    Args:
        path: of the image.
        image_format: ``"RGB"`` or ``"BGR"``, or another mode of Pillow.

    Returns:
        (H, W, C) uint8, turned as the EXIF orientation says.

    Raises:
        SpecialFileError: a pipe, a device or a folder is there.
        Exception: whatever Pillow raises on files that aren't there, broken or cut off.
    """
    with open_regular(fetched(path)) as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about odd EXIF data
        with open_image(file) as image:
            eight_bits = load_eight_bits(image)
            upright = turned(eight_bits, orientation_of(image))
            mode = "RGB" if image_format == "BGR" else image_format
            pixels = np.asarray(upright if upright.mode == mode else upright.convert(mode))
    if image_format == "BGR":
        return pixels[:, :, ::-1]
    return pixels[:, :, None] if pixels.ndim == 2 else pixels


def fetched(path: str | os.PathLike[str]) -> str:
    """The path of a local file; an address is left to Detectron2, which commands without addresses needn't wait for."""
    path = os.fspath(path)
    if "://" not in path:
        return path
    from detectron2.utils.file_io import PathManager

    return str(PathManager.get_local_path(path))


def read_dataset_image(path: str, image_format: str, image_id: Any = None) -> np.ndarray:
    """An image of a dataset, as :func:`read_whole_image` gives it; ``image_id`` is for messages.

    Raises:
        MissingFileError: it isn't there.
        DatasetError: it can't be read.
    """
    place = Place(path, image_id)
    try:
        return read_whole_image(path, image_format)
    except FileNotFoundError:
        raise_errors([place.found("image-missing", f"{NOT_THERE}.")])
        raise
    except Exception as error:  # decoders raise whatever they like on broken files
        raise_errors([place.found("image-broken", f"can't be read: {reading_error(path, error)}.")])
        raise


def reading_error(path: str | os.PathLike[str], error: Exception) -> str:
    """What :func:`read_whole_image` raised, in a few words."""
    is_file = os.path.isfile(path)  # an address isn't, for one
    return unreadable_reason(error, os.path.getsize(path) if is_file else -1)


#: Pillow's names of what files of images may hold. Its other readers stay out: one starts another program (EPS).
IMAGE_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
#: Pillow's modes that a network is given as they are.
PLAIN_MODES = ("RGB", "L")
#: EXIF orientations that exchange width and height.
TURNED_SIDEWAYS = (5, 6, 7, 8)

#: Where Pillow keeps an orientation, and may write it again.
INFO_OF_EXIF = ("exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif")

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
#: Alpha that was multiplied into the colours; Pillow converts these modes to nothing else.
_PREMULTIPLIED = {"RGBa": "RGBA", "La": "LA"}
#: How Pillow calls 16 bits a channel in a file, of which it keeps the upper 8 (big, little or native endian).
_DEEP_COLOUR = re.compile(r"(RGB|RGBA|RGBX|LA);16[BLN]")
#: What unpacks the other byte of each channel.
_OTHER_BYTE = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}


def open_image(file: IO[bytes]) -> Image.Image:
    """Opens one of :data:`IMAGE_FORMATS`, by what is in it; raises whatever Pillow raises."""
    return Image.open(file, formats=IMAGE_FORMATS)


def is_deep(image: Image.Image) -> bool:
    """Whether a channel has more than 8 bits; ``image`` was opened and isn't loaded yet."""
    return _is_deep_grey(image) or _DEEP_COLOUR.fullmatch(_raw_mode(image)) is not None


def load_eight_bits(image: Image.Image) -> Image.Image:
    """The image with 8 bits a channel, in a mode that Pillow converts to any other; not turned by EXIF.

    Of more than 8 bits the highest 8 that the image uses are taken, the same for all channels, so that 12 bits in a
    file of 16 aren't black: values are shifted right until the largest fits; negative ones are first raised to 0.
    Floating-point values within 0 to 1, or -1 to 1, become 0 to 255. Values that aren't finite are the largest, the
    smallest, and 0 for NaN.

    Args:
        image: opened from a file object, and not loaded yet.

    Returns:
        ``image`` itself, loaded, unless something of that had to be done; then one of mode RGB or L. RGB and L are
        never anything else, and the mode stays for palettes, transparency and inks.

    Raises:
        Exception: whatever Pillow raises on broken files.
    """
    deep_colour = _DEEP_COLOUR.fullmatch(_raw_mode(image))
    file = getattr(image, "fp", None)  # images that were made or loaded have none
    image.load()
    if _is_deep_grey(image):
        return _like(_shifted_grey(np.asarray(image)), image)
    if deep_colour and file is not None:
        return _shifted_colour(image, file, deep_colour[1] == "LA")
    return image.convert(_PREMULTIPLIED[image.mode]) if image.mode in _PREMULTIPLIED else image


@contextmanager
def image_of(path: str, broken: str) -> Iterator[Image.Image]:
    """An image, on disk or in a zip; raises :class:`Unreadable`, where ``broken`` is the code of the rule."""
    with image_in(lambda: opened(path), lambda: size_of(path), broken) as image:
        yield image


@contextmanager
def image_in(
    open_file: Callable[[], AbstractContextManager[IO[bytes]]], size: Callable[[], int], broken: str
) -> Iterator[Image.Image]:
    """An image in a file of some bytes that can be opened; raises as :func:`image_of`."""
    try:
        with open_file() as file, open_image(file) as image:
            if image.width * image.height > MOST_PIXELS:
                raise Unreadable("image-large", f"has {image.width}x{image.height} pixels.")
            yield image
    except Unreadable:
        raise
    except Image.DecompressionBombError as error:
        raise Unreadable("image-large", f"{error}") from error
    except Exception as error:  # decoders raise whatever they like on broken files
        raise Unreadable(broken, f"can't be read: {unreadable_reason(error, size())}.") from error


def header_size(file: FileRef) -> Size:
    """Width and height that an image's header says; 0, 0 where it has none."""
    try:
        with file.open() as opened_file, open_image(opened_file) as image:
            return image.size
    except Exception:  # decoders raise whatever they like on broken files; it is read again, and named, later
        return 0, 0


def same_ratio(first: Size, second: Size) -> bool:
    """Whether images of these sizes can be one, made smaller or larger: their sides' ratios differ by 1% at most."""
    return abs(first[0] * second[1] / (first[1] * second[0]) - 1) <= 0.01


class LoadedImage(NamedTuple):
    """An image that was read to its last pixel.

    Args:
        size: width, height, before an EXIF tag turns it.
        mode: Pillow's, as in the file.
        is_deep: a channel has more than 8 bits there.
        pixels: of 8 bits a channel.
        orientation: EXIF's tag, or None.
        frames: images in the file, of which this is the first; what cameras add to a JPEG (MPO) doesn't count.
    """

    size: tuple[int, int]
    mode: str
    is_deep: bool
    pixels: Image.Image
    orientation: int | None
    frames: int = 1


def load_image(image: Image.Image) -> LoadedImage:
    """Read an image that Pillow has opened; raises whatever Pillow raises on broken files."""
    frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
    size, mode, has_more_bits = image.size, image.mode, is_deep(image)
    pixels = load_eight_bits(image)  # before EXIF is asked for: see orientation_of
    return LoadedImage(size, mode, has_more_bits, pixels, orientation_of(image), frames)


def orientation_of(image: Image.Image) -> int | None:
    """The EXIF orientation of a loaded image, 1 to 8; None where there is none that makes sense.

    Pillow may decode when EXIF data are asked for, and an error that is passed over then never comes again.
    """
    try:
        value = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # all sorts of errors on damaged EXIF data, which nobody turns images by
        return None
    return value if isinstance(value, int) and 1 <= value <= 8 else None


def turned(image: Image.Image, orientation: int | None) -> Image.Image:
    """The image turned as an EXIF orientation says."""
    return image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image


def unreadable_reason(error: Exception, size: int) -> str:
    """Why an image can't be read, in a few words: of what was raised, and of the bytes that its file has."""
    if size == 0:
        return "the file is empty"
    if isinstance(error, UnidentifiedImageError):
        return f"it is no image, or none of {', '.join(IMAGE_FORMATS)}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split())[:200] or type(error).__name__


def _is_deep_grey(image: Image.Image) -> bool:
    return image.mode in ("I", "F") or image.mode.startswith("I;")


def _raw_mode(image: Image.Image) -> str:
    """What Pillow calls the pixels of a file that isn't decoded yet; empty where it has no name for them."""
    tiles = getattr(image, "tile", None)
    arguments: Any = tiles[0][3] if tiles else ""
    first = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    return first if isinstance(first, str) else ""


def _shifted_grey(values: np.ndarray) -> np.ndarray:
    """(H, W) uint8 of integers or floating-point numbers, see :func:`load_eight_bits`."""
    if values.dtype.kind == "f":
        finite = values[np.isfinite(values)]
        low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
        values = np.nan_to_num(values.astype(np.float64), nan=min(max(low, 0.0), high), posinf=high, neginf=low)
        if low >= -1 and high <= 1:
            dark = -1.0 if low < 0 else 0.0
            return ((values - dark) / (1 - dark) * 255).round().astype(np.uint8)
        values = np.floor(values)
    lowest = min(0, int(values.min()))
    bits = _spare_bits(int(values.max()) - lowest)
    if lowest == 0 and values.dtype.kind == "u":
        return (values >> bits).astype(np.uint8)
    return ((values.astype(np.float64) - lowest) // 2**bits).astype(np.uint8)


def _shifted_colour(image: Image.Image, file: IO[bytes], is_grey: bool) -> Image.Image:
    """An image of 16 bits a channel, of which Pillow has loaded the upper 8."""
    upper = np.asarray(image)[:, :, : 1 if is_grey else 3]
    if upper.max(initial=0) < 128:
        file.seek(0)
        with open_image(file) as again:
            again.tile = [_for_lower_byte(tile) for tile in again.tile]  # type: ignore[attr-defined]
            again.load()
            lower = np.asarray(again)[:, :, 1:2] if is_grey else np.asarray(again)[:, :, :3]
        values = upper.astype(np.uint16) * 256 + lower
        upper = (values >> _spare_bits(int(values.max(initial=0)))).astype(np.uint8)
    return _like(np.ascontiguousarray(upper[:, :, 0] if is_grey else upper), image)


def _for_lower_byte(tile: Any) -> Any:
    """Where pixels stand in a file, by Pillow's account, with another way to unpack what is decoded there."""
    arguments = tile[3]
    name = arguments[0] if isinstance(arguments, tuple) else arguments
    # Of grey with alpha the four bytes as they are: of each channel the upper and the lower one.
    other = "RGBA" if name.startswith("LA") else name[:-1] + _OTHER_BYTE[name[-1]]
    changed = (other, *arguments[1:]) if isinstance(arguments, tuple) else other
    return tile._replace(args=changed) if hasattr(tile, "_replace") else (*tile[:3], changed)


def _spare_bits(largest: int) -> int:
    return max(0, largest.bit_length() - 8)


def _like(pixels: np.ndarray, image: Image.Image) -> Image.Image:
    """An image of these pixels with what Pillow knows of another one, such as its colour profile."""
    made = Image.fromarray(pixels)
    made.info = {key: value for key, value in image.info.items() if key != "transparency"}
    return made
