"""Configuration: the keys that this project adds to Detectron2's, the values that each may have, and reading both."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import lazy_names

if TYPE_CHECKING:
    from .agreement import check_architecture, check_device, check_model, check_schedule
    from .keys import add_detr_config, check_values, value_of
    from .loading import configs_folder, get_config_file, load_config, override_

__all__ = [
    "add_detr_config",
    "check_architecture",
    "check_device",
    "check_model",
    "check_schedule",
    "check_values",
    "configs_folder",
    "get_config_file",
    "load_config",
    "override_",
    "value_of",
]

__getattr__ = lazy_names(
    __name__,
    {
        "agreement": ("check_architecture", "check_device", "check_model", "check_schedule"),
        "keys": ("add_detr_config", "check_values", "value_of"),
        "loading": ("configs_folder", "get_config_file", "load_config", "override_"),
    },
)
