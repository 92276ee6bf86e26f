"""Videos as frames: files and cameras in, files out, with their times and their sound; by PyAV, which is FFmpeg."""

from __future__ import annotations

import importlib.util
import io
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import numpy as np

from detr_d2.errors import ConfigError, UserError
from detr_d2.files import open_regular, write_whole

if TYPE_CHECKING:
    from av.container import InputContainer

#: FFmpeg's names of what reads cameras, and what a camera's number is there.
_CAMERAS = {"linux": ("v4l2", "/dev/video{}"), "darwin": ("avfoundation", "{}:none"), "win32": ("dshow", "video={}")}
#: What is written: H.264, which everything plays, encoded fast enough to leave the processor to the network.
_CODEC, _CODEC_OPTIONS = "libx264", {"preset": "veryfast", "crf": "20"}
_USUAL_RATE = Fraction(25)


class VideoError(UserError, ValueError):
    """A video can't be read, or isn't one."""


class Frame(NamedTuple):
    """A frame of a video.

    Attributes:
        image: (H, W, 3) uint8, RGB, upright.
        time: in seconds, exact.
    """

    image: np.ndarray
    time: Fraction


class Video(NamedTuple):
    """A video that is open.

    Attributes:
        name: its file, or the camera.
        rate: frames in a second, on average.
        time_base: what its times are multiples of, in seconds.
        length: how many frames there are; 0 if that isn't known.
        frames: they can be taken once.
        sound: the file that the sound is in; None of a camera.
    """

    name: str
    rate: Fraction
    time_base: Fraction
    length: int
    frames: Iterator[Frame]
    sound: Path | None


def check_package() -> None:
    """Refuses to read videos without PyAV.

    Raises:
        ConfigError: it isn't installed; the message has the command that installs it.
    """
    if importlib.util.find_spec("av") is None:
        raise ConfigError("Videos and cameras need PyAV, not installed here: pip install 'detr_d2[video]'.")


@contextmanager
def open_video(path: Path) -> Iterator[Video]:
    """Open a video's file for reading.

    Raises:
        ConfigError: PyAV isn't installed.
        VideoError: it is no video, or an empty one; later also by ``frames``, where it is broken.
        OSError: the system refuses it.
    """
    check_package()
    import av

    open_regular(path).close()  # so that what isn't there, or is a pipe, is refused as everywhere
    try:
        # A title that isn't UTF-8 is no reason not to show the video.
        container = av.open(_address(path), "r", metadata_errors="replace")
    except av.error.FFmpegError as error:
        raise VideoError(f"{path}: can't be read as a video: {_reason(error, path)}.") from error
    with container:
        yield _opened(container, str(path), path)


def _address(path: Path) -> str:
    """A file's name as FFmpeg takes it, to which ``a:b`` would be the protocol ``a``."""
    return f"file:{path}"


