"""What a model says of an image, and a folder of it: one small PNG an image, found again by the image's pixels."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image, PngImagePlugin

from detr_d2.errors import DatasetError, MissingFileError
from detr_d2.files import open_regular, write_whole

_KEY = "segments"


@dataclass(frozen=True)
class AnsweredSegment:
    """A segment as a model sees it.

    Args:
        name: of its class, as the model has it.
        is_thing: None where the model doesn't say.
        score: 0 to 1, or None.
    """

    name: str
    is_thing: bool | None = None
    score: float | None = None


@dataclass(frozen=True)
class Answer:
    """A panoptic map.

    Args:
        numbers: (H, W) uint16, 1 + the index of a segment, or 0 for void.
        segments: in the order of their indices.
    """

    numbers: np.ndarray
    segments: tuple[AnsweredSegment, ...]


class Labeller(Protocol):
    """A model for stuff.

    Attributes:
        stuff_names: of all stuff that it may see.
        identity: a word that changes whenever its answers may.
    """

    stuff_names: tuple[str, ...]
    identity: str

    def open(self) -> Callable[[np.ndarray], Answer]:
        """Loads the model; what comes back labels one image, (H, W, 3) uint8 RGB."""


class AnswerFolder:
    """Answers of one model, each written whole or not at all, so that what is there can be used again.

    Args:
        folder: made when the first answer is put there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path_of(self, pixels: np.ndarray) -> Path:
        """Where the answer to an image, (H, W, 3) uint8, is or would be."""
        digest = hashlib.blake2b(np.ascontiguousarray(pixels).data, digest_size=16, person=b"stuff")
        digest.update(repr(pixels.shape).encode())
        return self.folder / f"{digest.hexdigest()}.png"

    def put(self, path: Path, answer: Answer) -> None:
        """Keep an answer at its :meth:`path_of`."""
        fits = len(answer.segments) < 256
        image = Image.fromarray(answer.numbers.astype(np.uint8 if fits else np.uint16))
        texts = PngImagePlugin.PngInfo()
        texts.add_text(_KEY, json.dumps([asdict(segment) for segment in answer.segments]))
        buffer = io.BytesIO()
        image.save(buffer, "PNG", pnginfo=texts, compress_level=1)
        write_whole(path, lambda file: file.write(buffer.getvalue()))

    def get(self, path: Path) -> Answer:
        """The answer at a path.

        Raises:
            MissingFileError: there is none.
            DatasetError: the file is damaged.
        """
        try:
            with open_regular(path) as file, Image.open(file) as image:
                segments = tuple(AnsweredSegment(**one) for one in json.loads(image.text[_KEY]))  # type: ignore[attr-defined]
                return Answer(np.asarray(image).astype(np.uint16), segments)
        except FileNotFoundError as error:
            raise MissingFileError(f"the model's answer {path} isn't there any more; run the command again.") from error
        except (OSError, SyntaxError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DatasetError(
                f"the model's answer {path} is damaged: {error}. Delete it and run the command again."
            ) from error


def answer_of(ids: np.ndarray, segment_ids: Sequence[int], segments: Sequence[AnsweredSegment]) -> Answer:
    """Ids of any size as numbers of segments; ids that no segment has are void, and so is a second segment of one id.

    Args:
        ids: (H, W) whole numbers.
        segment_ids: of each segment.
        segments: in the same order.
    """
    values, inverse = np.unique(ids, return_inverse=True)
    number_of = {int(one): index + 1 for index, one in reversed(list(enumerate(segment_ids)))}
    numbers = np.array([number_of.get(int(value), 0) for value in values], np.uint16)
    return Answer(numbers[inverse.reshape(ids.shape)], tuple(segments))


def digest_of(parts: Iterable[bytes]) -> str:
    """A short word that changes with any of the parts."""
    digest = hashlib.blake2b(digest_size=10)
    for part in parts:
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.hexdigest()
