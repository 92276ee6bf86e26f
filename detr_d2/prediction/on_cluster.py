"""Images predicted on a cluster: each of its workers does with some what this machine would do with all."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

from tqdm import tqdm

from detr_d2.cluster import on_cluster
from detr_d2.prediction.image_files import FoundImage
from detr_d2.prediction.images import ImageError
from detr_d2.prediction.pipeline import overlapped
from detr_d2.prediction.prediction import Prediction
from detr_d2.prediction.running import Engine, LoadedImage

Write = Callable[[FoundImage, Prediction], dict[str, Any]]


class Finished(NamedTuple):
    """What became of an image.

    Args:
        result: what was written of it; None where it can't be read.
        message: what people should be told, or empty.
    """

    result: dict[str, Any] | None
    message: str


def predict_on_cluster(
    build_engine: Callable[[], Engine],
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
        workers, gpus: see :func:`~detr_d2.cluster.on_cluster`.

    Raises:
        ConfigError, StoppedError: see there.
    """
    finished = on_cluster(partial(build_worker, build_engine, write, batch), images, workers, gpus)
    for image, one in tqdm(zip(images, finished, strict=True), total=len(images), unit="image", disable=None):
        if one.message:
            tqdm.write(one.message, file=sys.stderr)
        yield image, one.result


def build_worker(
    build_engine: Callable[[], Engine], write: Write, batch: int
) -> Callable[[list[FoundImage]], list[Finished]]:
    """The function of a worker: predicts some images, writes their files, and says what became of each."""
    engine = build_engine()

    def predict(images: list[FoundImage]) -> list[Finished]:
        notes: dict[str, str] = {}

        def load(image: FoundImage) -> LoadedImage:
            loaded = engine.load(image)
            notes[image.stem] = f"note: {image} {loaded.note}." if loaded.note else ""
            return loaded

        found: dict[str, Finished] = {}
        steps = overlapped(
            images, load, engine.predict, write, batch=batch, is_alike=engine.is_alike, failures=(ImageError,)
        )
        for image, result in steps:
            if isinstance(result, Exception):
                found[image.stem] = Finished(None, f"skipped: {result}")
            else:
                found[image.stem] = Finished(result, notes[image.stem])
        return [found[image.stem] for image in images]

    return predict
