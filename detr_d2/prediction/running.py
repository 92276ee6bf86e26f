"""Images to results in a folder, here or on a cluster: as they are made, and an interrupted run goes on."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from tqdm import tqdm

from detr_d2.errors import ConfigError
from detr_d2.parallel import on_cluster
from detr_d2.prediction.image_files import FoundImage
from detr_d2.prediction.images import MOST_PIXELS_BY_TILES, ImageError, image_of_bytes, more_pixels, read_noted
from detr_d2.prediction.journal import Journal
from detr_d2.prediction.pipeline import overlapped
from detr_d2.prediction.prediction import Prediction
from detr_d2.prediction.predictor import Predictor
from detr_d2.prediction.tiling import predict_by_tiles, tile_grid
from detr_d2.prediction.writers import OWN_PATHS, add_all, finish_all

Written = TypeVar("Written")
#: Writes the results of an image, and returns what the journal keeps.
Write = Callable[[FoundImage, Prediction], dict[str, Any]]
#: Predicts images, has the function write each prediction, and gives each image with what that returned, or None.
PredictEach = Callable[[Sequence[FoundImage], Write], Iterator[tuple[FoundImage, dict[str, Any] | None]]]


class LoadedImage(NamedTuple):
    """An image that was read.

    Args:
        pixels: (H, W, 3) uint8, RGB.
        name: see :class:`~detr_d2.prediction.image_files.FoundImage`.
        model_input: what the model is given of it.
        note: a sentence where not all of the file is shown.
    """

    pixels: np.ndarray
    name: str
    model_input: dict[str, Any]
    note: str


class WholeImages:
    """What turns images into predictions: a model on whole images, made smaller for it.

    Args:
        predictor: the model.
    """

    def __init__(self, predictor: Predictor) -> None:
        self.predictor, self.categories = predictor, predictor.categories

    def settings(self) -> dict[str, Any]:
        """All that predictions depend on, by names that a user knows."""
        return self.predictor.settings()

    def load(self, image: FoundImage) -> LoadedImage:
        """Reads an image and makes of it what the model is given, in a thread of its own; raises an ImageError."""
        pixels, note = read_found(image)
        return LoadedImage(pixels, image.name, self.predictor.model_input(pixels), note)

    def predict(self, images: list[LoadedImage]) -> list[Prediction]:
        """Predicts images that :meth:`is_alike` says can be predicted at once."""
        inputs = [image.model_input for image in images]
        return self.predictor.predict([image.pixels for image in images], inputs, [image.name for image in images])

    def is_alike(self, first: LoadedImage, second: LoadedImage) -> bool:
        """Of one size for the network: no image's result depends on what it is predicted with."""
        shapes = {tuple(image.model_input["image"].shape) for image in (first, second)}
        return len(shapes) == 1


class Tiles(WholeImages):
    """A model on large photos, tile by tile.

    Args:
        predictor: the model.
        tile, overlap: see :func:`~detr_d2.prediction.tiling.tile_grid`.
        batch: tiles in one forward pass.

    Raises:
        ConfigError: the tiles can't be, or the model has no mask head.
    """

    def __init__(self, predictor: Predictor, tile: int, overlap: int, batch: int = 1) -> None:
        super().__init__(predictor)
        tile_grid((1, 1), tile, overlap)
        if not predictor.has_masks:
            raise ConfigError("--tile joins masks, and the model has no mask head, only boxes. Leave --tile out.")
        self._tile, self._overlap, self._batch = tile, overlap, batch

    def settings(self) -> dict[str, Any]:
        """Those of the model, and of the tiles."""
        return {**super().settings(), "tile": self._tile, "overlap": self._overlap}

    def load(self, image: FoundImage) -> LoadedImage:
        """Reads a photo, which may have more pixels than one that the network is to see as a whole."""
        with more_pixels(MOST_PIXELS_BY_TILES):
            pixels, note = read_found(image)
        return LoadedImage(pixels, image.name, {}, note)

    def predict(self, images: list[LoadedImage]) -> list[Prediction]:
        """Predicts photos one by one."""
        sizes = {"tile": self._tile, "overlap": self._overlap, "batch": self._batch}
        return [predict_by_tiles(self.predictor, one.pixels, name=one.name, **sizes) for one in images]

    def is_alike(self, first: LoadedImage, second: LoadedImage) -> bool:
        """Never: one photo's tiles are enough at once."""
        return False


def read_found(image: FoundImage) -> tuple[np.ndarray, str]:
    """See :func:`~detr_d2.prediction.images.read_noted`."""
    return read_noted(image.file) if image.content is None else (image_of_bytes(image.content), "")


class Finished(NamedTuple):
    """What became of an image.

    Args:
        result: what was written of it; None where it can't be read.
        message: what people are to read, or empty.
    """

    result: Any
    message: str


