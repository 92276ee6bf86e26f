"""Videos in and out: frames, times and sound are kept, objects keep their ids, and nothing half-written is left."""

from __future__ import annotations

import importlib.util
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("av", reason="PyAV isn't installed: pip install 'detr_d2[video]'")
import av

from detr_d2.data import Category
from detr_d2.errors import ConfigError
from detr_d2.prediction import Prediction
from detr_d2.prediction.video import ahead, draw_objects, ended_by_ctrl_c, predict_video, shade
from detr_d2.prediction.video_files import Frame, VideoError, open_camera, open_video, upright, write_video
from detr_d2.yard import CATEGORIES, yard_video

NTSC = Fraction(30000, 1001)
SIZE = (96, 80)
FRAMES = 12
YARD = [Category(c["id"], c["name"], bool(c["isthing"]), tuple(c["color"])) for c in CATEGORIES]

Maker = Callable[..., Path]


@pytest.fixture(scope="module")
def yard() -> list[tuple[np.ndarray, np.ndarray, list[dict[str, Any]]]]:
    return list(yard_video(FRAMES, SIZE, seed=1))


@pytest.fixture
def make(tmp_path: Path, yard: list[tuple[np.ndarray, np.ndarray, list[dict[str, Any]]]]) -> Maker:
    """Writes a video of the yard: ``make(name, rate=…, sound="aac", times=[…])``."""

    def write(
        name: str = "yard.mp4", rate: Fraction = NTSC, sound: str | None = None, times: Sequence[int] = ()
    ) -> Path:
        with av.open(str(tmp_path / name), "w") as container:
            stream = container.add_stream("libx264", rate=rate)
            (stream.width, stream.height), stream.pix_fmt = SIZE, "yuv420p"
            audio = None if sound is None else container.add_stream(sound, rate=48000)
            for number, (image, _, _) in enumerate(yard):
                frame = av.VideoFrame.from_ndarray(image, format="rgb24")
                frame.pts, frame.time_base = times[number] if times else number, 1 / rate
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
            if audio is not None:
                _add_noise(container, audio)
        return tmp_path / name

    return write


def _add_noise(container: Any, stream: Any) -> None:
    rng = np.random.default_rng(0)
    for number in range(20):
        samples = (rng.normal(0, 0.1, (1, 2 * 1024)) * 2**15).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="stereo")
        frame.rate, frame.pts = 48000, number * 1024
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


class KnowsAll:
    """In place of a model: the ground truth, with ids that are other ones in each frame."""

    def __init__(self, labels: list[tuple[np.ndarray, np.ndarray, list[dict[str, Any]]]]) -> None:
        self.left = iter(labels)
        self.batches: list[int] = []

    def batch(self, images: Sequence[np.ndarray]) -> list[Prediction]:
        self.batches.append(len(images))
        return [self._next(image, len(self.batches)) for image in images]

    def _next(self, image: np.ndarray, seed: int) -> Prediction:
        _, ids, segments = next(self.left)
        new_ids = np.random.default_rng(seed).permutation(len(segments)) + 1
        table = np.zeros(ids.max() + 1, np.int32)
        table[[segment["id"] for segment in segments]] = new_ids
        renamed = [{**segment, "id": int(new_id), "score": 0.9} for segment, new_id in zip(segments, new_ids)]
        return Prediction(image, table[ids], renamed, YARD)


def content(path: Path) -> tuple[list[Fraction], Fraction | None, list[bytes]]:
    """Times of the frames, the frame rate, and the packets of the sound."""
    with av.open(str(path)) as container:
        rate = container.streams.video[0].average_rate
        times = [Fraction(frame.pts) * Fraction(frame.time_base) for frame in container.decode(video=0)]
    with av.open(str(path)) as container:
        sound = (
            [bytes(packet) for packet in container.demux(*container.streams.audio)] if container.streams.audio else []
        )
    return times, rate, [packet for packet in sound if packet]


@pytest.mark.parametrize(("sound", "name"), [("aac", "a.mp4"), ("libopus", "a.mkv"), (None, "a.mov")])
def test_frames_times_and_sound_are_kept(make: Maker, yard: Any, tmp_path: Path, sound: str, name: str) -> None:
    source, target = make(name, sound=sound), tmp_path / "out" / "drawn.mp4"

    with open_video(source) as video:
        summary = predict_video(KnowsAll(yard), video, target)

    assert summary.frames == FRAMES
    times, rate, packets = content(target)
    old_times, old_rate, old_packets = content(source)
    assert len(times) == FRAMES
    assert times == pytest.approx(old_times, abs=1e-3)
    assert packets == old_packets
    assert (packets != []) is (sound is not None)
    if name.endswith(".mp4"):
        assert (times, rate) == (old_times, old_rate)


