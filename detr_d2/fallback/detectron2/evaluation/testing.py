"""An independently written subset of Detectron2's API; not Detectron2. Print results and compare them."""

import logging
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np

logger = logging.getLogger(__name__)


def print_csv_format(results: Mapping[str, Any]) -> None:
    """Log each task's main metrics (no per-class ones) as lines to paste into a spreadsheet."""
    for task, metrics in results.items():
        if isinstance(metrics, Mapping):
            main = {name: value for name, value in metrics.items() if "-" not in name}
            logger.info(f"copypaste: Task: {task}")
            logger.info("copypaste: " + ",".join(main))
            logger.info("copypaste: " + ",".join(f"{value:.4f}" for value in main.values()))
        else:
            logger.info(f"copypaste: {task}={metrics}")


def verify_results(cfg: Any, results: Mapping[str, Any]) -> bool:
    """Exit with 1 unless each (task, metric, value, tolerance) of ``cfg.TEST.EXPECTED_RESULTS`` is met."""
    for task, metric, expected, tolerance in cfg.TEST.EXPECTED_RESULTS:
        # Not finite or missing counts as a failure.
        if not abs(results[task].get(metric, np.nan) - expected) <= tolerance:
            logger.error(f"{task}/{metric} should be {expected} ± {tolerance}; all results: {results}")
            sys.exit(1)
    return True
