"""Images compared by how they look: the same one saved twice, made smaller, or one of a burst.

Source: the perceptual hash of ImageHash's ``phash``: signs of the lowest 8x8 cosine frequencies about their median.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import imagehash
import numpy as np
from PIL import Image

from detr_d2.files import open_regular

from .image_reading import load_eight_bits, open_image
from .values import MOST_PIXELS

#: An image whose thumbnail varies by less than this many grey levels has no pattern to compare.
LEAST_CONTRAST = 4.0
#: Pixels of a thumbnail's side.
THUMBNAIL = 16


@dataclass(frozen=True)
class Fingerprint:
    """What images are compared by.

    Args:
        digest: of the file's bytes.
        hash: 64 bits, nearly the same for images that look the same; None without a pattern.
        thumbnail: (256,) uint8 grey levels.
    """

    digest: bytes
    hash: int | None
    thumbnail: np.ndarray


def fingerprint_of(path: str) -> Fingerprint | None:
    """The fingerprint of an image; None where it can't be read, which other checks say."""
    try:
        with open_regular(path) as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            digest = hashlib.blake2b()
            while block := file.read(2**20):
                digest.update(block)
            file.seek(0)
            with open_image(file) as image:
                if image.width * image.height > MOST_PIXELS:
                    return None
                image.draft("L", (64, 64))  # JPEGs are decoded at an eighth of their size
                grey = load_eight_bits(image).convert("L")
    except Exception:  # decoders raise whatever they like on broken files
        return None
    thumbnail = np.asarray(grey.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX)).ravel()
    if thumbnail.std() < LEAST_CONTRAST:
        return Fingerprint(digest.digest(), None, thumbnail)
    return Fingerprint(digest.digest(), image_hash(grey), thumbnail)


def image_hash(image: Image.Image) -> int:
    """64 bits that stay the same when an image is resized, or saved again with losses.

    Args:
        image: upright.
    """
    bits = imagehash.phash(image).hash.ravel()
    return int("".join("1" if bit else "0" for bit in bits), 2)


def group_equal(hashes: Sequence[Hashable]) -> list[int]:
    """For each image the number of its group: that of the first image with the same hash."""
    first: dict[Hashable, int] = {}
    return [first.setdefault(value, number) for number, value in enumerate(hashes)]
