"""What is wrong with a dataset, found before training: ``detr-d2 check``, and the start of train_net.py."""

from __future__ import annotations

from .dataset import dataset_faults
from .faults import KINDS, Fault, Kind
from .sources import Source, Sources, find_sources

__all__ = ["KINDS", "Fault", "Kind", "Source", "Sources", "dataset_faults", "find_sources"]
