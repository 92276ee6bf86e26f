"""A model labels what people didn't."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from detr_d2.errors import ConfigError, DatasetError, MissingFileError
from detr_d2.labels.records import ImageRecord
from detr_d2.progress import progress

from ..options import StuffSettings
from ..pixels import read_pixels
from .answers import Answer, AnswerFolder, Labeller
from .policy import ClassMapping, Region, StuffPolicy, beyond_margin, mean_score

logger = logging.getLogger(__name__)


class ModelStuff(StuffPolicy):
    """Stuff as a model sees it: in the dataset's classes, above a score, and away from people's labels.

    The model runs once, in :meth:`prepare`, over the images that it hasn't seen; its answers are kept as they were,
    so that mapping and margin can change without asking it again.

    Args:
        labeller: the model.
        margin: pixels around people's labels that become void.
        settings: the other choices.

    Raises:
        ConfigError: a file is in the place of the folder of answers.
    """

    needs_pixels = True

    def __init__(self, labeller: Labeller, margin: int, settings: StuffSettings) -> None:
        self._labeller: Labeller | None = labeller
        self._identity = labeller.identity
        self._mapping = ClassMapping(settings.classes, settings.things)
        self._score, self._margin = settings.score, margin
        self._cache = _refuse_file(settings.cache)
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
        label = None
        known = 0
        shown = progress(images, len(images), "image", "Labelling the rest")
        for name, pixels in _read_ahead(shown):
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
            regions.append(Region(found, allowed & _lookup(indices, answer), "model", score))
        return regions


def _refuse_file(cache: Path | None) -> Path | None:
    """The folder of ``--cache``; raises a ConfigError where a file is in its place."""
    folder = cache and cache.expanduser()
    if folder and folder.exists() and not folder.is_dir():
        raise ConfigError(f"--cache {cache} is there and isn't a folder; name another one.")
    return folder


def _lookup(indices: Sequence[int], answer: Answer) -> np.ndarray:
    is_member = np.zeros(len(answer.segments) + 1, bool)
    is_member[np.asarray(indices) + 1] = True
    return np.asarray(is_member[answer.numbers])


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
        return [(image.name, read_pixels(image))]
    except (DatasetError, MissingFileError):
        return []  # it is reported when its own turn comes
