"""What a model said of a picture, and a folder of it: one small PNG a picture, found again by the picture's pixels."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

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
        places: (H, W) uint16, 1 + the place of a segment, or 0 for void.
        segments: in the order of their places.
    """

    places: np.ndarray
    segments: tuple[AnsweredSegment, ...]


class AnswerFolder:
    """Answers of one model, each written whole or not at all, so that what is there can be used again.

    Args:
        folder: made when the first answer is put there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path_of(self, pixels: np.ndarray) -> Path:
        """Where the answer to a picture, (H, W, 3) uint8, is or would be."""
        digest = hashlib.blake2b(np.ascontiguousarray(pixels).data, digest_size=16, person=b"stuff")
        digest.update(repr(pixels.shape).encode())
        return self.folder / f"{digest.hexdigest()}.png"

    def put(self, path: Path, answer: Answer) -> None:
        """Keep an answer at its :meth:`path_of`."""
        fits = len(answer.segments) < 256
        image = Image.fromarray(answer.places.astype(np.uint8 if fits else np.uint16))
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


def answer_of(ids: np.ndarray, numbers: Sequence[int], segments: Sequence[AnsweredSegment]) -> Answer:
    """Ids of any size as places; ids that no segment has are void, and so is a second segment of one id.

    Args:
        ids: (H, W) whole numbers.
        numbers: the id of each segment.
        segments: in the same order.
    """
    values, inverse = np.unique(ids, return_inverse=True)
    place_of = {int(number): place + 1 for place, number in reversed(list(enumerate(numbers)))}
    places = np.array([place_of.get(int(value), 0) for value in values], np.uint16)
    return Answer(places[inverse.reshape(ids.shape)], tuple(segments))
