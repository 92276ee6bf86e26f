"""detr-d2 sweep: thresholds from one forward pass an image."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from detr_d2.checkpoint import DetrCheckpointer
from detr_d2.checkpoint.model_file import load_model
from detr_d2.cli import main
from detr_d2.data import DetrPanopticDatasetMapper
from detr_d2.errors import ConfigError, DatasetError, MissingFileError, WeightsError
from detr_d2.evaluation import DetrPanopticEvaluator
from detr_d2.evaluation.sweep import Setting, choose, sweep_thresholds

from detectron2.data import DatasetCatalog
from detectron2.modeling import build_model

SCORES, OVERLAPS = (0.3, 0.6, 0.8), (0.0, 0.9)


@pytest.fixture
def unsure(tiny_config):
    """An untrained model whose queries are of all classes, with probabilities all over the place; and its config."""
    cfg = tiny_config("MODEL.DETR.MASK_ON", True, "MODEL.DETR.MIN_SEGMENT_AREA", 1, "DATALOADER.NUM_WORKERS", 0)
    torch.manual_seed(0)
    model = build_model(cfg).eval()
    with torch.no_grad():
        model.detr.class_embed.weight.normal_(std=1.0)
        model.detr.query_embed.weight.normal_(std=3.0)
        model.detr.class_embed.bias.normal_(std=1.0)
    return model, cfg


def batches(cfg, name="yard_val"):
    mapper = DetrPanopticDatasetMapper(cfg, is_train=False)
    return [[mapper(record)] for record in DatasetCatalog.get(name)]


def test_sweep_gives_what_evaluations_with_these_thresholds_give(unsure):
    model, cfg = unsure
    settings = [Setting(score, overlap) for overlap in OVERLAPS for score in SCORES]
    calls = []
    model.detr.register_forward_hook(lambda *_: calls.append(1))

    result = sweep_thresholds(model, batches(cfg), DatasetCatalog.get("yard_val"), settings)

    assert len(calls) == 3 and list(result) == settings
    counts = set()
    for setting, quality in result.items():
        model.postprocess.score_threshold, model.postprocess.overlap_threshold = setting
        evaluator = DetrPanopticEvaluator("yard_val")
        for batch in batches(cfg):
            with torch.no_grad():
                evaluator.process(batch, model(batch))
        assert evaluator.evaluate()["panoptic_seg"]["PQ"] == 100 * quality.average(range(len(quality.iou))).pq
        counts.add((int(quality.false_positives.sum()), int(quality.true_positives.sum())))
    assert len(counts) >= 3  # the thresholds did something


@torch.no_grad()
def test_threshold_of_each_class_applies_to_it_alone(unsure):
    model, cfg = unsure
    batch = batches(cfg)[0]
    model.postprocess.score_threshold = 0.3
    before = {s["category_id"] for s in model(batch)[0]["panoptic_seg"][1]}
    unwanted = min(before)
    limits = [0.3] * len(model.categories)
    limits[unwanted] = 0.9999

    model.postprocess.class_score_thresholds = torch.tensor(limits)

    assert {s["category_id"] for s in model(batch)[0]["panoptic_seg"][1]} == before - {unwanted}


def test_wrong_number_of_class_thresholds_is_refused(tiny_config):
    with pytest.raises(ValueError, match="CLASS_SCORE_THRESHOLDS has 2 numbers for 10 classes"):
        build_model(tiny_config("MODEL.DETR.CLASS_SCORE_THRESHOLDS", [0.5, 0.6]))


def test_choice_is_the_best_setting_and_the_best_of_each_class(unsure):
    model, cfg = unsure
    settings = [Setting(score, 0.0) for score in SCORES]
    result = sweep_thresholds(model, batches(cfg), DatasetCatalog.get("yard_val"), settings)
    labels = range(len(model.categories))

    choice = choose(result, model.categories, settings[-1], resamples=50)

    means = {setting: quality.average(labels).pq for setting, quality in result.items()}
    best = Setting(**choice["best"])
    assert means[best] == max(means.values())
    for label, entry in enumerate(choice["classes"]):
        known = [q.of_class(label).pq for q in result.values() if not math.isnan(q.of_class(label).pq)]
        if entry["true_segments"] >= 10:
            assert entry["PQ"] == 100 * max(known)
        else:
            assert entry["score"] == best.score


@pytest.fixture
def checkpoint(unsure, tmp_path: Path) -> Path:
    DetrCheckpointer(unsure[0], str(tmp_path)).save("model")
    return tmp_path / "model.pth"


def sweep(checkpoint: Path, yard_folder: Path, *words: str) -> list[str]:
    register = str(yard_folder / "register.yaml")
    return ["sweep", str(checkpoint), "--dataset", "yard_val", "--register", register, *words]


OPTIONS = ("--opts", "DATALOADER.NUM_WORKERS", "0", "MODEL.DEVICE", "cpu")


def test_an_apostrophe_in_a_path_is_one(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="Bob's"):
        main(sweep(checkpoint, tmp_path / "Bob's yard", *OPTIONS))


@pytest.mark.parametrize("per_class", [False, True])
def test_command_says_what_to_set_and_writes_it_into_the_checkpoint(
    checkpoint: Path, yard_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], per_class: bool
) -> None:
    tuned = tmp_path / "tuned.pth"
    words = [
        "--scores",
        "0.3",
        "0.6",
        "--overlaps",
        "0",
        "0.5",
        "--store",
        str(tuned),
        "--json",
        str(tmp_path / "s.json"),
    ]

    assert main(sweep(checkpoint, yard_folder, *words, *["--per-class"] * per_class, *OPTIONS)) == 0

    content = json.loads((tmp_path / "s.json").read_text())
    assert len(content["settings"]) == 6 and content["current"] == {"score": 0.85, "overlap": 0.0}
    model, _ = load_model(str(tuned), ["MODEL.DEVICE", "cpu"])
    assert [model.postprocess.score_threshold, model.postprocess.overlap_threshold] == list(content["best"].values())
    limits = [c["score"] for c in content["classes"]] if per_class else []
    assert model.postprocess.class_score_thresholds.tolist() == pytest.approx(limits)
    said = capsys.readouterr().out
    assert "CLASS_SCORE_THRESHOLDS" in said and ("Leave them" in said or "Set MODEL.DETR.SCORE_THRESHOLD" in said)


def test_command_refuses_what_it_can_not_sweep(
    checkpoint: Path, yard_folder: Path, tiny_config, tmp_path: Path
) -> None:
    (tmp_path / "taken.pth").touch()
    with pytest.raises(WeightsError, match="is there already"):
        main(sweep(checkpoint, yard_folder, "--store", str(tmp_path / "taken.pth"), *OPTIONS))
    boxes = build_model(tiny_config())
    DetrCheckpointer(boxes, str(tmp_path)).save("boxes")
    with pytest.raises(WeightsError, match="has no masks"):
        main(sweep(tmp_path / "boxes.pth", yard_folder, *OPTIONS))
    with pytest.raises(DatasetError, match="yard_vall"):
        main(["sweep", str(checkpoint), "--dataset", "yard_vall", *OPTIONS])
    with pytest.raises(ConfigError, match="other categories"):
        main(["sweep", str(checkpoint), "--dataset", "coco_2017_val_panoptic_detr", *OPTIONS])


def test_store_without_a_file_changes_the_thresholds_in_the_checkpoint_and_nothing_else(
    unsure, yard_folder: Path, tmp_path: Path
) -> None:
    DetrCheckpointer(unsure[0], str(tmp_path)).save("model", iteration=7)
    path = tmp_path / "model.pth"
    before = torch.load(path, weights_only=True)

    words = ["--scores", "0.3", "--overlaps", "0.5", "--json", str(tmp_path / "s.json"), "--store"]
    assert main(sweep(path, yard_folder, *words, *OPTIONS)) == 0

    best = json.loads((tmp_path / "s.json").read_text())["best"]
    model, _ = load_model(str(path), ["MODEL.DEVICE", "cpu"])
    assert [model.postprocess.score_threshold, model.postprocess.overlap_threshold] == list(best.values())
    after = torch.load(path, weights_only=True)
    assert after.keys() == before.keys() and after["iteration"] == 7
    for name, tensor in before["model"].items():
        torch.testing.assert_close(after["model"][name], tensor, rtol=0, atol=0)
    assert sorted(p.name for p in tmp_path.glob("model*")) == ["model.pth"]


def test_store_without_a_file_refuses_what_is_no_checkpoint_of_this_project(
    unsure, yard_folder: Path, tmp_path: Path
) -> None:
    weights = {name.removeprefix("detr."): tensor for name, tensor in unsure[0].detr.state_dict().items()}
    torch.save({"model": weights}, tmp_path / "foreign.pth")
    for path in (tmp_path / "foreign.pth", tmp_path):
        with pytest.raises(WeightsError, match="--store FILE"):
            main(sweep(path, yard_folder, "--store", *OPTIONS))
