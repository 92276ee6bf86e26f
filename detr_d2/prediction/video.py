"""Videos and cameras: predicted and drawn with ids and colours that stay with the objects; results of each frame."""

from __future__ import annotations

import colorsys
import json
import re
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, nullcontext
from itertools import chain, count, islice, tee
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from detr_d2.data import Category
from detr_d2.errors import ConfigError
from detr_d2.files import numbered_names, real_path
from detr_d2.folders import new_folder
from detr_d2.labels.records import FileRef
from detr_d2.prediction.image_files import FoundImage
from detr_d2.prediction.journal import FILE_NAME, Journal
from detr_d2.prediction.prediction import Prediction
from detr_d2.prediction.predictor import Predictor
from detr_d2.prediction.tiling import Batches
from detr_d2.prediction.tracking import MEMORY, track
from detr_d2.prediction.video_files import (
    Frame,
    Video,
    VideoError,
    check_package,
    open_camera,
    open_video,
    result_suffix,
    write_video,
)
from detr_d2.prediction.writers import RESULT_FOLDERS, add_all, finish_all
from detr_d2.progress import progress
from detr_d2.wording import counted

Item = TypeVar("Item")
_AHEAD = 2
#: How far the colours of a class's objects are from the class's own, as parts of the circle of hues and of brightness.
_HUES, _BRIGHTNESS = 0.06, 0.35
_GOLDEN = 0.618034
VIDEO_FOLDER = "videos"
#: What was found in each frame, a line each; a folder of a video's results has it.
_FRAMES = "frames.jsonl"
_RESULTS = [*RESULT_FOLDERS, "panoptic.json", "instances.json", "cvat-xml", "cvat-coco", "quantities.csv"]


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


def predict_videos(
    predictor: Predictor,
    paths: Sequence[Path],
    out: Path,
    kinds: Sequence[str],
    *,
    batch: int,
    memory: int,
    begins_anew: bool = False,
) -> int:
    """Predicts videos one by one, and says of each what there is; one that can't be read is named and skipped.

    Args:
        predictor: the model.
        paths: of the videos; those that a run before finished with the same settings aren't predicted again.
        out: gets ``videos/NAME.mp4`` and, where there are ``kinds``, the folder ``videos/NAME``.
        kinds: names in ``WRITERS``, for each frame; its segments' ids stay the same through the video.
        batch: frames in one forward pass.
        memory: see :func:`~detr_d2.prediction.tracking.track`.
        begins_anew: replace results of other settings.

    Returns:
        How many were skipped.

    Raises:
        ConfigError: the folder has results of other settings, a result would replace a video or a file that no run
            before wrote, or PyAV isn't installed.
    """
    folder, skipped = out / VIDEO_FOLDER, 0
    check_package()
    settings = {**predictor.settings(), "write": list(kinds), "remember": memory}
    with Journal(folder, settings, begins_anew) as journal:
        for path, name in zip(paths, numbered_names([path.stem for path in paths])):
            image = FoundImage(FileRef(path), path.name, name)
            if journal.has(image) and (not kinds or (folder / name / _FRAMES).is_file()):
                print(f"{path}: predicted by an earlier run, in {folder}")
                continue
            try:
                with open_video(path) as video:
                    target = _target(folder, name, video, journal, image)
                    _predict(predictor, video, target, kinds, batch, memory)
                    journal.add(image, {"files": [target.name]})
            except VideoError as error:
                print(f"skipped: {error}", file=sys.stderr)
                skipped += 1
    return skipped


def _target(folder: Path, name: str, video: Video, journal: Journal, image: FoundImage) -> Path:
    """The file of a video's result, which replaces only what an earlier run wrote."""
    target = folder / f"{name}{result_suffix(video)}"
    if video.sound is not None and real_path(target) == real_path(video.sound):
        raise ConfigError(f"{target} is one of the videos and would be replaced; name another --out.")
    if target.exists() and not journal.knows(image):
        raise ConfigError(
            f"{target} is there already, and not by a run that is noted in {folder / FILE_NAME}; the result would "
            "replace it. Name another folder."
        )
    return target


def predict_camera(
    predictor: Predictor, camera: str, out: Path, kinds: Sequence[str], memory: int, file_format: str | None = None
) -> None:
    """Predicts what a camera sees until Ctrl-C; results as :func:`predict_videos`, called ``camera-0``.

    The recording before is kept, as nobody can make it again: the next one is called ``camera-0_2``.
    """
    folder = out / VIDEO_FOLDER
    name = "camera-" + re.sub(r"\W+", "-", camera).strip("-")
    names = chain([name], (f"{name}_{number}" for number in count(2)))
    free = next(one for one in names if not any((folder / f"{one}{end}").exists() for end in ("", ".mp4", ".mkv")))
    with open_camera(camera, file_format) as endless, ended_by_ctrl_c(endless) as video:
        print(f"{video.name}: recording; Ctrl-C ends it.", file=sys.stderr)
        _predict(predictor, video, folder / f"{free}.mp4", kinds, 1, memory)


def _predict(predictor: Predictor, video: Video, target: Path, kinds: Sequence[str], batch: int, memory: int) -> None:
    frames = target.with_suffix("")
    with _frame_results(frames.absolute(), kinds, predictor.categories) if kinds else nullcontext() as write:
        found = predict_video(predictor, video, target, batch=batch, memory=memory, each=write)
    rate = found.frames / max(found.seconds, 1e-9)
    what = f"{counted(found.frames, 'frame')}, {counted(found.objects, 'thing')}"
    print(f"{video.name}: {what}, {rate:.1f} frames/s: {target}{f' and {frames}/' if kinds else ''}")


@contextmanager
def _frame_results(
    folder: Path, kinds: Sequence[str], categories: Sequence[Category]
) -> Iterator[Callable[[Prediction], None]]:
    """What writes a frame's results; the folder is there, whole, at the end."""
    with new_folder(folder, _FRAMES, _RESULTS, "a video's results") as partial:
        with (partial / _FRAMES).open("w", encoding="utf-8") as lines:
            numbers = count(1)

            def write(prediction: Prediction) -> None:
                stem = f"{folder.name}_{next(numbers):06d}"
                frame = FoundImage(FileRef(folder), f"{stem}.png", stem)
                lines.write(json.dumps(add_all(kinds, partial, frame, prediction)) + "\n")

            yield write
        finish_all(kinds, partial, lambda: _entries(partial / _FRAMES), categories)


def _entries(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as lines:
        yield from map(json.loads, lines)
