"""A batch in several parts takes the step of the whole batch: losses, what is logged, gradients, weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from detr_d2.config import check_schedule
from detr_d2.data import DetrPanopticDatasetMapper, register_from_config
from detr_d2.errors import ConfigError, DivergenceError
from detr_d2.solver import build_optimizer
from detr_d2.structures import BatchedInputs
from detr_d2.training.accumulation import AccumulatedSteps, step_parts
from detr_d2.training.saved_step import diagnose, read_step
from tests.training.cutting import Cut, differences

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage

#: Nothing is left to chance, all images have one size, and steps are as large as the gradients.
PLAIN: tuple[object, ...] = (
    *("MODEL.DETR.MASK_ON", True, "MODEL.DETR.FREEZE_DETECTOR", False, "MODEL.DETR.DROPOUT", 0.0),
    *("MODEL.DETR.MASK_ID_WEIGHT", 1.0, "MODEL.DETR.DENSE_LOSSES", True, "MODEL.RESNETS.NORM", "FrozenBN"),
    *("MODEL.DEVICE", "cpu", "DATALOADER.NUM_WORKERS", 0, "INPUT.RANDOM_FLIP", "none"),
    *("INPUT.DETR_CROP.ENABLED", False, "INPUT.MIN_SIZE_TRAIN", (96,), "SOLVER.IMS_PER_BATCH", 4),
    *("SOLVER.OPTIMIZER", "SGD", "SOLVER.BASE_LR", 1.0, "SOLVER.CLIP_GRADIENTS.ENABLED", True),
)
MakeConfig = Callable[..., CfgNode]


@pytest.fixture
def batch(tiny_config: MakeConfig) -> BatchedInputs:
    """Four images, one of them without objects."""
    cfg = tiny_config(*PLAIN)
    register_from_config(cfg)
    mapper = DetrPanopticDatasetMapper(cfg, is_train=True)
    items = [mapper(record) for record in DatasetCatalog.get("yard_train")[:4]]
    return [*items[:1], items[1] | {"instances": items[1]["instances"][:0]}, *items[2:]]


def _step(
    cfg: CfgNode, weights: dict[str, Any], batch: BatchedInputs, scaler: Any = None
) -> tuple[dict[str, float], torch.Tensor]:
    """What is logged of a step, and how it changes the weights, as one tensor."""
    model = build_model(cfg).train()
    model.load_state_dict(weights)
    optimizer = build_optimizer(cfg, model)
    optimizer._step_supports_amp_scaling = False  # as those of a GPU, which aren't fused
    with EventStorage() as storage:
        AccumulatedSteps(cfg, model, [batch], optimizer, scaler).take()
        logged = {name: value for name, (value, _) in storage.latest().items() if "time" not in name}
    return logged, torch.cat([(each - weights[name]).flatten() for name, each in model.state_dict().items()])


def test_parts_take_the_step_of_the_whole_batch(tiny_config: MakeConfig, batch: BatchedInputs) -> None:
    torch.manual_seed(0)
    weights = dict(build_model(tiny_config(*PLAIN)).state_dict())

    found = {
        parts: _step(tiny_config(*PLAIN, "SOLVER.ACCUMULATE_BATCHES", parts), weights, batch) for parts in (1, 2, 4)
    }

    model = build_model(tiny_config(*PLAIN)).train()
    model.load_state_dict(weights)
    with EventStorage() as storage:
        losses = {name: loss.item() for name, loss in model(batch).items()}
        metrics = {name: value for name, (value, _) in storage.latest().items()}
    whole, move = found[1]
    assert whole == pytest.approx(losses | metrics | {"total_loss": sum(losses.values())}, rel=1e-5)
    assert {"loss_ce_dense", "loss_maskid", "unweighted/dice", "class_error", "cardinality_error"} <= set(whole)
    assert move.norm() == pytest.approx(0.1, rel=0.01)  # clipped, and a little weight decay
    for logged, other in (found[2], found[4]):
        assert logged == pytest.approx(whole, rel=1e-4)
        assert (other - move).norm() < 0.005 * move.norm()


def test_counts_are_known_before_a_part_is_computed(tiny_config: MakeConfig, batch: BatchedInputs) -> None:
    cfg = tiny_config(*PLAIN, "MODEL.DETR.DENOISING_GROUPS", 2, "MODEL.DETR.NUM_QUERIES", 5)
    model = build_model(cfg).train()

    parts = step_parts(model, [batch[:1], batch[1:]])

    sums = [model.loss_sums(some) for some in (batch[:1], batch[1:])]
    counted = {name: sum(each[name].count for each in sums) for name in sums[0]}
    for part in parts:
        assert part.counts.query_weights == pytest.approx(counted["loss_ce"])
        assert part.counts.targets == counted["loss_mask"] > 5
        assert part.noised_weights == pytest.approx(counted["loss_ce_dn"])
        assert (part.matched, part.images) == (
            counted["class_error"],
            counted["cardinality_error"],
        ) and part.images == 4
    assert [part.number for part in parts] == [0, 1]


def test_scaled_losses_take_the_same_step(tiny_config: MakeConfig, batch: BatchedInputs) -> None:
    cfg = tiny_config(*PLAIN, "SOLVER.ACCUMULATE_BATCHES", 2)
    weights = dict(build_model(cfg).state_dict())

    logged, move = _step(cfg, weights, batch, torch.amp.GradScaler("cpu", init_scale=1024.0))

    whole, other = _step(cfg, weights, batch)
    assert logged == whole and (other - move).norm() < 1e-4 * move.norm()


@pytest.fixture
def spoiled_mapper(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Lets an image of a training, counted from 0, be NaN."""

    def spoil(call: int) -> None:
        give, calls = DetrPanopticDatasetMapper.to_example, iter(range(1000))

        def spoiled(self: Any, *arguments: Any) -> dict[str, Any]:
            item = give(self, *arguments)
            return item | {"image": item["image"] * float("nan")} if next(calls) == call else item

        monkeypatch.setattr(DetrPanopticDatasetMapper, "to_example", spoiled)

    return spoil