def test_frames_that_come_unevenly_keep_their_times(make: Maker, yard: Any, tmp_path: Path) -> None:
    source = make(times=[number**2 for number in range(FRAMES)])

    with open_video(source) as video:
        predict_video(KnowsAll(yard), video, tmp_path / "drawn.mp4")

    assert content(tmp_path / "drawn.mp4")[0] == content(source)[0]


def test_recordings_that_were_joined_follow_one_another(make: Maker, yard: Any, tmp_path: Path) -> None:
    part = make("part.ts", sound="aac")
    joined = tmp_path / "joined.ts"
    joined.write_bytes(2 * part.read_bytes())

    with open_video(joined) as video:
        summary = predict_video(KnowsAll([*yard, *yard]), video, tmp_path / "drawn.mp4")

    times, _, sound = content(tmp_path / "drawn.mp4")
    assert summary.frames == len(times) == 2 * FRAMES
    assert all(later > earlier for earlier, later in pairwise(times))
    assert sound == [packet[7:] for packet in content(joined)[2]] != [], "MP4 has no ADTS headers"


def test_objects_keep_ids_and_numbers_of_frames_agree(make: Maker, yard: Any, tmp_path: Path) -> None:
    seen: list[Prediction] = []
    model = KnowsAll(yard)

    with open_video(make()) as video:
        summary = predict_video(model, video, tmp_path / "drawn.mp4", batch=5, each=seen.append)

    assert model.batches == [5, 5, 2]
    found: dict[int, set[int]] = {}
    for prediction, (_, ids, segments) in zip(seen, yard, strict=True):
        assert prediction.panoptic is not None
        for segment in segments:
            found.setdefault(segment["id"], set()).update(prediction.panoptic[ids == segment["id"]].tolist())
    assert [len(ids) for ids in found.values()] == [1] * len(found)
    is_thing = {category.id: category.is_thing for category in YARD}
    things = {segment["id"] for _, _, segments in yard for segment in segments if is_thing[segment["category_id"]]}
    assert summary.objects == len(things)


def test_frames_of_odd_size_are_written_with_a_row_and_column_more(make: Maker, tmp_path: Path) -> None:
    with open_video(make()) as video:
        frames = [frame._replace(image=frame.image[:-1, :-1]) for frame in video.frames]
        write_video(tmp_path / "odd.mp4", video, frames)

    with open_video(tmp_path / "odd.mp4") as video:
        assert next(video.frames).image.shape == (*SIZE[::-1], 3)


def test_boxes_only_are_drawn_too(make: Maker, yard: Any, tmp_path: Path) -> None:
    class Boxes:
        def batch(self, images: Sequence[np.ndarray]) -> list[Prediction]:
            return [Prediction(image, None, [], YARD, instances=_no_boxes(image)) for image in images]

    with open_video(make()) as video:
        assert predict_video(Boxes(), video, tmp_path / "drawn.mp4").frames == FRAMES


def _no_boxes(image: np.ndarray) -> Any:
    empty = Prediction(image, np.zeros(image.shape[:2], np.int32), [], YARD)
    return empty.instances


@pytest.mark.parametrize(
    "content_", [b"", b"no video", b"\x00\x00\x00\x18ftypmp42" + bytes(100)], ids=["empty", "text", "cut"]
)
def test_what_is_no_video_is_named(tmp_path: Path, content_: bytes) -> None:
    path = tmp_path / "broken.mp4"
    path.write_bytes(content_)

    with pytest.raises(VideoError, match=r"broken\.mp4: can't be read as a video: \S"), open_video(path):
        pass