@contextmanager
def open_camera(camera: str, file_format: str | None = None) -> Iterator[Video]:
    """Open a camera for reading; its frames don't end by themselves.

    Args:
        camera: its number, from 0 on, or its name, such as ``/dev/video2``; on Windows only the name.
        file_format: FFmpeg's name of what reads it, by default the operating system's for cameras.

    Raises:
        ConfigError: PyAV isn't installed, or there is no such camera.
    """
    check_package()
    import av

    usual_format, pattern = _CAMERAS.get(sys.platform, _CAMERAS["linux"])
    by_number = camera.isdigit() or sys.platform == "win32"
    device = pattern.format(camera) if by_number and file_format is None else camera
    try:
        container = av.open(device, "r", format=file_format or usual_format)
    except (av.error.FFmpegError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(
            f"camera {camera} can't be opened as {device}: {reason}. Give the number of another one, or its name; it "
            "may be in use by another program."
        ) from error
    with container:
        yield _opened(container, f"camera {camera}", None)


def _opened(container: InputContainer, name: str, path: Path | None) -> Video:
    if not container.streams.video:
        raise VideoError(f"{name}: can't be read as a video: there are no images in it.")
    stream = container.streams.video[0]
    stream.thread_type = "AUTO"
    rate = stream.average_rate or stream.guessed_rate or _USUAL_RATE
    time_base = stream.time_base or 1 / rate
    return Video(name, rate, time_base, stream.frames, _frames(container, name, rate, path is None), path)


def _frames(container: InputContainer, name: str, rate: Fraction, is_camera: bool) -> Iterator[Frame]:
    import av

    number, start, last = 0, Fraction(0), None
    packets = container.demux(container.streams.video[0])
    while True:
        try:
            packet = next(packets, None)
            decoded = packet.decode() if packet is not None else []
        except av.error.FFmpegError as error:
            if is_camera:  # whose first images often are incomplete
                continue
            raise VideoError(f"{name}: broken after frame {number}: {_reason(error)}.") from error
        if packet is None:
            break
        for image in decoded:
            pts, unit = (number, 1 / rate) if image.pts is None else (image.pts, image.time_base or 1 / rate)
            time = pts * unit
            if is_camera and number == 0:  # which counts from when it was plugged in
                start = time
            if last is not None and time - start <= last:  # joined from recordings that each count from their start
                start = time - last - 1 / rate
            number, last = number + 1, time - start
            yield Frame(upright(image.to_ndarray(format="rgb24"), image.rotation), last)
    if number == 0:
        raise VideoError(f"{name}: can't be read as a video: it has no frames.")


def upright(image: np.ndarray, degrees: int) -> np.ndarray:
    """An image (H, W, 3) turned counter-clockwise by the quarter turns that are nearest to ``degrees``."""
    return np.ascontiguousarray(np.rot90(image, round(degrees / 90)))


def _reason(error: Any, path: Path | None = None) -> str:
    if path is not None and path.stat().st_size == 0:
        return "the file is empty"
    return error.strerror or str(error) or type(error).__name__


def write_video(target: Path, video: Video, frames: Iterable[Frame]) -> int:
    """Write frames as a video like another one: the same times and, packet by packet, the same sound.

    Args:
        target: gets MP4 or, by the suffix ``.mkv``, Matroska; whole or not at all.
        video: that they were made of.
        frames: taken one by one; all of one size, to which a row or column is added where it is odd.

    Returns:
        How many frames there were.

    Raises:
        OSError: it can't be written.
        VideoError: FFmpeg makes no video of it.
        ConfigError: the sound doesn't fit into such a file.
    """
    import av

    written = 0

    def encode(file: BinaryIO) -> None:
        nonlocal written
        written = _encode(file, "matroska" if target.suffix.lower() == ".mkv" else "mp4", video, frames)

    try:
        write_whole(target, encode)
    except av.error.FFmpegError as error:
        if isinstance(error, OSError):
            raise
        raise VideoError(f"{video.name}: can't be written as a video: {_reason(error)}.") from error
    return written


def _encode(file: BinaryIO, file_format: str, video: Video, frames: Iterable[Frame]) -> int:
    """Writes the video, and returns how many frames there were."""
    import av

    number = 0
    with av.open(file, "w", format=file_format) as container, _sound(video.sound) as sound:
        stream = container.add_stream(_CODEC, rate=video.rate, options=_CODEC_OPTIONS)
        stream.pix_fmt, stream.codec_context.time_base = "yuv420p", video.time_base
        copies = {source.index: _copied(container, source) for source in sound.streams}
        waiting = next(sound.packets, None)
        for number, frame in enumerate(frames, 1):
            image = _even(frame.image)
            if number == 1:
                stream.height, stream.width = image.shape[:2]
            while waiting is not None and waiting.pts * waiting.time_base <= frame.time:
                _put(container, copies, waiting)
                waiting = next(sound.packets, None)
            made = av.VideoFrame.from_ndarray(image, format="rgb24")
            made.pts, made.time_base = round(frame.time / video.time_base), video.time_base
            container.mux(stream.encode(made))
        container.mux(stream.encode(None))
        while waiting is not None:
            _put(container, copies, waiting)
            waiting = next(sound.packets, None)
    return number


def _even(image: np.ndarray) -> np.ndarray:
    """With an even number of rows and columns, which H.264 needs; the last ones twice."""
    height, width = image.shape[:2]
    if height % 2 == width % 2 == 0:
        return np.ascontiguousarray(image)
    return np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")


class _Sound(NamedTuple):
    streams: list[Any]
    packets: Iterator[Any]


@contextmanager
def _sound(path: Path | None) -> Iterator[_Sound]:
    """The sound of a video as it is in its file: streams, and packets in their order."""
    import av

    if path is None:
        yield _Sound([], iter(()))
        return
    with av.open(_address(path), metadata_errors="replace") as container:
        streams = list(container.streams.audio)
        packets = container.demux(streams) if streams else iter(())
        yield _Sound(streams, _in_order(packets))


def _in_order(packets: Iterable[Any]) -> Iterator[Any]:
    """Packets that have times, which are moved on where they begin anew, as in recordings that were joined."""
    shifts, lasts, ends = defaultdict[int, int](int), dict[int, int](), dict[int, int]()
    for packet in packets:
        if packet.pts is None or packet.dts is None:
            continue
        index = packet.stream.index
        dts = packet.dts + shifts[index]
        if dts <= lasts.get(index, dts - 1):
            shifts[index] += ends[index] - dts
        packet.pts, packet.dts = packet.pts + shifts[index], packet.dts + shifts[index]
        lasts[index], ends[index] = packet.dts, packet.dts + max(packet.duration or 0, 1)
        yield packet


def result_suffix(video: Video) -> str:
    """What :func:`write_video` can write it as: ``.mp4``, or ``.mkv`` where MP4 can't hold the sound as it is."""
    import av

    with _sound(video.sound) as sound, av.open(io.BytesIO(), "w", format="mp4") as container:
        fits = all(stream.codec_context.name in container.supported_codecs for stream in sound.streams)
    return ".mp4" if fits else ".mkv"


def _copied(container: Any, source: Any) -> Any:
    if source.codec_context.name not in container.supported_codecs:
        raise ConfigError(
            f"the sound is {source.codec_context.name}, which {container.format.name} can't hold. Convert it, for "
            "example with 'ffmpeg -i OLD -c:v copy -c:a aac NEW.mp4'."
        )
    return container.add_stream_from_template(source)


def _put(container: Any, copies: dict[int, Any], packet: Any) -> None:
    packet.stream = copies[packet.stream.index]
    container.mux(packet)
