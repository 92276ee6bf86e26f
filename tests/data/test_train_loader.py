"""The training loader: RICAP, repeat factors and workers, through Detectron2's own loader."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import islice
from typing import Any

import pytest
import torch

from detr_d2.data import build_train_loader, register_from_config
from detr_d2.errors import ConfigError, UserError

import detectron2
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog

SMALL = ["MODEL.DETR.MASK_ON", True, "INPUT.MIN_SIZE_TRAIN", (40,), "SOLVER.IMS_PER_BATCH", 2, "SEED", 1]
RICAP = ["INPUT.RICAP.ENABLED", True, "INPUT.RICAP.PROB", 1.0, "INPUT.RICAP.BETA", 1.0]


@pytest.fixture
def make_loader(tiny_config: Callable[..., CfgNode]) -> Callable[..., Any]:
    def make(*overrides: object) -> Any:
        cfg = tiny_config(*SMALL, *overrides)
        register_from_config(cfg)
        return build_train_loader(cfg)

    return make


def names(loader: Any, batches: int) -> list[str]:
    return [entry["file_name"] for batch in islice(loader, batches) for entry in batch]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("overrides", [[], RICAP], ids=["plain", "ricap"])
def test_batches_have_images_with_targets(make_loader: Callable[..., Any], workers: int, overrides: list[Any]) -> None:
    loader = make_loader("DATALOADER.NUM_WORKERS", workers, *overrides)

    batches = list(islice(loader, 4))

    assert [len(batch) for batch in batches] == [2] * 4
    for entry in (entry for batch in batches for entry in batch):
        gt = entry["instances"]
        assert gt.gt_masks.tensor.shape == (len(gt), *entry["image"].shape[1:])
        assert gt.gt_masks.tensor.flatten(1).any(1).all()


def test_pieces_differ_between_workers_and_epochs(make_loader: Callable[..., Any]) -> None:
    torch.manual_seed(0)
    entries = [entry for batch in islice(make_loader("DATALOADER.NUM_WORKERS", 2, *RICAP), 12) for entry in batch]

    assert len({entry["image"].numpy().tobytes() for entry in entries}) == len(entries)


def test_ricap_leaves_the_order_of_images(make_loader: Callable[..., Any]) -> None:
    assert names(make_loader(), 6) == names(make_loader(*RICAP), 6)


def test_rare_classes_come_more_often(make_loader: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    sampler = ["DATALOADER.SAMPLER_TRAIN", "RepeatFactorTrainingSampler"]
    plain = names(make_loader(), 30)
    rare = plain[0]
    original = DatasetCatalog.get

    def with_a_rare_class(name: str) -> list[dict[str, Any]]:
        records = original(name)
        return [
            {
                **r,
                "segments_info": [{**s, "category_id": 0 if r["file_name"] == rare else 1} for s in r["segments_info"]],
            }
            for r in records
        ]

    monkeypatch.setattr(DatasetCatalog, "get", with_a_rare_class)
    repeated = names(make_loader(*sampler, "DATALOADER.REPEAT_THRESHOLD", 1.0, "DATALOADER.REPEAT_SQRT", False), 66)

    assert max(Counter(plain).values()) == 10  # six images, ten epochs
    assert Counter(repeated)[rare] == pytest.approx(66 * 2, abs=80) and Counter(repeated)[rare] > 60


@pytest.mark.parametrize("threshold", [0.0, -1.0, 1.5])
def test_senseless_thresholds_are_refused(make_loader: Callable[..., Any], threshold: float) -> None:
    with pytest.raises(ConfigError, match="REPEAT_THRESHOLD"):
        make_loader("DATALOADER.SAMPLER_TRAIN", "RepeatFactorTrainingSampler", "DATALOADER.REPEAT_THRESHOLD", threshold)


def test_samplers_of_detectron2_are_left_to_it(tiny_config: Callable[..., CfgNode]) -> None:
    cfg = tiny_config(*SMALL, *RICAP, "DATALOADER.SAMPLER_TRAIN", "RandomSubsetTrainingSampler")
    cfg.DATALOADER.RANDOM_SUBSET_RATIO = 0.5  # Detectron2 reads it, but has no default
    register_from_config(cfg)
    if detectron2.__version__.endswith("+detr_d2"):
        with pytest.raises(ConfigError, match="RandomSubsetTrainingSampler"):
            build_train_loader(cfg)
    else:
        assert len(set(names(build_train_loader(cfg), 9))) == 3


def test_keys_can_be_set_on_a_command_line() -> None:
    from detr_d2.config import load_config

    cfg = load_config("", ["DATALOADER.REPEAT_THRESHOLD", "0.05", "DATALOADER.REPEAT_SQRT", "False"])

    assert (cfg.DATALOADER.REPEAT_THRESHOLD, cfg.DATALOADER.REPEAT_SQRT) == (0.05, False)


def test_user_errors_of_workers_keep_their_kind(
    make_loader: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    import detr_d2.labels.image_reading as image_reading

    def broken(path: str, image_format: str) -> None:
        raise OSError("image file is truncated")

    monkeypatch.setattr(image_reading, "read_whole_image", broken)

    with pytest.raises(UserError, match="can't be read: image file is truncated"):
        next(iter(make_loader("DATALOADER.NUM_WORKERS", 1)))