def test_sound_alone_is_no_video(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        _add_noise(container, container.add_stream("aac", rate=48000))

    with pytest.raises(VideoError, match="there are no images in it"), open_video(tmp_path / "sound.mp4"):
        pass


def test_a_video_without_frames_leaves_nothing(tmp_path: Path, yard: Any) -> None:
    source, out = tmp_path / "none.mp4", tmp_path / "out"
    with av.open(str(source), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        (stream.width, stream.height), stream.pix_fmt = SIZE, "yuv420p"
        container.start_encoding()

    with pytest.raises(VideoError, match=r"none\.mp4: can't be read as a video"), open_video(source) as video:
        predict_video(KnowsAll(yard), video, out / "drawn.mp4")

    assert not out.exists() or list(out.iterdir()) == []


def test_an_error_on_the_way_leaves_nothing(make: Maker, yard: Any, tmp_path: Path) -> None:
    class Fails(KnowsAll):
        def batch(self, images: Sequence[np.ndarray]) -> list[Prediction]:
            if len(self.batches) == 5:
                raise ConfigError("no more")
            return super().batch(images)

    out = tmp_path / "out"

    with pytest.raises(ConfigError, match="no more"), open_video(make()) as video:
        predict_video(Fails(yard), video, out / "drawn.mp4")

    assert list(out.iterdir()) == []


def test_a_missing_file_is_the_system_s_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), open_video(tmp_path / "absent.mp4"):
        pass


def test_without_pyav_the_message_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, make: Maker) -> None:
    path = make()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)

    with pytest.raises(ConfigError, match=r"pip install 'detr_d2\[video\]'"), open_video(path):
        pass


def test_a_camera_is_read_from_its_first_frame_on(make: Maker, yard: Any, tmp_path: Path) -> None:
    source = make("camera.mkv", times=[number + 1000 for number in range(FRAMES)])

    with open_camera(str(source), "matroska") as video:
        assert predict_video(KnowsAll(yard), video, tmp_path / "drawn.mp4").frames == FRAMES

    assert content(tmp_path / "drawn.mp4")[0][0] == 0


def test_an_absent_camera_is_named() -> None:
    with pytest.raises(ConfigError, match="camera 99 can't be opened as "), open_camera("99"):
        pass


def test_ctrl_c_ends_a_camera_s_video_and_keeps_it(make: Maker, yard: Any, tmp_path: Path) -> None:
    seen: list[Prediction] = []

    def interrupt(prediction: Prediction) -> None:
        seen.append(prediction)
        if len(seen) == 2:
            os.kill(os.getpid(), signal.SIGINT)

    with open_camera(str(make("camera.mkv")), "matroska") as camera, ended_by_ctrl_c(camera) as video:
        summary = predict_video(KnowsAll(yard), video, tmp_path / "drawn.mp4", each=interrupt)

    assert 2 <= summary.frames < FRAMES
    assert len(content(tmp_path / "drawn.mp4")[0]) == summary.frames
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize(("degrees", "corner"), [(0, (0, 0)), (90, (1, 0)), (-90, (0, 2)), (180, (1, 2))])
def test_turned_frames_are_made_upright(degrees: int, corner: tuple[int, int]) -> None:
    image = np.zeros((2, 3, 3), np.uint8)
    image[0, 0] = 255

    turned = upright(image, degrees)

    expected = {0: (0, 0), 90: (2, 0), -90: (0, 1), 180: (1, 2)}[degrees]
    assert tuple(np.argwhere(turned[:, :, 0])[0]) == expected


def test_an_object_s_colour_is_its_own_and_stays(yard: Any) -> None:
    image, ids, segments = yard[0]

    one, again = (draw_objects(Prediction(image, ids, segments, YARD)) for _ in range(2))

    assert (one == again).all()
    assert len({shade((200, 60, 40), number) for number in range(1, 9)}) == 8


def test_items_are_made_ahead_but_not_far() -> None:
    made: list[int] = []

    def items() -> Iterator[int]:
        for number in range(10):
            made.append(number)
            yield number

    taken = ahead(items(), 2)
    assert next(taken) == 0
    taken.close()

    assert len(made) <= 3


def test_an_error_of_what_is_made_ahead_comes_in_its_place() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise KeyError("2")

    taken = ahead(items())

    assert next(taken) == 1
    with pytest.raises(KeyError):
        next(taken)


def test_a_frame_has_its_time(make: Maker) -> None:
    with open_video(make()) as video:
        frames = list(video.frames)

    assert [frame.time for frame in frames] == [number / NTSC for number in range(FRAMES)]
    assert isinstance(frames[0], Frame)
    assert (video.rate, video.length) == (NTSC, FRAMES)


def test_a_title_that_is_not_utf8_is_no_reason_to_refuse_a_video(make: Maker, tmp_path: Path) -> None:
    path = make()
    with av.open(str(path)) as source, av.open(str(tmp_path / "titled.mp4"), "w") as container:
        container.metadata["title"] = "TITLE"
        stream = container.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                container.mux(packet)
    content = (tmp_path / "titled.mp4").read_bytes()
    assert content.count(b"TITLE") == 1
    path.write_bytes(content.replace(b"TITLE", b"\xcc\xff\xfe\xcc\x80"))

    with open_video(path) as video:
        assert len(list(video.frames)) == FRAMES
