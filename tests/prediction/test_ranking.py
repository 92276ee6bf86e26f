"""One forward pass for many thresholds, and the images of which a model is least certain."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch

import detr_d2
from detr_d2.cli import main
from detr_d2.errors import ConfigError
from detr_d2.prediction.images import read_image
from detr_d2.prediction.predictor import ForwardPass
from detr_d2.prediction.ranking import uncertainty_of

THRESHOLD = 0.02
"""A model that never learnt is sure of nothing."""


@pytest.fixture(scope="module")
def images(yard_folder: Path) -> list[Path]:
    return sorted((yard_folder / "images").glob("*val*"))


@pytest.fixture(scope="module")
def seen(predictor: detr_d2.Predictor, images: list[Path]) -> ForwardPass:
    return ForwardPass(predictor, read_image(images[0]), "a.jpg")


def test_map_of_a_kept_forward_pass_is_that_of_a_predictor_with_these_thresholds(
    seen: ForwardPass, checkpoint: Path, images: list[Path]
) -> None:
    predictor = detr_d2.Predictor(checkpoint, device="cpu", score_threshold=THRESHOLD, overlap_threshold=0.3)
    expected = predictor(images[0])

    made = seen.prediction(THRESHOLD, 0.3)

    assert made.panoptic is not None and expected.panoptic is not None
    np.testing.assert_array_equal(made.panoptic, expected.panoptic)
    assert made.segments == expected.segments and made.segments


def test_network_runs_once_whatever_the_thresholds(
    predictor: detr_d2.Predictor, images: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = ForwardPass(predictor, read_image(images[0]))
    monkeypatch.setattr(predictor.model.detr, "forward", lambda *_: pytest.fail("the network ran again"))

    counts = [len(seen.prediction(threshold).segments) for threshold in (0.01, THRESHOLD, 0.5, 1.0)]

    assert counts == sorted(counts, reverse=True) and counts[-1] == 0


def test_segments_below_the_least_area_are_dropped(seen: ForwardPass) -> None:
    areas = [segment["area"] for segment in seen.prediction(THRESHOLD, min_area=400).segments]

    assert areas and min(areas) >= 400


def test_forward_pass_of_a_model_without_masks_is_refused(boxes_checkpoint: Path, images: list[Path]) -> None:
    predictor = detr_d2.Predictor(boxes_checkpoint, device="cpu")

    with pytest.raises(ConfigError, match="no mask head"):
        ForwardPass(predictor, read_image(images[0]))


def fake(seen: ForwardPass, masks: torch.Tensor, monkeypatch: pytest.MonkeyPatch, classes: list[int]) -> None:
    """Puts masks in the place of what the model gave."""
    queries = torch.arange(len(masks))
    monkeypatch.setattr(seen, "kept", lambda *_: (queries, torch.ones(len(masks)), torch.tensor(classes)))
    monkeypatch.setattr(seen, "masks_of", lambda _: masks)


def test_clear_masks_are_more_certain_than_close_ones(seen: ForwardPass, monkeypatch: pytest.MonkeyPatch) -> None:
    things = seen.is_thing.nonzero()[:, 0].tolist()[:2]
    height, width = (side // 4 for side in seen.sizes.padded)
    one = torch.full((height, width), 8.0)
    found = []
    for other in (-8.0, 7.9):
        fake(seen, torch.stack([one, torch.full_like(one, other)]), monkeypatch, things)
        found.append(uncertainty_of(seen)[0])

    assert found[0].narrow < 0.01 < 0.9 < found[1].narrow
    assert found[0].unclaimed == found[1].unclaimed == 0


def test_two_queries_of_one_stuff_class_are_no_doubt(seen: ForwardPass, monkeypatch: pytest.MonkeyPatch) -> None:
    stuff = int((~seen.is_thing).nonzero()[0])
    height, width = (side // 4 for side in seen.sizes.padded)
    fake(seen, torch.full((2, height, width), 8.0), monkeypatch, [stuff, stuff])

    assert uncertainty_of(seen)[0].narrow < 0.01


def test_pixels_that_no_mask_claims_are_counted(seen: ForwardPass, monkeypatch: pytest.MonkeyPatch) -> None:
    height, width = (side // 4 for side in seen.sizes.padded)
    mask = torch.full((1, height, width), 8.0)
    mask[:, :, width // 2 :] = -8
    fake(seen, mask, monkeypatch, [0])

    assert uncertainty_of(seen)[0].unclaimed == pytest.approx(0.5, abs=0.1)


def test_image_in_which_nothing_is_seen_is_the_least_certain(
    seen: ForwardPass, monkeypatch: pytest.MonkeyPatch
) -> None:
    none = torch.zeros(0, dtype=torch.int64)
    monkeypatch.setattr(seen, "kept", lambda *_: (none, none.float(), none))

    uncertainty, doubt = uncertainty_of(seen)

    assert uncertainty.score == 1 and doubt.min() == 1


def test_rank_lists_every_image_and_shows_it(
    checkpoint: Path, yard_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inputs, out = str(yard_folder / "images"), tmp_path / "next"
    (tmp_path / "broken.jpg").write_bytes(b"no image")

    arguments = ["predict", str(checkpoint), inputs, str(tmp_path / "broken.jpg"), "--out", str(out), "--rank"]
    code = main([*arguments, "--score-threshold", str(THRESHOLD), "--device", "cpu"])

    rows = list(csv.DictReader((out / "ranking.csv").open()))
    assert code == 2 and "broken.jpg" in capsys.readouterr().err
    assert sorted(row["image"] for row in rows) == sorted(p.name for p in (yard_folder / "images").iterdir())
    scores = [float(row["uncertainty"]) for row in rows]
    assert scores == sorted(scores, reverse=True) and 0 <= scores[-1] <= scores[0] <= 1
    page = (out / "ranking.html").read_text()
    assert all(row["image"] in page for row in rows)
