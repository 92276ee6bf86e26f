"""Which settings of a run the advice has to know: what is at its end already can't be turned further."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from detr_d2.evaluation.record_checks import is_number

_KEYS = {
    "score_threshold": ("MODEL", "DETR", "SCORE_THRESHOLD"),
    "overlap_threshold": ("MODEL", "DETR", "OVERLAP_THRESHOLD"),
    "mask_stride": ("INPUT", "MASK_STRIDE"),
}


def run_settings(config: str) -> dict[str, float | None]:
    """Settings out of a run's config; None where it doesn't say.

    Args:
        config: of ``run.json``, as yaml; any text is passed over.

    Returns:
        "score_threshold", the lowest of all classes', "overlap_threshold" and "mask_stride".
    """
    try:
        content = yaml.safe_load(config)
    except (yaml.YAMLError, RecursionError, ValueError):
        content = None
    settings = {name: _number(_entry(content, path)) for name, path in _KEYS.items()}
    of_classes = _entry(content, ("MODEL", "DETR", "CLASS_SCORE_THRESHOLDS"))
    known = [_number(value) for value in of_classes] if isinstance(of_classes, list) else []
    if known and None not in known:
        settings["score_threshold"] = min(value for value in known if value is not None)
    return settings


def _entry(content: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        content = content.get(key) if isinstance(content, Mapping) else None
    return content


def _number(value: Any) -> float | None:
    return value if is_number(value, 0, 2**31) else None
