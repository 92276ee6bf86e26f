"""Predictions for a video: frame by frame, with ids and colours that stay with the objects."""

from __future__ import annotations

import colorsys
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from itertools import islice, tee
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from detr_d2.data import Category
from detr_d2.prediction.prediction import Prediction
from detr_d2.prediction.tiling import Batches
from detr_d2.prediction.tracking import MEMORY, track
from detr_d2.prediction.video_files import Frame, Video, write_video
from detr_d2.progress import progress

Item = TypeVar("Item")
_AHEAD = 2
#: How far the colours of a class's objects are from the class's own, as parts of the circle of hues and of brightness.
_HUES, _BRIGHTNESS = 0.06, 0.35
_GOLDEN = 0.618034


class VideoSummary(NamedTuple):
    """What was predicted.

    Attributes:
        frames: how many.
        seconds: that it took.
        objects: how many different things there were.
    """

    frames: int
    seconds: float
    objects: int


def predict_video(
    predictor: Batches,
    video: Video,
    target: Path,
    *,
    batch: int = 1,
    memory: int = MEMORY,
    each: Callable[[Prediction], object] | None = None,
) -> VideoSummary:
    """Write a video with what a model sees in each frame drawn over it.

    Reading, the network, and drawing and writing run at the same time; a few frames are kept, so that a video may be of
    any length.

    Args:
        predictor: the model.
        video: see :func:`~detr_d2.prediction.video_files.open_video` and ``open_camera``.
        target: the result, MP4 or ``.mkv``; whole or not at all.
        batch: frames for the network at once.
        memory: see :func:`~detr_d2.prediction.tracking.track`.
        each: is called with each frame's prediction, whose ids stay the same through the video.

    Raises:
        VideoError: the video is broken; no result is left.
        OSError: the result can't be written.
    """
    start, objects = time.monotonic(), set[int]()

    def drawn(predictions: Iterable[tuple[Frame, Prediction]]) -> Iterator[Frame]:
        for frame, prediction in progress(track_predictions(predictions, memory), video.length, "frame"):
            objects.update(segment["id"] for segment in prediction.segments if segment["isthing"])
            if each is not None:
                each(prediction)
            yield frame._replace(image=draw_objects(prediction))

    # Closed whatever happens, and before the video is: its decoder must not be closed while a thread uses it.
    with closing(ahead(video.frames)) as frames, closing(ahead(_predicted(predictor, frames, batch))) as predictions:
        written = write_video(target, video, drawn(predictions))
    return VideoSummary(written, time.monotonic() - start, len(objects))


def _predicted(predictor: Batches, frames: Iterator[Frame], batch: int) -> Iterator[tuple[Frame, Prediction]]:
    while chunk := list(islice(frames, batch)):
        yield from zip(chunk, predictor.batch([frame.image for frame in chunk]), strict=True)


def track_predictions(
    predictions: Iterable[tuple[Frame, Prediction]], memory: int = MEMORY
) -> Iterator[tuple[Frame, Prediction]]:
    """Predictions with ids that stay with the objects; those with boxes only stay as they are."""
    pairs, others = tee(predictions)
    tracked = track(((_map_of(one), one.segments) for _, one in others), memory)
    for (frame, prediction), (ids, segments) in zip(pairs, tracked):
        if prediction.panoptic is None:
            yield frame, prediction
        else:
            yield frame, Prediction(prediction.image, ids, segments, prediction.categories, name=prediction.name)


def _map_of(prediction: Prediction) -> np.ndarray:
    """The panoptic map; of boxes only, an empty one."""
    return np.zeros(prediction.size, np.int32) if prediction.panoptic is None else prediction.panoptic


def draw_objects(prediction: Prediction) -> np.ndarray:
    """The drawing of a prediction, (H, W, 3) uint8, in which each thing has its number and a colour of its own.

    The colours of a class's things are shades of the class's colour, by their ids.
    """
    if prediction.panoptic is None:
        return np.asarray(prediction.draw())
    objects = [_as_category(segment, prediction) for segment in prediction.segments]
    segments = [{**segment, "category_id": segment["id"]} for segment in prediction.segments]
    return np.asarray(Prediction(prediction.image, prediction.panoptic, segments, objects).draw())


def _as_category(segment: dict[str, Any], prediction: Prediction) -> Category:
    color = prediction.categories[prediction.class_index(segment)].color
    if not segment["isthing"]:
        return Category(segment["id"], segment["category"], False, color)
    return Category(segment["id"], f"{segment['category']} {segment['id']}", True, shade(color, segment["id"]))


def shade(color: tuple[int, int, int], number: int) -> tuple[int, int, int]:
    """A colour like another one, red, green, blue in 0..255; neighbouring numbers have different ones."""
    hue, saturation, value = colorsys.rgb_to_hsv(*(part / 255 for part in color))
    turn, light = number * _GOLDEN % 1 - 0.5, number * _GOLDEN**2 % 1 - 0.5
    lighter = min(max(value + 2 * _BRIGHTNESS * light, 0.25), 1.0)
    red, green, blue = colorsys.hsv_to_rgb((hue + 2 * _HUES * turn) % 1, saturation, lighter)
    return round(255 * red), round(255 * green), round(255 * blue)


def ahead(items: Iterable[Item], count: int = _AHEAD) -> Generator[Item, None, None]:
    """The items, of which up to ``count`` are made by another thread while those before are used.

    Closing it waits for the one that is being made.
    """
    waiting, end, thread = iter(items), object(), ThreadPoolExecutor(1)
    try:
        made = deque(thread.submit(next, waiting, end) for _ in range(count))
        while (item := made.popleft().result()) is not end:
            made.append(thread.submit(next, waiting, end))
            yield item  # type: ignore[misc]
    finally:
        thread.shutdown(cancel_futures=True)


@contextmanager
def ended_by_ctrl_c(video: Video) -> Iterator[Video]:
    """A camera's video that ends at Ctrl-C, so that what was recorded until then is kept."""
    asked = threading.Event()
    before = signal.signal(signal.SIGINT, lambda *_: asked.set())
    try:
        yield video._replace(frames=_until(asked, video.frames))
    finally:
        signal.signal(signal.SIGINT, before)


def _until(asked: threading.Event, frames: Iterator[Frame]) -> Iterator[Frame]:
    for frame in frames:
        yield frame
        if asked.is_set():
            return
