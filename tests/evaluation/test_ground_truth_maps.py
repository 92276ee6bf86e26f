"""Ground truth kept as runs is the same as the ids of its file, whatever the file is."""

from __future__ import annotations

import os
import struct
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from detr_d2.data import read_panoptic_png
from detr_d2.errors import DatasetError, MissingFileError
from detr_d2.evaluation.overlaps import GroundTruthMaps, Overlaps, RunMap, joint_histogram, read_run_map, segment_areas


def write(path: Path, ids: np.ndarray, mode: str = "RGB", **options: object) -> str:
    channels = [ids % 256, ids // 256 % 256, ids // 65536, np.arange(ids.size).reshape(ids.shape) % 256]
    Image.fromarray(np.stack(channels[: len(mode)], -1).astype(np.uint8), mode).save(path, "PNG", **options)
    return str(path)


def run_map(ids: np.ndarray) -> RunMap:
    return RunMap((ids.shape[0], ids.shape[1]), np.arange(ids.size), ids.ravel())


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
@pytest.mark.parametrize("options", [{}, {"transparency": (1, 0, 0)}, {"optimize": True}])
def test_map_is_that_which_pillow_reads(tmp_path: Path, mode: str, options: dict) -> None:
    ids = np.random.default_rng(0).integers(0, 2**24, (6, 7)).repeat(5, 0).repeat(9, 1)
    path = write(tmp_path / "a.png", ids, mode, **(options if mode == "RGB" else {}))

    found = read_run_map(path)

    assert found.shape == (30, 63)
    np.testing.assert_array_equal(found.pixels(), ids)
    np.testing.assert_array_equal(found.pixels(), read_panoptic_png(path))
    assert found.areas() == segment_areas(ids)


def test_a_damaged_png_is_refused_and_ends_no_process(tmp_path: Path) -> None:
    whole = Path(write(tmp_path / "a.png", np.arange(3000).reshape(50, 60))).read_bytes()
    damaged = tmp_path / "damaged.png"

    for place in range(60, len(whole) - 16, 37):
        damaged.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        with suppress(DatasetError):
            assert read_run_map(str(damaged)).shape == (50, 60)
    damaged.write_bytes(_png_of_rows(b"\x09" + bytes(3 * 60), 50))
    with suppress(DatasetError):
        assert read_run_map(str(damaged)).shape == (50, 60)


def _png_of_rows(row: bytes, height: int) -> bytes:
    """An RGB PNG with right checksums: its rows as they are, the first byte of each being its filter."""
    header = struct.pack(">IIBBBBB", (len(row) - 1) // 3, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(row * height)), (b"IEND", b""))
    packed = (
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def test_files_that_are_no_panoptic_pngs_are_refused_as_by_pillow(tmp_path: Path) -> None:
    cut, grey, deep = (tmp_path / f"{name}.png" for name in ("cut", "grey", "deep"))
    cut.write_bytes(Path(write(tmp_path / "a.png", np.arange(3000).reshape(50, 60))).read_bytes()[:200])
    Image.new("L", (4, 3)).save(grey)
    Image.new("I;16", (4, 3)).save(deep)
    for path in (cut, grey, deep):
        with pytest.raises(DatasetError) as ours:
            read_run_map(str(path))
        with pytest.raises(DatasetError) as pillows:
            read_panoptic_png(str(path))
        assert str(ours.value) == str(pillows.value)
    with pytest.raises(MissingFileError):
        GroundTruthMaps().read(str(tmp_path / "gone.png"))


def test_kept_maps_are_read_once_and_anew_when_their_files_change(tmp_path: Path) -> None:
    maps, path = GroundTruthMaps(), write(tmp_path / "a.png", np.ones((4, 5), int))

    first = maps.read(path)
    assert maps.read(path) is first and maps.nbytes == first.nbytes
    os.utime(write(tmp_path / "a.png", np.full((4, 5), 7)), (1, 1))
    second = maps.read(path)

    assert second.areas() == {7: 20} and maps.nbytes == second.nbytes
    (tmp_path / "a.png").unlink()
    with pytest.raises(MissingFileError):
        maps.read(path)
    assert maps.nbytes == 0


def test_no_more_is_kept_than_allowed(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 2**24, (3, 20, 30))
    paths = [write(tmp_path / f"{number}.png", ids) for number, ids in enumerate(noise)]
    maps = GroundTruthMaps(most_bytes=int(2.5 * read_run_map(paths[0]).nbytes))

    for path, ids in [*zip(paths, noise)] * 2:
        np.testing.assert_array_equal(maps.read(path).pixels(), ids)
        assert maps.nbytes <= int(2.5 * read_run_map(paths[0]).nbytes)

    assert maps.read(paths[0]) is maps.read(paths[0]) and maps.read(paths[2]) is not maps.read(paths[2])


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), st.sampled_from([3, 300, 70_000, 2**24 - 1]), st.sampled_from([3, 300, 2**31 - 1]))
def test_runs_meet_as_many_pixels_as_maps(seed: int, most: int, most_predicted: int) -> None:
    rng = np.random.default_rng(seed)
    rows, columns, wide = rng.integers(1, 9, 3).tolist()
    ids = rng.integers(0, most, (rows, columns)).repeat(wide, 1)
    predicted = rng.integers(0, most_predicted, ids.shape)

    by_runs, by_pixels = joint_histogram(run_map(ids), predicted), joint_histogram(ids, predicted)

    for ours, expected in zip(by_runs, by_pixels):
        np.testing.assert_array_equal(ours, expected)
    assert list(Overlaps(run_map(ids), predicted).pairs.items()) == list(Overlaps(ids, predicted).pairs.items())


def test_real_ground_truth_takes_little_memory(shared_data: Path) -> None:
    paths = sorted((shared_data / "coco128_panoptic" / "val" / "panoptic").glob("*.png"))
    if not paths:
        pytest.skip("no real data: coco128_panoptic isn't there")
    maps = GroundTruthMaps()

    for path in paths:
        np.testing.assert_array_equal(maps.read(str(path)).pixels(), read_panoptic_png(str(path)))

    assert maps.nbytes / len(paths) < 20_000
