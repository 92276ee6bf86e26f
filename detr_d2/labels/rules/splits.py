"""Images that are in training and in validation: the figures of such a validation can't be trusted."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from detr_d2.parallel import in_processes

from ..values import shown
from .images import ListedImage
from .rule import Finding, Place

if TYPE_CHECKING:
    from ..fingerprints import Fingerprint


#: Perceptual hashes of near-duplicates differ in so many of their 64 bits, and their thumbnails in so many grey levels.
MOST_BITS, MOST_LEVELS = 8, 6.0

_HELD_OUT = {"val", "valid", "validation", "minival", "test", "testing", "dev", "eval", "evaluation", "holdout"}
_TRAINED = {"train", "training"}
_BITS = np.array([bin(number).count("1") for number in range(2**16)], dtype=np.uint8)


@dataclass(frozen=True)
class Split:
    """One registered dataset.

    Args:
        name: of the dataset; the words in it say whether it is for training.
        json_file: its JSON.
        images: that the JSON lists.
    """

    name: str
    json_file: str
    images: Sequence[ListedImage]


def role(name: str) -> Literal["train", "held-out"] | None:
    """What a dataset is for, by the words in its name; None where they don't say, or say both."""
    words = set(re.findall(r"[a-z]+", name.lower()))
    trained, held_out = bool(words & _TRAINED), bool(words & _HELD_OUT)
    return None if trained == held_out else ("train" if trained else "held-out")


def find_leaks(splits: Sequence[Split], quick: bool = False, workers: int = 1) -> Iterator[tuple[str, Finding]]:
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
            finding = held.leak(split, image, fingerprint)
            if finding:
                yield split.json_file, finding


class _Held:
    """The held-out images, to be looked up."""

    def __init__(self, splits: Sequence[Split], quick: bool, workers: int) -> None:
        self._by_path: dict[str, tuple[Split, ListedImage]] = {}
        self._by_digest: dict[bytes, tuple[Split, ListedImage]] = {}
        self._hashed: list[tuple[Split, ListedImage]] = []
        hashes, thumbnails = [], []
        for split in splits:
            for image, fingerprint in _fingerprints(split, quick, workers):
                self._by_path.setdefault(os.path.realpath(image.path or ""), (split, image))
                if fingerprint is not None:
                    self._by_digest.setdefault(fingerprint.digest, (split, image))
                    if fingerprint.hash is not None:
                        self._hashed.append((split, image))
                        hashes.append(fingerprint.hash)
                        thumbnails.append(fingerprint.thumbnail)
        self._hashes = np.array(hashes, dtype=np.uint64)
        self._thumbnails = np.array(thumbnails)

    def leak(self, split: Split, image: ListedImage, fingerprint: Fingerprint | None) -> Finding | None:
        same = self._by_path.get(os.path.realpath(image.path or ""))
        if same is None and fingerprint is not None:
            same = self._by_digest.get(fingerprint.digest)
        if same is not None:
            return _leak("split-leak", split, image, f"is an image of {_named(*same)} too.")
        near = self._near(fingerprint) if fingerprint is not None and fingerprint.hash is not None else None
        if near is not None:
            return _leak("split-near", split, image, f"looks like an image of {_named(*near)}.")
        return None

    def _near(self, fingerprint: Fingerprint) -> tuple[Split, ListedImage] | None:
        if not len(self._hashes):
            return None
        different = np.ascontiguousarray(self._hashes ^ np.uint64(fingerprint.hash or 0)).view(np.uint16)
        candidates = np.flatnonzero(_BITS[different].reshape(-1, 4).sum(axis=1) <= MOST_BITS)
        levels = np.abs(self._thumbnails[candidates].astype(np.int16) - fingerprint.thumbnail).mean(axis=1)
        near = candidates[levels <= MOST_LEVELS]
        return self._hashed[near[0]] if len(near) else None


def _leak(code: str, split: Split, image: ListedImage, message: str) -> Finding:
    return Place(image.path or "", image.image_id, text=f"of {split.name}").found(code, message)


def _named(split: Split, image: ListedImage) -> str:
    return f"{split.name} (image id {shown(image.image_id)}, {shown(os.path.basename(image.path or ''))})"


def _fingerprints(split: Split, quick: bool, workers: int) -> Iterator[tuple[ListedImage, Fingerprint | None]]:
    there = [image for image in split.images if image.path is not None and os.path.isfile(image.path)]
    if quick:
        yield from ((image, None) for image in there)
        return
    from ..fingerprints import fingerprint_of  # and what reads images

    yield from zip(there, in_processes(fingerprint_of, [image.path or "" for image in there], workers))
