"""A model labels what people didn't.

What it says of each image is kept, so that it is asked once: one small PNG an image, found again by the image's pixels.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image, PngImagePlugin

from detr_d2.errors import ConfigError, DatasetError, MissingFileError
from detr_d2.files import open_regular, write_whole
from detr_d2.labels.image_reading import open_image
from detr_d2.labels.records import ImageRecord
from detr_d2.progress import progress

from ..drawing import Region, mean_score
from ..options import StuffSettings
from ..preparing import decode
from .policies import ClassMapping, StuffPolicy, beyond_margin

logger = logging.getLogger(__name__)

_KEY = "segments"


@dataclass(frozen=True)
class AnsweredSegment:
    """A segment: its class as a model names it, whether it is a thing (None: unsaid), and a score of 0 to 1 or None."""

    name: str
    is_thing: bool | None = None
    score: float | None = None


@dataclass(frozen=True)
class Answer:
    """A panoptic map: (H, W) uint16, 1 + the index of a segment or 0 for void, and the segments."""

    numbers: np.ndarray
    segments: tuple[AnsweredSegment, ...]


class Labeller(Protocol):
    """A model for stuff: the names of all stuff that it may see, and a word that changes whenever its answers may."""

    stuff_names: tuple[str, ...]
    identity: str

    def open(self) -> Callable[[np.ndarray], Answer]:
        """Loads the model; what comes back labels one image, (H, W, 3) uint8 RGB."""


class AnswerFolder:
    """Answers of one model, each written whole or not at all, so that what is there can be used again.

    The folder is made when the first answer is put there.
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
            with open_regular(path) as file, open_image(file) as image:
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
        segment_ids: of each of the segments.
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


class ModelStuff(StuffPolicy):
    """Stuff as a model sees it: in the dataset's classes, above a score, ``margin`` pixels away from people's labels.

    The model runs once, in :meth:`prepare`, over the images that it hasn't seen; its answers are kept as they were,
    so that mapping and margin can change without asking it again.

    Raises:
        ConfigError: a file is in the place of the folder of answers.
    """

    needs_pixels = True

    def __init__(self, labeller: Labeller, margin: int, settings: StuffSettings) -> None:
        self._labeller: Labeller | None = labeller
        self._identity = labeller.identity
        self._mapping = ClassMapping(settings.classes, settings.things)
        self._score, self._margin = settings.score, margin
        self._cache = settings.cache and settings.cache.expanduser()
        if self._cache and self._cache.exists() and not self._cache.is_dir():
            raise ConfigError(f"--cache {settings.cache} is there and isn't a folder; name another one.")
        self._answers: AnswerFolder | None = None
        self.categories = self._mapping.records(labeller.stuff_names)

    def __repr__(self) -> str:
        return f"ModelStuff({self._identity}, {self._mapping}, score={self._score}, margin={self._margin})"

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_labeller": None}  # workers read answers only

    def prepare(self, images: Sequence[ImageRecord], work_folder: Path) -> None:
        """Ask the model about each image that has no answer yet; unreadable ones are left to the caller."""
        assert self._labeller is not None
        self._answers = AnswerFolder((self._cache or work_folder) / self._identity)
        label, known = None, 0
        for name, pixels in _read_ahead(progress(images, len(images), "image", "Labelling the rest")):
            path = self._answers.path_of(pixels)
            if path.is_file():
                known += 1
                continue
            label = label or self._labeller.open()
            try:
                answer = label(pixels)
                self._check_names(answer)
            except ConfigError as error:
                raise ConfigError(f"{name}: {error}") from error
            self._answers.put(path, answer)
        self._labeller = None
        if known:
            logger.info("The model had seen %d of %d images in an earlier run.", known, len(images))

    def _check_names(self, answer: Answer) -> None:
        known = {record.name for record in self.categories}
        for segment in answer.segments:
            name = self._mapping.name_of(segment.name, segment.is_thing)
            if name and name not in known:
                raise ConfigError(
                    f"The function's class {segment.name!r} isn't among COCO's. List it in the function's attribute "
                    f"stuff_classes, for example label.stuff_classes = [{segment.name!r}]."
                )

    def __call__(self, pixels: np.ndarray | None, free: np.ndarray, name: str) -> list[Region]:
        """The model's segments, those of one class as one region with their mean score."""
        if self._answers is None or pixels is None:
            raise ValueError("prepare() comes first, and the policy needs the image.")
        answer = self._answers.get(self._answers.path_of(pixels))
        if answer.numbers.shape != free.shape:
            raise DatasetError(f"the model's answer for {name} is of another size; delete it and run again.")
        allowed = beyond_margin(free, self._margin)
        areas = np.bincount(answer.numbers[allowed], minlength=len(answer.segments) + 1)[1:]
        members: dict[str, list[int]] = {}
        for index, segment in enumerate(answer.segments):
            found = self._mapping.name_of(segment.name, segment.is_thing)
            counts = segment.score is None or segment.score >= self._score
            if found and counts and areas[index]:
                members.setdefault(found, []).append(index)
        regions = []
        for found, indices in members.items():
            score = mean_score((int(areas[index]), answer.segments[index].score) for index in indices)
            is_member = np.isin(np.arange(len(answer.segments) + 1), np.asarray(indices) + 1)
            regions.append(Region(found, allowed & is_member[answer.numbers], "model", score))
        return regions


def _read_ahead(images: Iterable[ImageRecord], most: int = 4) -> Iterator[tuple[str, np.ndarray]]:
    """Names and pixels of the images that can be read, decoded while the model is at work on earlier ones."""
    with ThreadPoolExecutor(1) as pool:
        waiting = []
        for image in images:
            waiting.append(pool.submit(_pixels_if_readable, image))
            if len(waiting) >= most:
                yield from waiting.pop(0).result()
        for future in waiting:
            yield from future.result()


def _pixels_if_readable(image: ImageRecord) -> list[tuple[str, np.ndarray]]:
    try:
        return [(image.name, decode(image).pixels())]
    except (DatasetError, MissingFileError):
        return []  # it is reported when its own turn comes
