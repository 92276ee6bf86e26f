"""The check that a training starts with: ``DATASETS.CHECK``."""

from __future__ import annotations

from collections.abc import Iterator

from detr_d2.config import check_values
from detr_d2.errors import DatasetError
from detr_d2.parallel import default_workers

from detectron2.config import CfgNode

from .dataset import dataset_faults
from .report import Findings
from .sources import sources_of_registered

_SHOWN = 5
#: Reading the dataset finds these as well, and knows where such a dataset is usually kept.
_LEFT_TO_LOADING = ("json-missing", "folder-missing")


def check_before_training(cfg: CfgNode) -> list[str]:
    """Check the datasets of a config as ``DATASETS.CHECK`` says, as far as this project registered them.

    Args:
        cfg: whose ``DATASETS.TRAIN`` and ``DATASETS.TEST`` are looked at.

    Returns:
        A line for each kind of warning, for the log.

    Raises:
        DatasetError: something would stop the training or make it go wrong.
        ConfigError: ``DATASETS.CHECK`` isn't quick, full or off.
    """
    check_values(cfg, "DATASETS.CHECK")
    mode = cfg.DATASETS.CHECK
    if mode == "off":
        return []
    names = list(dict.fromkeys([*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST]))
    found = dataset_faults(sources_of_registered(names), mode == "quick", default_workers())
    findings = Findings(_SHOWN).take(fault for fault in found if fault.code not in _LEFT_TO_LOADING)
    if findings.errors:
        raise DatasetError(_message(findings, names, mode))
    return list(_warnings(findings))


def _warnings(findings: Findings) -> Iterator[str]:
    named = set()
    for found in findings.first():
        if found.code not in named:
            named.add(found.code)
            more = findings.counts[found.code] - 1
            yield found.line() + (f" ({more} more of this kind)" if more else "")


def _message(findings: Findings, names: list[str], mode: str) -> str:
    """The first faults, a line each, and how to see the others."""
    first = [found for found in findings.first() if found.severity == "error"]
    lines = [f"{found.line()} Fix: {found.fix}." for found in first[:_SHOWN]]
    more = findings.errors - len(lines)
    if more:
        lines.append(f"... and {more} more")
    return (
        f"the datasets {', '.join(names)} have faults that would stop the training or make it go wrong:\n  "
        + "\n  ".join(lines)
        + "\n'detr-d2 check' with the JSON or the register.yaml shows all of them; "
        f"DATASETS.CHECK off trains nevertheless (it is {mode})."
    )
