"""Which number decides, and how long it hasn't got better."""

from __future__ import annotations

import pytest

from detr_d2.data import register_from_config
from detr_d2.errors import ConfigError
from detr_d2.training.model_selection import Metric, Progress, chosen_metric, progress_of

PQ = Metric("panoptic_seg/PQ", "max")
LOSS = Metric("validation/total_loss", "min")


def _evaluations(metric: Metric, *values: float | None) -> list[dict]:
    return [{"iteration": 10 * number, metric.name: value} for number, value in enumerate(values, start=1)]


@pytest.mark.parametrize(
    ("metric", "values", "min_delta", "expected"),
    [
        (PQ, (), 0.0, Progress()),
        (PQ, (1.0, 3.0, 2.0, 3.0), 0.0, Progress(3.0, 20, 2)),
        (LOSS, (5.0, 4.0, 4.5), 0.0, Progress(4.0, 20, 1)),
        (PQ, (1.0, 1.4, 1.8), 0.5, Progress(1.8, 30, 0)),
        (PQ, (1.0, 1.4), 0.5, Progress(1.0, 10, 1)),
        (PQ, (None, 2.0, None, float("nan")), 0.0, Progress(2.0, 20, 2)),
        (PQ, (None, None), 0.0, Progress(None, None, 2)),
    ],
)
def test_progress_is_the_best_and_what_came_since(metric, values, min_delta, expected):
    assert progress_of(_evaluations(metric, *values), metric, min_delta) == expected


def test_evaluations_without_the_metric_are_not_counted():
    evaluations = [{"iteration": 1, "bbox/AP": 5.0}, *_evaluations(PQ, 2.0)]

    assert progress_of(evaluations, PQ) == Progress(2.0, 10, 0)


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (("MODEL.DETR.MASK_ON", True), PQ),
        ((), Metric("bbox/AP", "max")),
        (("MODEL.DETR.INSTANCE_ON", False), LOSS),
        (("DATASETS.TEST", ("yard_val", "yard_train")), Metric("yard_val/bbox/AP", "max")),
        (("TEST.BEST_CHECKPOINT.METRIC", "yard_val/validation/ce"), Metric("yard_val/validation/ce", "min")),
        (("TEST.BEST_CHECKPOINT.METRIC", "a/b", "TEST.BEST_CHECKPOINT.MODE", "min"), Metric("a/b", "min")),
        (("TEST.BEST_CHECKPOINT.METRIC", ""), None),
        (("DATASETS.TEST", ()), None),
    ],
)
def test_metric_is_the_config_s_or_the_main_number(tiny_config, overrides, expected):
    cfg = tiny_config(*overrides)
    register_from_config(cfg)

    assert chosen_metric(cfg, cfg.TEST.BEST_CHECKPOINT, "TEST.BEST_CHECKPOINT") == expected


def test_unknown_mode_is_refused(tiny_config):
    cfg = tiny_config("TEST.EARLY_STOPPING.MODE", "lowest")

    with pytest.raises(ConfigError, match=r"TEST\.EARLY_STOPPING\.MODE is 'lowest'; allowed are auto, max and min"):
        chosen_metric(cfg, cfg.TEST.EARLY_STOPPING, "TEST.EARLY_STOPPING")
