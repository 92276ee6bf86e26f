"""What is looked at before a training or an evaluation leaves anything on disk: a mistake found here costs nothing."""

from __future__ import annotations

from detr_d2.check.before_training import check_before_training
from detr_d2.checkpoint import model_categories
from detr_d2.checkpoint.paths import find_model_weights, is_address, last_checkpoint
from detr_d2.config import check_architecture, check_device, check_model, check_schedule
from detr_d2.errors import ConfigError
from detr_d2.training.output_folder import check_output_folder
from detr_d2.training.setup import check_training

from detectron2.config import CfgNode
from detectron2.utils import comm


def check_before_start(cfg: CfgNode, eval_only: bool, resume: bool) -> list[str]:
    """Refuses a config that can't be trained or evaluated on this machine, with these files.

    Args:
        cfg: the whole config.
        eval_only: nothing is to be trained.
        resume: the last checkpoint in ``OUTPUT_DIR`` is to be used, if there is one.

    Returns:
        Lines for the log, of the main process.

    Raises:
        ConfigError: keys that make no sense, or aren't possible here.
        DatasetError, MissingFileError, WeightsError: the data or the weights named can't be used.
    """
    if eval_only and not cfg.DATASETS.TEST:
        raise ConfigError("DATASETS.TEST is empty, so there is nothing to evaluate; name a dataset.")
    check_device(cfg)
    check_output_folder(cfg.OUTPUT_DIR)
    check_architecture(cfg)
    _check_weights(cfg, resume)
    categories = model_categories(cfg)
    check_model(cfg, len(categories))
    check_training(cfg)
    if eval_only:
        return []
    check_schedule(cfg, comm.get_world_size())
    return check_before_training(cfg) if comm.is_main_process() else []


def _check_weights(cfg: CfgNode, resume: bool) -> None:
    """What has to be fetched is fetched later, when all else is known to be right."""
    if resume and last_checkpoint(cfg.OUTPUT_DIR):
        return
    if not is_address(cfg.MODEL.WEIGHTS):
        find_model_weights(cfg.MODEL.WEIGHTS, cfg.MODEL.DETR.FREEZE_DETECTOR)
