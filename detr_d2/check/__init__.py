"""What is wrong with a dataset, found before training: ``detr-d2 check``, and the start of train_net.py."""

from __future__ import annotations

from detr_d2.labels.rules.rule import RULES, Fault, Rule

from .dataset import dataset_faults
from .sources import Source, Sources, find_sources

__all__ = ["RULES", "Fault", "Rule", "Source", "Sources", "dataset_faults", "find_sources"]
