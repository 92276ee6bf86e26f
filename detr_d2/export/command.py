"""``detr-d2 export``: write a trained model as a file that runs without this project."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from detr_d2.arguments import add_opts
from detr_d2.checkpoint import DetrCheckpointer, load_model
from detr_d2.checkpoint.paths import weight_files
from detr_d2.config import load_config
from detr_d2.errors import ConfigError
from detr_d2.export.writing import FORMATS, check_output, check_packages, export_model
from detr_d2.files import check_outputs
from detr_d2.meta_arch import DetrPanoptic
from detr_d2.wording import counted

from detectron2.config import CfgNode
from detectron2.modeling import build_model

SUFFIXES = {".onnx": "onnx", ".pt2": "torch"}

_EPILOG = """\
examples:
  detr-d2 export output/detr_panoptic_R50/model_final.pth model.onnx
  detr-d2 export output/detr_panoptic_R50/model_final.pth model.pt2 --format torch
  detr-d2 export model_final.pth model.onnx --opts MODEL.DETR.SCORE_THRESHOLD 0.7 INPUT.MIN_SIZE_TEST 600

The file takes images of any size and number, and holds the names, colours and thresholds, too. Exporting a ResNet-50
takes about a minute; each step is named as it begins.
docs/export.md describes it; examples/onnx_panoptic.py runs it without torch.
ONNX needs two more packages: pip install 'detr_d2[export]'
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command and its arguments to ``parser``."""
    parser.description = "Write a trained model as a file that runs without this project: ONNX or torch.export."
    parser.epilog = _EPILOG
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="a model_final.pth, of boxes or with masks")
    parser.add_argument("out", metavar="OUT", help="the new file: .onnx, or .pt2 for torch.export")
    parser.add_argument("--format", choices=sorted(FORMATS), help="default: by OUT's ending, .onnx or .pt2")
    parser.add_argument(
        "--config-file", metavar="FILE", help="the config it was trained with, for a checkpoint that doesn't know it"
    )
    add_opts(parser, "changes to the model's config")


def run(args: argparse.Namespace) -> int:
    """Export the model that ``args`` name and say what the file holds."""
    path = Path(args.out)
    file_format = args.format or _format_of(path)
    inputs = [*weight_files(args.checkpoint), *([args.config_file] if args.config_file else [])]
    check_output(path)
    check_outputs({"OUT": path}, inputs)
    check_packages(file_format)
    started = time.monotonic()

    def report(step: str) -> None:
        print(f"[{time.monotonic() - started:3.0f} s] {step} ...", file=sys.stderr, flush=True)

    report(f"reading {args.checkpoint}")
    model, cfg = _load(args.checkpoint, args.config_file, args.opts)
    if cfg.MODEL.BACKBONE.NAME == "build_timm_backbone":
        raise ConfigError(
            f"{args.checkpoint} has a backbone of timm ({cfg.MODEL.TIMM.NAME}), and only ResNets can be exported. Use "
            "the model from Python (detr_d2.Predictor) or by 'detr-d2 predict'."
        )
    export_model(model, cfg, path, file_format, report)
    parts = "boxes and masks" if model.mask_head is not None else "boxes"
    size = path.stat().st_size / 2**20
    print(f"{path}: {parts} of {counted(len(model.categories), 'class', 'classes')}, {size:.1f} MiB, as {file_format}")
    return 0


def _format_of(path: Path) -> str:
    if path.suffix.lower() not in SUFFIXES:
        raise ConfigError(f"{path} doesn't end in {' or '.join(SUFFIXES)}; name it so, or add --format.")
    return SUFFIXES[path.suffix.lower()]


def _load(checkpoint: str, config_file: str | None, overrides: list[str]) -> tuple[DetrPanoptic, CfgNode]:
    """The trained model and its config, which the checkpoint knows unless a file is named."""
    if config_file is None:
        return load_model(checkpoint, overrides)
    cfg = load_config(config_file, overrides)
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.DETR.FREEZE_DETECTOR = False
    model = build_model(cfg)
    if not isinstance(model, DetrPanoptic):
        raise ConfigError(f"MODEL.META_ARCHITECTURE is {cfg.MODEL.META_ARCHITECTURE!r}; DetrPanoptic can be exported.")
    DetrCheckpointer(model).load(checkpoint)
    return model, cfg
