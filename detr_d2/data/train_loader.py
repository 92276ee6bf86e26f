"""The loader of a training, from the config."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from torch.utils.data import Sampler

from detectron2.config import CfgNode
from detectron2.data import build_detection_train_loader, get_detection_dataset_dicts
from detectron2.data.samplers import TrainingSampler

from ..errors import ConfigError
from .catalogs import categories_of
from .mapper import DetrPanopticDatasetMapper
from .repeat_factor import RepeatFactorSampler, repeat_factors
from .ricap import RicapMapper


def build_train_loader(cfg: CfgNode) -> Iterable[list[dict[str, Any]]]:
    """Detectron2's training loader over ``DATASETS.TRAIN``, with this project's mapper, RICAP and repeat factors.

    ``DATALOADER.SAMPLER_TRAIN`` is one of Detectron2's names; "RepeatFactorTrainingSampler" counts panoptic segments.

    Raises:
        ConfigError: keys of ``INPUT`` or ``DATALOADER`` that make no sense.
        DatasetError, MissingFileError: a dataset that can't be read.
    """
    records = get_detection_dataset_dicts(
        list(cfg.DATASETS.TRAIN), filter_empty=cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS
    )
    mapper, entries = build_train_mapper(cfg, records)
    sampler = _sampler(cfg, records)
    if sampler is None:  # one that only Detectron2 has, which makes it from the config
        loader: Iterable[list[dict[str, Any]]] = build_detection_train_loader(cfg, mapper=mapper, dataset=entries)
        return loader
    loader = build_detection_train_loader(
        entries,
        mapper=mapper,
        sampler=sampler,
        total_batch_size=cfg.SOLVER.IMS_PER_BATCH,
        aspect_ratio_grouping=cfg.DATALOADER.ASPECT_RATIO_GROUPING,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
    )
    return loader


def build_train_mapper(
    cfg: CfgNode, records: list[dict[str, Any]]
) -> tuple[Callable[[Any], dict[str, Any]], list[Any]]:
    """What makes the model's input of an entry, and the entries: one for each record.

    Raises:
        ConfigError: keys of ``INPUT`` that make no sense.
    """
    mapper = DetrPanopticDatasetMapper(cfg, is_train=True)
    if not cfg.INPUT.RICAP.ENABLED:
        return mapper, records
    # The mapper has to reach any image, so it keeps the records, and is handed their numbers.
    return RicapMapper(mapper, records, cfg.INPUT.RICAP.PROB, cfg.INPUT.RICAP.BETA), list(range(len(records)))


def _sampler(cfg: CfgNode, records: list[dict[str, Any]]) -> Sampler[int] | None:
    """What ``DATALOADER.SAMPLER_TRAIN`` names; None: none that is known here."""
    name, threshold = cfg.DATALOADER.SAMPLER_TRAIN, cfg.DATALOADER.REPEAT_THRESHOLD
    if name == "TrainingSampler":
        sampler: Sampler[int] = TrainingSampler(len(records), seed=cfg.SEED)
        return sampler
    if name != "RepeatFactorTrainingSampler":
        return None
    if not 0 < threshold <= 1:
        raise ConfigError(
            f"DATALOADER.REPEAT_THRESHOLD={threshold} with SAMPLER_TRAIN={name}; allowed is a part of all images, "
            "above 0 and at most 1. Classes in fewer images than that are repeated; 0.01 to 0.1 are usual."
        )
    names = [category.name for category in categories_of(cfg.DATASETS.TRAIN[0])]
    return RepeatFactorSampler(repeat_factors(records, threshold, cfg.DATALOADER.REPEAT_SQRT, names), cfg.SEED)
