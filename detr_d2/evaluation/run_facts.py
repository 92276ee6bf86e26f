"""What has to be known of an evaluation to do it again: weights, config, versions, commit."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy
import torch

import detr_d2
from detr_d2.backend import backend_report
from detr_d2.data import Category

from detectron2.config import CfgNode
from detectron2.utils.events import get_event_storage


def run_facts(dataset_name: str, categories: Sequence[Category], cfg: CfgNode | None) -> dict[str, Any]:
    """Facts for ``run.json``; what isn't known is absent.

    Args:
        dataset_name: that is evaluated.
        categories: of the dataset, by contiguous class.
        cfg: of the run.
    """
    facts: dict[str, Any] = {"dataset": dataset_name}
    iteration = training_iteration()
    if iteration is not None:
        facts |= {"weights": f"the model in training, after iteration {iteration}", "iteration": iteration}
    elif cfg is not None:
        facts["weights"] = cfg.MODEL.WEIGHTS
    backend = backend_report()
    facts["versions"] = {
        **{"detr_d2": detr_d2.__version__, backend.name: backend.version, "torch": torch.__version__},
        **{"numpy": numpy.__version__, "python": platform.python_version()},
    }
    commit = _commit()
    facts |= {"commit": commit} if commit else {}
    facts |= {"finished": datetime.now(timezone.utc).isoformat(timespec="seconds"), "platform": platform.platform()}
    if cfg is not None:
        facts |= {"seed": cfg.SEED, "config": cfg.dump()}
    facts["categories"] = [
        {"id": c.id, "name": c.name, "is_thing": c.is_thing, "color": list(c.color)} for c in categories
    ]
    return facts


def training_iteration() -> int | None:
    """The iteration of the training that is going on, or None."""
    try:
        return int(get_event_storage().iter)
    except AssertionError:
        return None


def _commit() -> str | None:
    """The commit of the checkout that this package is run from, "-dirty" if files differ; None for an installed one."""
    folder = Path(detr_d2.__file__).resolve().parent.parent
    if not (folder / ".git").exists():
        return None
    # Nothing is written, not even a lock, which a full disk would leave there for good; "describe --dirty" writes.
    git = ["git", "--no-optional-locks", "-C", str(folder)]
    try:
        commit = _output(*git, "rev-parse", "--short=12", "HEAD")
        changed = _output(*git, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return None
    return f"{commit}-dirty" if changed else commit


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout.strip()
