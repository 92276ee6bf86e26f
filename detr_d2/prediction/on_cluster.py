"""Images predicted on a cluster: each of its workers does with some what this machine would do with all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from detr_d2.cluster import on_cluster
from detr_d2.prediction.image_files import FoundImage
from detr_d2.prediction.prediction import Prediction
from detr_d2.prediction.running import Engine, Finished, finish_each, shown

Write = Callable[[FoundImage, Prediction], dict[str, Any]]


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
    return shown(zip(images, finished, strict=True), len(images))


def build_worker(
    build_engine: Callable[[], Engine], write: Write, batch: int
) -> Callable[[list[FoundImage]], list[Finished]]:
    """The function of a worker: predicts some images, writes their files, and says what became of each."""
    engine = build_engine()

    def predict(images: list[FoundImage]) -> list[Finished]:
        found = {image.stem: finished for image, finished in finish_each(engine, images, write, batch)}
        return [found[image.stem] for image in images]

    return predict
