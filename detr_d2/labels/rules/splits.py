"""Images that are in training and in validation, whose figures can't be trusted: compared by how images look.

Source: the perceptual hash of ImageHash's ``phash``: signs of the lowest 8x8 cosine frequencies about their median.
"""

from __future__ import annotations

import hashlib
import os
import re
import warnings
from collections.abc import Hashable, Iterator, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from detr_d2.files import open_regular
from detr_d2.parallel import in_processes

from ..values import MOST_PIXELS, shown
from .images import ListedImage
from .rule import Finding, Place

if TYPE_CHECKING:
    from PIL import Image

#: An image whose thumbnail, of 16x16 pixels, varies by less than so many grey levels has no pattern to compare.
_LEAST_CONTRAST, _THUMBNAIL = 4.0, (16, 16)
#: Perceptual hashes of near-duplicates differ in so many of their 64 bits, and their thumbnails in so many grey levels.
_MOST_BITS, _MOST_LEVELS = 8, 6.0

_HELD_OUT = {"val", "valid", "validation", "minival", "test", "testing", "dev", "eval", "evaluation", "holdout"}
_TRAINED = {"train", "training"}
_BITS = np.array([bin(number).count("1") for number in range(2**16)], dtype=np.uint8)


class ListedDataset(NamedTuple):
    """One registered dataset, and the images that its JSON lists; words in its name say whether it is for training."""

    name: str
    json_file: str
    images: Sequence[ListedImage]


def role(name: str) -> Literal["train", "held-out"] | None:
    """What a dataset is for, by the words in its name; None where they don't say, or say both."""
    words = set(re.findall(r"[a-z]+", name.lower()))
    trained, held_out = bool(words & _TRAINED), bool(words & _HELD_OUT)
    return None if trained == held_out else ("train" if trained else "held-out")


def find_leaks(splits: Sequence[ListedDataset], quick: bool = False, workers: int = 1) -> Iterator[tuple[str, Finding]]:
    """JSON of the training dataset and finding for each training image that a held-out dataset has, too.

    Args:
        splits: of one register.yaml, or of one training.
        quick: look whether the files are the same, but into none.
        workers: processes that read images.
    """
    trained = [split for split in splits if role(split.name) == "train"]
    held_out = [split for split in splits if role(split.name) == "held-out"]
    if not trained or not held_out:
        return
    held = _Held(held_out, quick, workers)
    for split in trained:
        for image, fingerprint in _fingerprints(split, quick, workers):
            code, message = held.leak(image, fingerprint)
            if code:
                place = Place(image.path or "", image.image_id, text=f"of {split.name}")
                yield split.json_file, place.found(code, message)


class _Held:
    """The held-out images, to be looked up; each is called by its name and that of its dataset."""

    def __init__(self, splits: Sequence[ListedDataset], quick: bool, workers: int) -> None:
        self._by_path: dict[str, str] = {}
        self._by_digest: dict[bytes, str] = {}
        self._names: list[str] = []
        hashes, thumbnails = [], []
        for split in splits:
            for image, fingerprint in _fingerprints(split, quick, workers):
                path = image.path or ""
                name = f"{split.name} (image id {shown(image.image_id)}, {shown(os.path.basename(path))})"
                self._by_path.setdefault(os.path.realpath(path), name)
                if fingerprint is not None:
                    self._by_digest.setdefault(fingerprint.digest, name)
                    if fingerprint.hash is not None:
                        self._names.append(name)
                        hashes.append(fingerprint.hash)
                        thumbnails.append(fingerprint.thumbnail)
        self._hashes = np.array(hashes, dtype=np.uint64)
        self._thumbnails = np.array(thumbnails)

    def leak(self, image: ListedImage, fingerprint: Fingerprint | None) -> tuple[str, str]:
        """Code and message for an image that is held out, too; both empty for one that isn't."""
        same = self._by_path.get(os.path.realpath(image.path or ""))
        if same is None and fingerprint is not None:
            same = self._by_digest.get(fingerprint.digest)
        if same is not None:
            return "split-leak", f"is an image of {same} too."
        near = self._near(fingerprint) if fingerprint is not None and fingerprint.hash is not None else None
        return ("split-near", f"looks like an image of {near}.") if near is not None else ("", "")

    def _near(self, fingerprint: Fingerprint) -> str | None:
        if not self._names:
            return None
        different = np.ascontiguousarray(self._hashes ^ np.uint64(fingerprint.hash or 0)).view(np.uint16)
        candidates = np.flatnonzero(_BITS[different].reshape(-1, 4).sum(axis=1) <= _MOST_BITS)
        levels = np.abs(self._thumbnails[candidates].astype(np.int16) - fingerprint.thumbnail).mean(axis=1)
        near = candidates[levels <= _MOST_LEVELS]
        return self._names[near[0]] if len(near) else None


def _fingerprints(split: ListedDataset, quick: bool, workers: int) -> Iterator[tuple[ListedImage, Fingerprint | None]]:
    there = [image for image in split.images if image.path is not None and os.path.isfile(image.path)]
    if quick:
        yield from ((image, None) for image in there)
    else:
        yield from zip(there, in_processes(fingerprint_of, [image.path or "" for image in there], workers))


class Fingerprint(NamedTuple):
    """What images are compared by: their bytes, 64 bits (None without a pattern), and 256 grey levels."""

    digest: bytes
    hash: int | None
    thumbnail: np.ndarray


def fingerprint_of(path: str) -> Fingerprint | None:
    """The fingerprint of an image; None where it can't be read, which other checks say."""
    from PIL import Image  # and what reads images, which a quick check doesn't need

    from ..image_reading import load_eight_bits, open_image

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
    thumbnail = np.asarray(grey.resize(_THUMBNAIL, Image.Resampling.BOX)).ravel()
    has_pattern = thumbnail.std() >= _LEAST_CONTRAST
    return Fingerprint(digest.digest(), image_hash(grey) if has_pattern else None, thumbnail)


def image_hash(image: Image.Image) -> int:
    """64 bits of an upright image that stay the same when it is resized, or saved again with losses."""
    import imagehash  # with SciPy, which a quick check doesn't need

    bits = imagehash.phash(image).hash.ravel()
    return int("".join("1" if bit else "0" for bit in bits), 2)


def group_equal(hashes: Sequence[Hashable]) -> list[int]:
    """For each image the number of its group: that of the first image with the same hash."""
    first: dict[Hashable, int] = {}
    return [first.setdefault(value, number) for number, value in enumerate(hashes)]
