"""Detectron2's own training parts either work with this model, or say in one sentence what to use instead."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from detr_d2.backend import backend_report
from detr_d2.data import build_train_loader
from detr_d2.errors import ConfigError, DatasetError
from detr_d2.solver import build_optimizer

from detectron2.config import CfgNode
from detectron2.data import build_detection_train_loader
from detectron2.engine import DefaultTrainer
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage

Config = Callable[..., CfgNode]
needs_detectron2 = pytest.mark.skipif(
    backend_report().name != "installed", reason="the subset's DefaultTrainer asks for these parts to be overridden"
)


@needs_detectron2
@pytest.mark.parametrize("clip_type", ["full_model", "norm"])
def test_detectron2s_optimizer_is_refused_in_one_sentence(clip_type: str, tiny_config: Config) -> None:
    cfg = tiny_config("SOLVER.CLIP_GRADIENTS.CLIP_TYPE", clip_type)

    with pytest.raises(ConfigError, match=r"takes SGD.*SOLVER\.OPTIMIZER.*detr_d2\.solver\.build_optimizer"):
        DefaultTrainer(cfg)


@needs_detectron2
def test_detectron2s_optimizer_is_left_alone_for_other_models(tiny_config: Config) -> None:
    from detectron2.solver import build

    cfg = tiny_config("SOLVER.CLIP_GRADIENTS.CLIP_TYPE", "norm")

    optimizer = build.build_optimizer(cfg, torch.nn.Linear(2, 3))

    assert isinstance(optimizer, torch.optim.SGD)


class FewOverrides(DefaultTrainer):
    """What docs/detectron2.md says is enough."""

    @classmethod
    def build_optimizer(cls, cfg: CfgNode, model: torch.nn.Module) -> torch.optim.Optimizer:
        return build_optimizer(cfg, model)

    @classmethod
    def build_train_loader(cls, cfg: CfgNode) -> Any:
        return build_train_loader(cfg)


def test_default_trainer_trains_with_two_overrides(tiny_config: Config) -> None:
    cfg = tiny_config("SOLVER.MAX_ITER", 2, "MODEL.DETR.MASK_ON", True, "DATASETS.TEST", "()")
    trainer = FewOverrides(cfg)
    before = [p.detach().clone() for p in trainer.model.detr.class_embed.parameters()]

    trainer.resume_or_load(resume=False)
    trainer.train()

    assert all((a != b).any() for a, b in zip(before, trainer.model.detr.class_embed.parameters()))


def test_input_without_ground_truth_names_the_mapper(tiny_config: Config) -> None:
    model = build_model(tiny_config()).train()
    without = [{"image": torch.zeros(3, 64, 64), "file_name": "a.jpg", "height": 64, "width": 64}]

    with pytest.raises(DatasetError, match=r"a\.jpg.*DetrPanopticDatasetMapper"):
        model(without)


@needs_detectron2
def test_detectron2s_mapper_on_panoptic_data_is_refused_in_one_sentence(tiny_config: Config) -> None:
    cfg = tiny_config("DATALOADER.NUM_WORKERS", 0)
    model = build_model(cfg).train()

    with pytest.raises(DatasetError, match="DetrPanopticDatasetMapper"):
        model(next(iter(build_detection_train_loader(cfg))))


@needs_detectron2
def test_detectron2s_mapper_gives_masks_that_the_model_takes(tiny_config: Config, yard_folder: Any) -> None:
    """Of a dataset of instances, which Detectron2's mapper can read."""
    entry = {"name": "mapper_things", "images": str(yard_folder / "images")}
    cfg = tiny_config("MODEL.DETR.MASK_ON", True, "DATALOADER.NUM_WORKERS", 0)
    cfg.DATASETS.REGISTER = [entry | {"instances_json": str(yard_folder / "instances_train.json")}]
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = ("mapper_things",), ()
    model = build_model(cfg).train()

    with EventStorage():
        losses = model(next(iter(build_detection_train_loader(cfg))))

    assert losses["loss_mask"] > 0


@pytest.mark.parametrize("overrides", [(), ("MODEL.DETR.MASK_ON", True), ("INPUT.FORMAT", "BGR")])
def test_vis_period_puts_an_image_of_ground_truth_and_prediction(overrides: tuple, tiny_config: Config) -> None:
    cfg = tiny_config("VIS_PERIOD", 2, "DATALOADER.NUM_WORKERS", 0, *overrides)
    model = build_model(cfg).train()
    batches = iter(build_train_loader(cfg))

    with EventStorage() as storage:
        for iteration in range(3):
            storage.iter = iteration
            batch = next(batches)
            model(batch)
            if iteration < 2:
                kept, first = list(_images(storage)), batch[0]["image"]

    assert len(_images(storage)) == 2, "in iterations 0 and 2"
    name, image, iteration = kept[0]
    assert iteration == 0 and "ground truth" in name.lower()
    assert image.shape[0] == 3 and image.shape[2] > image.shape[1] * first.shape[2] / first.shape[1]


def test_vis_period_0_and_no_storage_draw_nothing(tiny_config: Config) -> None:
    for period in (0, 1):
        cfg = tiny_config("VIS_PERIOD", period, "DATALOADER.NUM_WORKERS", 0)
        losses = build_model(cfg).train()(next(iter(build_train_loader(cfg))))
        assert losses["loss_ce"] > 0


def _images(storage: Any) -> list[tuple[str, Any, int]]:
    """What was put for TensorBoard."""
    return storage.images if hasattr(storage, "images") else storage._vis_data
