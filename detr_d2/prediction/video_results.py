"""What ``detr-d2 predict`` writes of videos and cameras: drawn videos, and of each frame what is written of images."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from itertools import chain, count
from pathlib import Path
from typing import Any

from detr_d2.data import Category
from detr_d2.errors import ConfigError
from detr_d2.files import numbered_names, real_path
from detr_d2.folders import new_folder
from detr_d2.labels.records import FileRef
from detr_d2.prediction.image_files import FoundImage
from detr_d2.prediction.journal import FILE_NAME, Journal
from detr_d2.prediction.prediction import Prediction
from detr_d2.prediction.predictor import Predictor
from detr_d2.prediction.video import ended_by_ctrl_c, predict_video
from detr_d2.prediction.video_files import Video, VideoError, check_package, open_camera, open_video, result_suffix
from detr_d2.prediction.writers import RESULT_FOLDERS, add_all, finish_all
from detr_d2.wording import counted

VIDEO_FOLDER = "videos"
#: What was found in each frame, a line each; a folder of a video's results has it.
_FRAMES = "frames.jsonl"
_RESULTS = [*RESULT_FOLDERS, "panoptic.json", "instances.json", "cvat-xml", "cvat-coco", "quantities.csv"]


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
    with closing(Journal(folder, settings, begins_anew)) as journal:
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