def finish_each(
    engine: WholeImages,
    images: Sequence[FoundImage],
    write: Callable[[FoundImage, Prediction], Written],
    batch: int = 1,
) -> Iterator[tuple[FoundImage, Finished]]:
    """Predicts images, while the next ones are read and the last ones are written.

    Args:
        engine: the model.
        images: to be predicted.
        write: of an image and its prediction; called in another thread.
        batch: images in one forward pass.

    Returns:
        Each image with what became of it; in their order, but that those which can't be read come as soon as they can.
    """
    notes: dict[str, str] = {}

    def load(image: FoundImage) -> LoadedImage:
        loaded = engine.load(image)
        notes[image.stem] = f"note: {image} {loaded.note}." if loaded.note else ""
        return loaded

    steps = overlapped(
        images, load, engine.predict, write, batch=batch, is_alike=engine.is_alike, failures=(ImageError,)
    )
    for image, result in steps:
        if isinstance(result, Exception):
            yield image, Finished(None, f"skipped: {result}")
        else:
            yield image, Finished(result, notes.pop(image.stem))


def shown(finished: Iterable[tuple[FoundImage, Finished]], total: int) -> Iterator[tuple[FoundImage, Any]]:
    """Images with what was written of them, with a bar on a terminal, and messages on stderr."""
    for image, one in tqdm(finished, total=total, unit="image", disable=None):
        if one.message:
            tqdm.write(one.message, file=sys.stderr)
        yield image, one.result


def predict_each(
    engine: WholeImages,
    images: Sequence[FoundImage],
    write: Callable[[FoundImage, Prediction], Written],
    batch: int = 1,
) -> Iterator[tuple[FoundImage, Written | None]]:
    """What :func:`finish_each` does, in this process, :func:`shown`."""
    return shown(finish_each(engine, images, write, batch), len(images))


@dataclass
class Outcome:
    """How a run went.

    Args:
        done: images whose results are there.
        reused: of these, those that an earlier run made.
        skipped: images that can't be read.
        written: what there is in the folder now.
    """

    done: int = 0
    reused: int = 0
    skipped: int = 0
    written: Sequence[str] = ()


def predict_all(
    engine: WholeImages,
    images: Sequence[FoundImage],
    folder: Path,
    kinds: Sequence[str],
    *,
    batch: int = 1,
    begins_anew: bool = False,
    predict: PredictEach | None = None,
) -> Outcome:
    """Predicts images and writes what is asked for, each image as it is finished, and at the end what they share.

    Args:
        engine: the model.
        images: those that a run before finished with the same settings aren't predicted again.
        folder: of the results, with the journal of what is finished.
        kinds: of results, names in ``WRITERS``.
        batch: images in one forward pass.
        begins_anew: replace results of other settings.
        predict: what predicts images and has them written, such as a cluster; by default :func:`predict_each`.

    Raises:
        ConfigError: the folder has results of other settings, or files of others where results would go; or another
            run is writing there.
        KeyboardInterrupt: it was interrupted; what is finished is whole, and the message says so.
        OSError: the system refuses to write.
    """
    predict = predict or partial(predict_each, engine, batch=batch)
    settings = {**engine.settings(), "write": list(kinds)}
    with Journal(folder, settings, begins_anew, OWN_PATHS) as journal:
        waiting = [image for image in images if not journal.has(image)]
        outcome = Outcome(reused=len(images) - len(waiting))
        try:
            for image, result in predict(waiting, partial(add_all, kinds, folder)):
                if result is None:
                    outcome.skipped += 1
                else:
                    journal.add(image, result)
        except KeyboardInterrupt as error:
            finish_all(kinds, folder, journal.entries, engine.categories)
            raise KeyboardInterrupt(
                f"what is finished, {len(journal)} of {len(images)} images, is in {folder}; the same command goes on."
            ) from error
        outcome.done = len(images) - outcome.skipped
        outcome.written = finish_all(kinds, folder, journal.entries, engine.categories)
    return outcome


def predict_on_cluster(
    build_engine: Callable[[], WholeImages],
    images: Sequence[FoundImage],
    write: Write,
    batch: int = 1,
    workers: int | None = None,
    gpus: int = 0,
) -> Iterator[tuple[FoundImage, dict[str, Any] | None]]:
    """What :func:`~detr_d2.prediction.running.predict_each` does, in the workers of a cluster; in the images' order.

    Args:
        build_engine: makes the model, once in each worker; it is sent there, as ``write`` is.
        images, write, batch: as there.
        workers, gpus: see :func:`~detr_d2.parallel.on_cluster`.

    Raises:
        ConfigError, StoppedError: see there.
    """
    finished = on_cluster(partial(build_worker, build_engine, write, batch), images, workers, gpus)
    return shown(zip(images, finished, strict=True), len(images))


def build_worker(
    build_engine: Callable[[], WholeImages], write: Write, batch: int
) -> Callable[[list[FoundImage]], list[Finished]]:
    """The function of a worker: predicts some images, writes their files, and says what became of each."""
    engine = build_engine()

    def predict(images: list[FoundImage]) -> list[Finished]:
        found = {image.stem: finished for image, finished in finish_each(engine, images, write, batch)}
        return [found[image.stem] for image in images]

    return predict
