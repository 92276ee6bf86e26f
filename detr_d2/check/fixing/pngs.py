"""Mending panoptic PNGs: in RGB, of the picture's size, with the ids that the JSON lists and no others."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from detr_d2.labels.file_places import copy_file, opened
from detr_d2.labels.image_decoding import is_deep, open_image
from detr_d2.labels.image_size import MOST_PIXELS

from ..pictures import reason
from ..pngs import ids_of_colors
from .pictures import Incurable, Size, same_ratio
from .values import as_whole


@dataclass
class Png:
    """A panoptic PNG.

    Args:
        path: of the original.
        ids: (H, W) int32; 0 is void.
        code: of the fault that it is mended of, or empty.
    """

    path: str
    ids: np.ndarray
    code: str = ""

    @property
    def size(self) -> Size:
        """width, height"""
        return self.ids.shape[1], self.ids.shape[0]


def read_png(path: str, listed: Sequence[Any]) -> Png:
    """The ids of a PNG in any form that keeps them.

    In grey or with a palette they are still there where they are just the ones that the JSON lists.

    Args:
        path: of the file.
        listed: ids of the JSON's segments.

    Raises:
        Incurable: it can't be read, or its ids are lost.
    """
    wanted = {whole for value in listed if (whole := as_whole(value)) is not None}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with opened(path) as file, open_image(file) as picture:
                if picture.width * picture.height > MOST_PIXELS:
                    raise Incurable("picture-large", f"has {picture.width}x{picture.height} pixels")
                mode, kind, has_more_bits = picture.mode, picture.format, is_deep(picture)
                picture.load()
                if mode in ("RGB", "RGBA") and kind != "JPEG" and not has_more_bits:
                    ids = ids_of_colors(np.asarray(picture)[:, :, :3])
                    return Png(path, ids, "png-alpha" if mode == "RGBA" else "")
                forms = [ids_of_colors(np.asarray(picture.convert("RGB")))]
                if mode in ("P", "L", "I", "I;16"):
                    forms.append(np.asarray(picture).astype(np.int32))
    except Incurable:
        raise
    except Image.DecompressionBombError as error:
        raise Incurable("picture-large", f"{error}") from error
    except Exception as error:  # decoders raise whatever they like on broken files
        raise Incurable("png-broken", f"can't be read: {reason(path, error)}") from error
    for ids in forms:
        if set(np.unique(ids).tolist()) - {0} == wanted and wanted:
            return Png(path, ids, "png-mode")
    raise Incurable("png-mode", f"is a {kind} of mode {mode}, and its ids can't be told")


def fit_png(png_: Png, size: Size) -> None:
    """Give it the picture's size, if it only was made smaller or larger.

    Raises:
        Incurable: it is of something else.
    """
    if png_.size == size:
        return
    (width, height), found = size, png_.size
    if not same_ratio(size, found):
        raise Incurable("png-size", f"is {found[0]}x{found[1]} pixels; its picture is {width}x{height}")
    rows = (np.arange(height) * found[1] / height).astype(np.int64)
    columns = (np.arange(width) * found[0] / width).astype(np.int64)
    png_.ids = png_.ids[rows][:, columns]
    png_.code = "png-size"


def write_png(png: Png, target: Path) -> None:
    """The PNG of the copy: the original's bytes if nothing changed.

    Raises:
        OSError: it can't be written.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    if not png.code:
        copy_file(png.path, target)
        return
    ids = png.ids
    colors = np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1).astype(np.uint8)
    Image.fromarray(colors).save(target, "PNG")
