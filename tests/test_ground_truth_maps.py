"""Ground truth decoded by torchvision and kept as runs is the same as read by Pillow, whatever the file is."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from detr_d2.data import read_panoptic_png
from detr_d2.errors import DatasetError, MissingFileError
from detr_d2.evaluation import ground_truth_maps
from detr_d2.evaluation.ground_truth_maps import GroundTruthMaps, read_run_map
from detr_d2.evaluation.overlaps import Overlaps, RunMap, joint_histogram, segment_areas


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


def test_what_torchvision_cannot_read_is_pillows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = np.arange(12).reshape(3, 4) // 2
    path = write(tmp_path / "a.png", ids)
    monkeypatch.setattr(ground_truth_maps, "decode_png", lambda *_: 1 / 0)

    np.testing.assert_array_equal(read_run_map(path).pixels(), ids)


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
