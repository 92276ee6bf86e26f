"""Where memory runs out the message says how much was needed; bfloat16 trains, on a CPU as well."""

from __future__ import annotations

import gc
import itertools
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from detr_d2.data import DetrPanopticDatasetMapper, register_from_config
from detr_d2.errors import ConfigError
from detr_d2.solver import build_optimizer
from detr_d2.training.launching import explaining_exhaustion
from detr_d2.training.memory import asked_for, bytes_of_parameters

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from detectron2.modeling import build_model

MakeConfig = Callable[..., CfgNode]


@pytest.mark.parametrize(
    ("message", "size"),
    [
        ("DefaultCPUAllocator: can't allocate memory: you tried to allocate 123456 bytes. Error code 12", 123456),
        ("CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has", int(2.5 * 2**30)),
        ("Unable to allocate 3.00 MiB for an array with shape", 3 * 2**20),
        ("something else", 0),
    ],
)
def test_what_could_not_be_allocated_is_read_from_the_message(message: str, size: int) -> None:
    assert asked_for(message) == size


def test_parameters_count_with_gradients_and_moments() -> None:
    gc.collect()
    before = bytes_of_parameters()

    layer = torch.nn.Linear(1000, 999)

    assert bytes_of_parameters() - before == 4 * 4 * (1000 * 999 + 999)
    assert layer.bias.numel() == 999


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="memory in use is read from Linux's /proc")
def test_exhaustion_is_explained_with_an_estimate(tiny_config: MakeConfig) -> None:
    cfg = tiny_config("SOLVER.IMS_PER_BATCH", 8, "INPUT.MAX_SIZE_TRAIN", 1333)

    with pytest.raises(ConfigError) as caught, explaining_exhaustion(cfg):
        raise RuntimeError(f"DefaultCPUAllocator: can't allocate memory: you tried to allocate {2**40} bytes.")

    message = str(caught.value)
    assert "With 8 images at a time of up to 1333 pixels a side the process needed 10" in message  # 1024 GiB and more
    assert "SOLVER.ACCUMULATE_BATCHES 2, SOLVER.IMS_PER_BATCH 4 or INPUT.MAX_SIZE_TRAIN 942 takes about 51" in message


def test_bfloat16_trains_on_a_cpu(tiny_config: MakeConfig) -> None:
    cfg = tiny_config("MODEL.DETR.MASK_ON", True, "MODEL.DETR.TRAINING_DTYPE", "bfloat16", "SOLVER.BASE_LR", 0.002)
    register_from_config(cfg)
    torch.manual_seed(0)
    model = build_model(cfg).train()
    optimizer = build_optimizer(cfg, model)
    mapper = DetrPanopticDatasetMapper(cfg, is_train=True)
    batch = [mapper(record) for record in DatasetCatalog.get("yard_train")[:2]]
    seen: list[torch.dtype] = []
    model.detr.class_embed.register_forward_hook(lambda _module, _inputs, output: seen.append(output.dtype))

    totals = []
    for _ in range(25):
        losses = model(batch)
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
        totals.append(sum(loss.item() for loss in losses.values()))

    assert set(seen) == {torch.bfloat16}
    assert {loss.dtype for loss in losses.values()} == {torch.float32}
    assert all(torch.isfinite(one).all() and one.dtype == torch.float32 for one in model.parameters())
    assert min(totals[-5:]) < totals[0]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU: float16 (SOLVER.AMP) is for GPUs")
def test_float16_trains_on_a_gpu(tiny_config: MakeConfig) -> None:
    import train_net

    cfg = tiny_config("MODEL.DETR.MASK_ON", True, "MODEL.DEVICE", "cuda", "SOLVER.AMP.ENABLED", True)
    cfg.merge_from_list(["DATASETS.TEST", (), "SOLVER.MAX_ITER", 10])
    register_from_config(cfg)

    trainer = train_net.Trainer(cfg)
    trainer.train()

    assert all(torch.isfinite(one).all() for one in trainer.model.parameters())


@pytest.mark.skipif(not Path("/proc/self/statm").is_file(), reason="memory in use is read from Linux's /proc")
def test_memory_of_training_does_not_grow_with_iterations(tiny_config: MakeConfig) -> None:
    cfg = tiny_config("MODEL.DETR.MASK_ON", True)
    register_from_config(cfg)
    model = build_model(cfg).train()
    optimizer = build_optimizer(cfg, model)
    mapper = DetrPanopticDatasetMapper(cfg, is_train=True)
    records = itertools.islice(itertools.cycle(DatasetCatalog.get("yard_train")), 60)

    mebibytes = []
    for record in records:
        optimizer.zero_grad()
        sum(model([mapper(record)]).values()).backward()
        optimizer.step()
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        mebibytes.append(pages * os.sysconf("SC_PAGE_SIZE") / 2**20)

    # What a step keeps for its backward pass is tens of MiB; of 30 steps it would be far more than this.
    assert mebibytes[-1] - mebibytes[29] < 200
