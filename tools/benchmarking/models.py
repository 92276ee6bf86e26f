"""Our model, Hugging Face's and facebookresearch/detr's, with the same weights and the same queries kept."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from detr_d2.acceleration import accelerate_
from detr_d2.checkpoint.names import convert_names
from detr_d2.config import get_config_file, load_config
from detr_d2.data import Category, register
from detr_d2.errors import MissingFileError, UserError
from detr_d2.meta_arch import DetrPanoptic

from detectron2.config import CfgNode
from detectron2.modeling import build_model

NUM_THINGS = 80
MEAN, STD = torch.tensor([0.485, 0.456, 0.406])[:, None, None], torch.tensor([0.229, 0.224, 0.225])[:, None, None]
SMALL = ["MODEL.RESNETS.STEM_OUT_CHANNELS", "8", "MODEL.RESNETS.RES2_OUT_CHANNELS", "16"]
SMALL += ["MODEL.RESNETS.WIDTH_PER_GROUP", "4", "MODEL.DETR.HIDDEN_DIM", "128", "MODEL.DETR.ENC_LAYERS", "1"]
SMALL += ["MODEL.DETR.DEC_LAYERS", "2", "MODEL.DETR.DIM_FEEDFORWARD", "64"]


@dataclass(frozen=True)
class Setting:
    """What is measured.

    Args:
        height: of the image, in pixels; ``width`` likewise.
        kept: queries that are segments of the panoptic map.
        small: a model of a few channels, to see that a benchmark works; its figures mean nothing.
        device: where the models are.
    """

    height: int = 800
    width: int = 1066
    batch: int = 1
    classes: int = 250
    queries: int = 100
    kept: int = 15
    small: bool = False
    device: str = "cpu"

    def images(self) -> list[Tensor]:
        """(3, H, W) uint8 each: soft blobs, the same every time."""
        generator = torch.Generator().manual_seed(0)
        shape = (self.batch, 3, -(-self.height // 16), -(-self.width // 16))
        blobs = torch.rand(shape, generator=generator) * 255
        large = nn.functional.interpolate(blobs, size=(self.height, self.width), mode="bilinear")
        return list(large.to(torch.uint8))

    def class_logits(self) -> Tensor:
        """(Q, K+1): exactly ``kept`` queries have a class of high score, all others no-object."""
        logits = torch.zeros(self.queries, self.classes + 1)
        logits[:, -1] = 10.0
        kept = self.kept_queries()
        logits[kept, torch.arange(self.kept) * 13 % min(self.classes, 200)] = 20.0
        return logits

    def kept_queries(self) -> Tensor:
        """(kept,) their numbers, spread over all queries."""
        return torch.arange(self.kept) * self.queries // self.kept


def build_ours(setting: Setting, *overrides: str, accelerations: Iterable[str] | None = None) -> DetrPanoptic:
    """``configs/detr_panoptic_R50.yaml`` without instances, for a map is all that the peers make.

    Args:
        setting: of the model's size.
        overrides: more keys and values.
        accelerations: those that are on; None: all, as ever.
    """
    name = f"benchmark_{setting.classes}"
    categories = [Category(i + 1, f"class {i}", i < NUM_THINGS, (i, i, i)) for i in range(setting.classes)]
    register(name, images=".", panoptic_json="absent.json", panoptic_root=".", categories=categories)
    options = ["MODEL.DEVICE", setting.device, "DATASETS.TRAIN", f"('{name}',)", "DATASETS.TEST", "()"]
    options += ["MODEL.DETR.NUM_QUERIES", str(setting.queries), "MODEL.DETR.DROPOUT", "0.0"]
    options += ["MODEL.DETR.INSTANCE_ON", "False", *(SMALL if setting.small else []), *overrides]
    cfg: CfgNode = load_config(get_config_file("detr_panoptic_R50.yaml"), options)
    if accelerations is None:
        model = build_model(cfg)
    else:
        model = DetrPanoptic(cfg, accelerate=False)
        accelerate_(model, accelerations)
    assert isinstance(model, DetrPanoptic)
    return model.eval()


def import_transformers() -> Any:
    """The package, only where a peer is asked for.

    Raises:
        UserError: it isn't installed.
    """
    try:
        return importlib.import_module("transformers")
    except ImportError as error:
        raise UserError("The peer is transformers' model; install it: pip install transformers.") from error


def build_huggingface(setting: Setting, **options: Any) -> nn.Module:
    """``DetrForSegmentation`` with random weights, norms included.

    Raises:
        UserError: transformers isn't installed.
    """
    transformers = import_transformers()
    small = setting.small
    backbone = transformers.ResNetConfig(
        embedding_size=8 if small else 64,
        hidden_sizes=[16, 32, 64, 128] if small else [256, 512, 1024, 2048],
        depths=[3, 4, 6, 3],
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )
    size = {"d_model": 128, "encoder_layers": 1, "decoder_layers": 2} if small else {}
    if small:
        size |= {"encoder_ffn_dim": 64, "decoder_ffn_dim": 64}
    config = transformers.DetrConfig(
        backbone_config=backbone,
        use_timm_backbone=False,
        use_pretrained_backbone=False,  # as early releases of transformers 5 would fetch one
        num_labels=setting.classes,
        num_queries=setting.queries,
        dropout=0.0,
        **size,
        **options,
    )
    torch.manual_seed(0)
    model: nn.Module = transformers.DetrForSegmentation(config).eval()
    _draw_norms_(model)
    return model.to(setting.device)


def build_reference(folder: Path, setting: Setting, frozen: bool = False) -> tuple[nn.Module, nn.Module, nn.Module]:
    """facebookresearch/detr from a clone of it.

    Returns:
        The panoptic model, its criterion (with ``weight_dict``) and its panoptic post-processing.

    Raises:
        MissingFileError: ``folder`` holds no clone.
        UserError: the setting is a small one.
    """
    if not (folder / "models" / "segmentation.py").is_file():
        raise MissingFileError(f"{folder} holds no clone of facebookresearch/detr: models/segmentation.py is absent.")
    if setting.small:
        raise UserError("--reference has models of full size only; leave --short out.")
    sys.path.insert(0, str(folder))
    torchvision = importlib.import_module("torchvision")
    resnet50 = torchvision.models.resnet50
    # The clone asks for pretrained weights, which are neither needed here nor to be downloaded.
    torchvision.models.resnet50 = lambda pretrained=False, **options: resnet50(**options)
    try:
        built = importlib.import_module("models.detr").build(_reference_arguments(setting, frozen))
    finally:
        torchvision.models.resnet50 = resnet50
    model, criterion, postprocessors = built
    return model.to(setting.device).eval(), criterion.to(setting.device), postprocessors["panoptic"]


def _reference_arguments(setting: Setting, frozen: bool) -> Any:
    defaults = importlib.import_module("argparse").Namespace(
        **{
            "dataset_file": "coco_panoptic",
            "device": setting.device,
            "masks": True,
            "aux_loss": True,
            "lr_backbone": 1e-5,
        },
        **{"backbone": "resnet50", "dilation": False, "position_embedding": "sine", "hidden_dim": 256, "dropout": 0.0},
        **{"nheads": 8, "dim_feedforward": 2048, "enc_layers": 6, "dec_layers": 6, "pre_norm": False},
        **{"set_cost_class": 1, "set_cost_bbox": 5, "set_cost_giou": 2, "bbox_loss_coef": 5, "giou_loss_coef": 2},
        **{"mask_loss_coef": 1, "dice_loss_coef": 1, "eos_coef": 0.1},
    )
    defaults.num_queries = setting.queries
    defaults.frozen_weights = "given" if frozen else None
    return defaults


def share_weights(source: nn.Module, target: nn.Module) -> None:
    """Put one model's weights into another, whatever each calls them."""
    weights, _ = convert_names(source.state_dict())
    names = target.state_dict()
    renamed, _ = convert_names({name: name for name in names})
    target.load_state_dict({theirs: weights[ours] for ours, theirs in renamed.items()}, strict=False)
    absent = [theirs for ours, theirs in renamed.items() if ours not in weights]
    assert not absent, f"weights without a counterpart: {absent[:3]}"


def fix_classes(model: nn.Module, logits: Tensor) -> None:
    """Let the class head answer the same for every image, in every implementation."""
    heads = ("class_embed", "class_labels_classifier")
    [head] = [module for name, module in model.named_modules() if name.rsplit(".", 1)[-1] in heads]
    head.register_forward_hook(lambda _module, _inputs, output: logits.to(output).expand_as(output))


def _draw_norms_(model: nn.Module) -> None:
    """Statistics and scales as a trained backbone might have, so that folding norms is put to the test."""
    generator = torch.Generator().manual_seed(1)
    ranges: Mapping[str, tuple[float, float]] = {
        "running_var": (0.5, 1.5),
        "running_mean": (-0.2, 0.2),
        "weight": (0.2, 0.6),
        "bias": (-0.2, 0.2),
    }
    for module in model.modules():
        if hasattr(module, "running_mean"):
            for name, (low, high) in ranges.items():
                value = getattr(module, name).detach()
                value.copy_(torch.rand(value.shape, generator=generator) * (high - low) + low)
