"""An independently written subset of Detectron2's API; not Detectron2. Its model zoo, of which nothing is here."""

from typing import Any, NoReturn

from detr_d2.errors import UserError


class NotInModelZoo(UserError, RuntimeError):
    """Detectron2 raises a RuntimeError, too."""


def get(config_path: str, *_: Any, **__: Any) -> NoReturn:
    here = "detr_d2.get_config_file('detr_panoptic_R50.yaml') is a config, 'detr-r50-panoptic' the name of weights"
    raise NotInModelZoo(f"{config_path} comes with an installed Detectron2 alone; what is here is DETR: {here}.")


get_checkpoint_url = get_config = get_config_file = get
__all__ = ["get", "get_checkpoint_url", "get_config", "get_config_file"]
