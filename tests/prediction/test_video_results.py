"""``detr-d2 predict`` with tiles, videos and cameras: what is written, and what is refused."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detr_d2 import Predictor, cli
from detr_d2.errors import run_command
from detr_d2.prediction import images
from detr_d2.prediction.images import read_image
from detr_d2.prediction.tiling import predict_by_tiles
from detr_d2.prediction.video import predict_camera
from detr_d2.yard import yard_video

Run = Callable[..., int]


@pytest.fixture
def predict(checkpoint: Path, tmp_path: Path) -> Run:
    """Runs the command; results are in ``tmp_path / "out"``."""

    def run(*words: object, model: Path = checkpoint) -> int:
        given = [str(model), *map(str, words), "--out", str(tmp_path / "out"), "--device", "cpu"]
        return run_command(lambda: cli.main(["predict", *given]))

    return run


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """Four frames, 25 in a second."""
    av = pytest.importorskip("av", reason="PyAV isn't installed: pip install 'detr_d2[video]'")
    path = tmp_path / "site.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 160, 128, "yuv420p"
        for number, (image, _, _) in enumerate(yard_video(4)):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_video_becomes_a_drawn_one(
    predict: Run, video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert predict(video) == 0

    assert names_in(tmp_path / "out") == ["videos"]
    assert names_in(tmp_path / "out" / "videos") == ["journal.jsonl", "site.mp4"]
    output = capsys.readouterr().out
    assert "site.mp4: 4 frames, " in output
    assert " frames/s: " in output


def test_frames_are_written_where_they_are_asked_for(predict: Run, video: Path, tmp_path: Path) -> None:
    assert predict(video, "--write", "drawing,panoptic,quantities", "--batch", "3") == 0

    folder = tmp_path / "out" / "videos" / "site"
    names = [f"site_{number:06d}" for number in range(1, 5)]
    assert names_in(folder) == ["frames.jsonl", "panoptic", "panoptic.json", "quantities.csv"]
    assert names_in(folder / "panoptic") == [f"{name}.png" for name in names]
    found = json.loads((folder / "panoptic.json").read_text())
    assert [image["file_name"] for image in found["images"]] == [f"{name}.png" for name in names]
    categories: dict[int, set[int]] = {}
    for annotation in found["annotations"]:
        for segment in annotation["segments_info"]:
            categories.setdefault(segment["id"], set()).add(segment["category_id"])
    assert {len(ids) for ids in categories.values()} == {1}
    with (folder / "quantities.csv").open() as table:
        assert {row["image"] for row in csv.DictReader(table)} == {f"{name}.png" for name in names}


def test_a_video_is_predicted_once(
    predict: Run, video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = tmp_path / "out" / "videos" / "site.mp4"
    assert predict(video) == 0
    made = result.stat().st_mtime_ns

    assert predict(video) == 0

    assert result.stat().st_mtime_ns == made
    assert "site.mp4: predicted by an earlier run" in capsys.readouterr().out


def test_results_of_other_settings_are_replaced_where_that_is_asked_for(
    predict: Run, video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "out" / "videos" / "site"
    assert predict(video, "--write", "panoptic") == 0

    assert predict(video, "--write", "quantities") == 2
    assert "results of other settings (write was panoptic, now quantities)" in capsys.readouterr().err
    assert predict(video, "--write", "quantities", "--overwrite") == 0

    assert names_in(folder) == ["frames.jsonl", "quantities.csv"]


def test_somebody_else_s_video_isn_t_replaced(
    predict: Run, video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "out" / "videos" / "site.mp4"
    other.parent.mkdir(parents=True)
    other.write_bytes(b"somebody else's")

    assert predict(video) == 2

    assert "site.mp4 is there already, and not by a run that is noted" in capsys.readouterr().err
    assert other.read_bytes() == b"somebody else's"


def test_a_camera_s_recordings_are_all_kept(predictor: Predictor, video: Path, tmp_path: Path) -> None:
    for _ in range(2):
        predict_camera(predictor, str(video), tmp_path / "out", [], 30, file_format="mp4")

    first, second = names_in(tmp_path / "out" / "videos")
    assert first.startswith("camera-") and second == first.replace(".mp4", "_2.mp4")


def test_a_broken_video_is_named_and_the_others_are_predicted(
    predict: Run, video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken.mp4"
    broken.touch()

    assert predict(broken, video, "--write", "panoptic") == 2

    assert capsys.readouterr().err == f"skipped: {broken}: can't be read as a video: the file is empty.\n"
    assert names_in(tmp_path / "out" / "videos") == ["journal.jsonl", "site", "site.mp4"]


def test_a_video_isn_t_replaced_by_its_result(
    predict: Run, video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out" / "videos").mkdir(parents=True)
    moved = video.rename(tmp_path / "out" / "videos" / "site.mp4")
    content = moved.read_bytes()

    assert predict(moved) == 2

    assert "is one of the videos and would be replaced" in capsys.readouterr().err
    assert moved.read_bytes() == content


def test_an_absent_camera_is_named(predict: Run, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("av")

    assert predict("--camera", "99") == 2

    assert "camera 99 can't be opened" in capsys.readouterr().err


def test_tiles_are_what_python_gives(predict: Run, photo: Path, predictor: Predictor, tmp_path: Path) -> None:
    assert predict(photo, "--tile", "64", "--overlap", "16", "--write", "panoptic") == 0

    expected = predict_by_tiles(predictor, read_image(photo), 64, 16)
    segments = json.loads((tmp_path / "out" / "panoptic.json").read_text())["annotations"][0]["segments_info"]
    assert [(one["id"], one["area"]) for one in segments] == [(one["id"], one["area"]) for one in expected.segments]


def test_an_image_that_is_too_large_is_predicted_by_tiles(
    predict: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1500)  # so that Pillow refuses more than 3000
    monkeypatch.setattr(images, "MOST_PIXELS", 3000)
    Image.fromarray(np.zeros((48, 64, 3), np.uint8)).save(tmp_path / "large.png")

    assert predict(tmp_path / "large.png") == 2
    assert "has more than 3,000 pixels; predict it by tiles with --tile 1024" in capsys.readouterr().err
    assert predict(tmp_path / "large.png", "--tile", "32", "--overwrite") == 0
    assert Image.MAX_IMAGE_PIXELS == 1500


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--tile", "64", "--overlap", "64"], "allowed are overlaps from 1 to 63"),
        (["--overlap", "64"], "--overlap 64 is of tiles; give --tile, too"),
    ],
)
def test_tiles_that_can_t_be_are_refused(
    predict: Run, photo: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert predict(photo, *words) == 2

    assert message in capsys.readouterr().err


def test_tiles_need_masks(
    predict: Run, photo: Path, boxes_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert predict(photo, "--tile", "64", "--write", "instances", model=boxes_checkpoint) == 2

    assert "--tile joins masks, and the model has no mask head" in capsys.readouterr().err
