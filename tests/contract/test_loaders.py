"""Data loaders: what is in a batch, in which order, and with how many workers.

Expected orders were recorded from Detectron2 0.6 with torch 2.15.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice
from typing import Any

import numpy as np
import pytest
import torch

from detectron2.config import CfgNode, get_cfg
from detectron2.data import (
    DatasetCatalog,
    MetadataCatalog,
    build_detection_test_loader,
    build_detection_train_loader,
)
from detectron2.data.samplers import TrainingSampler

NAME = "contract_loaders"


def record(index: int) -> dict[str, Any]:
    """A tall image for even numbers, a wide one for odd ones."""
    width, height = (30, 20) if index % 2 else (20, 30)
    return {"image_id": index, "width": width, "height": height}


RECORDS = [record(index) for index in range(9)]


def same(entry: dict[str, Any]) -> dict[str, Any]:
    return entry


def with_chance(entry: dict[str, Any]) -> dict[str, Any]:
    return {**entry, "chance": (float(np.random.uniform()), float(torch.rand(())))}


def ids(batch: list[dict[str, Any]]) -> list[int]:
    return [entry["image_id"] for entry in batch]


@pytest.mark.parametrize(("workers", "first"), [(0, [1, 5]), (1, [1, 5]), (2, [5, 1])])
def test_training_batches_are_wide_or_tall(workers: int, first: list[int]) -> None:
    loader = build_detection_train_loader(
        RECORDS, mapper=same, sampler=TrainingSampler(9, seed=3), total_batch_size=2, num_workers=workers
    )

    batches = [ids(batch) for batch in islice(loader, 5)]

    assert batches == [first, [4, 6], [0, 2], [3, 7], [8, 4]]


def test_training_batches_without_grouping_are_in_the_samplers_order() -> None:
    sampler = TrainingSampler(9, seed=3)
    loader = build_detection_train_loader(
        RECORDS, mapper=same, sampler=sampler, total_batch_size=4, aspect_ratio_grouping=False
    )

    batches = [ids(batch) for batch in islice(loader, 3)]

    assert list(chain(*batches)) == list(islice(sampler, 12))


def test_training_goes_on_beyond_the_dataset() -> None:
    loader = build_detection_train_loader(RECORDS[:2], mapper=same, total_batch_size=1)

    assert sorted(ids([batch[0] for batch in islice(loader, 6)])) == [0, 0, 0, 1, 1, 1]


def test_mapper_gets_entries_that_it_may_change() -> None:
    def spoil(entry: dict[str, Any]) -> dict[str, Any]:
        return {"image_id": entry.pop("image_id"), "width": 1, "height": 1}

    loader = build_detection_train_loader(RECORDS[:1], mapper=spoil, total_batch_size=2)

    assert [ids(batch) for batch in islice(loader, 2)] == [[0, 0], [0, 0]]
    assert RECORDS[0]["image_id"] == 0


def test_batch_size_must_be_positive() -> None:
    with pytest.raises(AssertionError, match="must be divisible"):
        build_detection_train_loader(RECORDS, mapper=same, total_batch_size=0)


def test_workers_have_chances_of_their_own_that_follow_from_the_seed() -> None:
    def draw(seed: int) -> list[Any]:
        torch.manual_seed(seed)
        loader = build_detection_train_loader(
            RECORDS, mapper=with_chance, sampler=TrainingSampler(9, seed=0), total_batch_size=1, num_workers=2
        )
        return [entry["chance"] for batch in islice(loader, 4) for entry in batch]

    first = draw(5)

    assert len(set(first)) == 4
    assert draw(5) == first
    assert draw(6) != first


@pytest.mark.parametrize("workers", [0, 2])
def test_evaluation_takes_each_entry_once_in_order(workers: int) -> None:
    loader = build_detection_test_loader(RECORDS, mapper=same, num_workers=workers)

    assert [ids(batch) for batch in loader] == [[index] for index in range(9)]
    assert len(loader) == 9


def test_evaluation_keeps_the_last_smaller_batch() -> None:
    loader = build_detection_test_loader(RECORDS, mapper=same, batch_size=4)

    assert [len(batch) for batch in loader] == [4, 4, 1]


@pytest.fixture
def cfg() -> Iterator[CfgNode]:
    """A config whose datasets are the nine entries, each with an annotation."""
    annotations = [{"category_id": 0}, {"category_id": 0, "iscrowd": 1}]
    DatasetCatalog.register(NAME, lambda: [{**entry, "annotations": annotations} for entry in RECORDS])
    MetadataCatalog.get(NAME).thing_classes = ["box"]
    cfg = get_cfg()
    cfg.merge_from_list(["DATASETS.TRAIN", (NAME,), "DATASETS.TEST", (NAME,), "DATALOADER.NUM_WORKERS", 0])
    cfg.merge_from_list(["SOLVER.IMS_PER_BATCH", 2, "SEED", 3])
    yield cfg
    DatasetCatalog.remove(NAME)
    MetadataCatalog.remove(NAME)


def test_training_loader_from_a_config_takes_a_mapper(cfg: CfgNode) -> None:
    loader = build_detection_train_loader(cfg, mapper=same)

    batches = list(islice(loader, 3))

    assert [ids(batch) for batch in batches] == [[1, 5], [4, 6], [0, 2]]
    assert len(batches[0][0]["annotations"]) == 2


def test_training_loader_from_a_config_takes_a_sampler(cfg: CfgNode) -> None:
    cfg.DATALOADER.ASPECT_RATIO_GROUPING = False

    sampler = TrainingSampler(9, seed=5)

    loader = build_detection_train_loader(cfg, mapper=same, sampler=sampler)

    assert [index for batch in islice(loader, 2) for index in ids(batch)] == list(islice(sampler, 4))


def test_unknown_sampler_is_refused(cfg: CfgNode) -> None:
    cfg.DATALOADER.SAMPLER_TRAIN = "Alphabetical"

    with pytest.raises(ValueError, match="Alphabetical"):
        build_detection_train_loader(cfg, mapper=same)


def test_evaluation_loader_from_a_config_takes_a_mapper(cfg: CfgNode) -> None:
    loader = build_detection_test_loader(cfg, NAME, mapper=lambda entry: {"image_id": 10 * entry["image_id"]})

    assert [ids(batch) for batch in loader] == [[10 * index] for index in range(9)]


def test_unregistered_dataset_is_refused(cfg: CfgNode) -> None:
    cfg.DATASETS.TRAIN = ("contract_typo",)

    with pytest.raises(KeyError, match="'contract_typo' is not registered"):
        build_detection_train_loader(cfg, mapper=same)
