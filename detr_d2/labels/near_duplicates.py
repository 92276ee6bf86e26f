"""Images that look the same: one saved twice, made smaller, or one of a burst.

Source: the perceptual hash of ImageHash's ``phash``: signs of the lowest 8x8 cosine frequencies about their median.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import imagehash
from PIL import Image


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
