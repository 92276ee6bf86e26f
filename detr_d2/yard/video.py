"""The yard as a video with exact ground truth: things move along smooth paths, leave and come back under their ids."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from .dataset import segment_ids, segments_info, without_mask
from .scene import STUFF, THINGS, Yard

Frame = tuple[np.ndarray, np.ndarray, list[dict[str, Any]]]
Path = Callable[[int], float]

_YARD, _CAMERA, _NOISE, _MOVERS = 2, 3, 4, 5
"""Random streams of a seed; 0 and 1 are those of scenes."""


class Mover(NamedTuple):
    """A thing that moves.

    Attributes:
        name: its category's name.
        x: its column in each frame, as a share of the image's width; outside of 0 to 1 it has left, or nearly.
        nearness: in each frame, 0 at the horizon to 1 in the foreground.
    """

    name: str
    x: Path
    nearness: Path


def yard_video(frames: int, size: tuple[int, int] = (160, 128), seed: int = 0) -> Iterator[Frame]:
    """Make a video of a yard in which three to six things move; sun, camera, buildings and plants stand still.

    The same arguments always give the same video, and a shorter one is the beginning of a longer one.

    Args:
        frames: how many; a thing goes to and fro in 150 to 300 of them.
        size: width and height of the images, in pixels.
        seed: a whole number from 0 on; another one gives another video.

    Returns:
        For each frame the image, (H, W, 3) uint8 RGB; its map of segment ids, (H, W) int32; and the segments that it
        shows, as in COCO's panoptic JSON, with categories of :data:`~detr_d2.yard.dataset.CATEGORIES`. A segment's id
        is the same in all frames, and no other segment ever has it. No pixel is void.

    Raises:
        ConfigError: a size that is too small or too large.
    """
    yard = Yard(_stream(seed, _YARD), *size)
    count = int(_stream(seed, _MOVERS).integers(3, 7))
    movers = [_mover(_stream(seed, _MOVERS, number + 1), leaves=number == 0) for number in range(count)]
    return (_frame(yard, movers, seed, frame) for frame in range(frames))


def _frame(yard: Yard, movers: list[Mover], seed: int, frame: int) -> Frame:
    names = [*STUFF, *(mover.name for mover in movers)]
    shown = [(sprite, STUFF.index(sprite.category)) for sprite in yard.scenery]
    things = []
    for number, mover in enumerate(movers, 1):
        look = _stream(seed, _MOVERS, number, 1)  # the same in each frame, so the thing looks the same
        sprite = yard.thing(look, mover.name, mover.x(frame) * yard.width, mover.nearness(frame))
        things.append((sprite, len(STUFF) + number - 1))
    shown += sorted(things, key=lambda thing: thing[0].base)
    sprites, numbers = zip(*shown)
    segments = yard.segments(sprites, (0, 1, *numbers))
    image = yard.photograph(sprites, _stream(seed, _CAMERA), noise=_stream(seed, _NOISE, frame))
    ids = np.array(segment_ids(names), np.int32)[segments]
    return image, ids, [without_mask(one) for one in segments_info(segments, names)]


def _mover(rng: np.random.Generator, leaves: bool) -> Mover:
    """A thing and its path; one that ``leaves`` goes out of the image on both sides, others may."""
    name = THINGS[rng.integers(len(THINGS))]
    centre, far = rng.uniform(0.35, 0.65), rng.uniform(0.1, 0.9)
    near = np.sort(rng.uniform(0.2, 1.0, 2))
    return Mover(name, _swing(rng, centre, 1.0 if leaves else far), _swing(rng, near.mean(), np.ptp(near) / 2))


def _swing(rng: np.random.Generator, centre: float, reach: float) -> Path:
    """A smooth path to and fro, ``reach`` to either side of its centre, in 150 to 300 frames."""
    period, phase = rng.uniform(150, 300), rng.uniform(0, 2 * np.pi)
    return lambda frame: float(centre + reach * np.sin(2 * np.pi * frame / period + phase))


def _stream(seed: int, *stream: int) -> np.random.Generator:
    return np.random.default_rng([seed, *stream])