def _trainer(real_trainer: Any, tiny_config: MakeConfig, *overrides: object) -> Any:
    cfg = tiny_config(*PLAIN, "SOLVER.ACCUMULATE_BATCHES", 2, "DATASETS.TEST", (), *overrides)
    register_from_config(cfg)
    return real_trainer(cfg)


def test_a_step_whose_second_part_is_not_finite_is_left_out_whole(
    real_trainer: Any, tiny_config: MakeConfig, tmp_path: Path, spoiled_mapper: Callable[[int], None]
) -> None:
    spoiled_mapper(6)  # of the second step the third image
    keys = ("SOLVER.MAX_SKIPPED_STEPS", 1, "SOLVER.MAX_ITER", 3, "MODEL.RESNETS.NORM", "BN")
    trainer = _trainer(real_trainer, tiny_config, *keys)
    seen: list[dict[str, torch.Tensor]] = []
    run_step = trainer.run_step

    def watched() -> None:
        run_step()
        seen.append({name: each.clone() for name, each in trainer.model.state_dict().items()})

    trainer.run_step = watched

    trainer.train()

    assert len(seen) == 3 and all(each.isfinite().all() for each in seen[2].values())
    same = [name for name in seen[0] if torch.equal(seen[0][name], seen[1][name]) and "num_batches" not in name]
    assert len(same) == len([name for name in seen[0] if "num_batches" not in name])
    assert any(not torch.equal(seen[1][name], seen[2][name]) for name in seen[0])
    model, step = read_step(str(tmp_path / "output/diverged/iteration_0000001_process_0.pth"), "cpu")
    assert len(step.batch) == 2 and diagnose(model, step.batch, step.random_state, step.autocast).problem


def test_gradients_that_a_part_spoils_are_refused_once_and_with_that_part(
    real_trainer: Any, tiny_config: MakeConfig, tmp_path: Path
) -> None:
    trainer = _trainer(real_trainer, tiny_config, "SOLVER.MAX_ITER", 1)
    calls: Iterator[int] = iter(range(100))
    before = {name: each.clone() for name, each in trainer.model.named_parameters()}
    # The first part's backward pass, and the same again in the diagnosis, which looks at the first part first.
    trainer.model.mask_head.out_lay.bias.register_hook(
        lambda gradient: gradient * float("nan") if next(calls) in (0, 2) else None
    )

    with pytest.raises(DivergenceError, match="norm of the gradients is nan") as caught:
        trainer.train()

    assert all(torch.equal(before[name], each) for name, each in trainer.model.named_parameters())
    _, step = read_step(str(tmp_path / "output/diverged/iteration_0000000_process_0.pth"), "cpu")
    assert [item["file_name"] in str(caught.value) for item in step.batch] == [True, True]
    assert "mask_head nan" in str(caught.value) and next(calls) == 3


def test_a_run_in_parts_that_was_cut_off_ends_as_a_whole_one(train: Callable[..., Any]) -> None:
    options = ("MODEL.DETR.MASK_ON", False, "SOLVER.IMS_PER_BATCH", 2, "SOLVER.ACCUMULATE_BATCHES", 2)

    whole, resumed = train("whole", *options), train("resumed", *options, cuts=[Cut(3)])

    assert differences(whole, resumed) == []


@pytest.mark.parametrize(("batch_size", "processes", "parts"), [(4, 1, 3), (4, 2, 4), (2, 1, 4)])
def test_parts_that_are_not_equal_are_refused(
    tiny_config: MakeConfig, batch_size: int, processes: int, parts: int
) -> None:
    keys = ("SOLVER.IMS_PER_BATCH", batch_size, "SOLVER.ACCUMULATE_BATCHES", parts)

    with pytest.raises(ConfigError, match=f"can't be {parts} equal parts"):
        check_schedule(tiny_config(*keys), processes)
