"""``detr-d2 export``: write a model as an ONNX file, or as a program of ``torch.export``.

What a program needs to know beside the graph (classes, colours, thresholds) goes with it, so that one file is enough.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import importlib.util
import json
import logging
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.export import Dim, ExportedProgram

import detr_d2
from detr_d2.arguments import add_opts
from detr_d2.checkpoint import DetrCheckpointer, load_model
from detr_d2.checkpoint.categories import to_record
from detr_d2.checkpoint.paths import weight_files
from detr_d2.config import load_config
from detr_d2.errors import ConfigError
from detr_d2.export.graph import INPUT_NAMES, DetrGraph
from detr_d2.files import check_outputs, real_path
from detr_d2.meta_arch import DetrPanoptic
from detr_d2.wording import counted

from detectron2.config import CfgNode
from detectron2.modeling import build_model

#: The entry of an ONNX file's ``metadata_props`` that holds this as JSON; a ``.pt2`` has it as the extra file
#: ``detr_d2.json``.
METADATA_KEY = "detr_d2"

#: Least height and width that a program of torch.export takes, in pixels: res5 must be larger than 1x1.
MIN_SIDE = 33

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

#: Is called with each step as it begins, as exporting takes a minute or more.
Report = Callable[[str], None]


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


def export_model(
    model: DetrPanoptic, cfg: CfgNode, path: str | Path, file_format: str, report: Report = lambda step: None
) -> Path:
    """Write a model that takes images of any size and number; see :class:`detr_d2.export.DetrGraph`.

    The file is written beside and renamed, so ``path`` holds a whole model, what it held before, or nothing.

    Args:
        model: stays as it is; a copy on the CPU, in evaluation mode and without gradients, is written.
        cfg: what it was built from.
        path: of the new file; one that is there is replaced.
        file_format: a key of ``FORMATS``.
        report: is called with the name of each step before it.

    Returns:
        ``path``.

    Raises:
        ConfigError: a package isn't installed, ``path`` can't be written, or the format is unknown.
    """
    path = Path(path)
    if file_format not in FORMATS:
        raise ConfigError(f"The format {file_format!r} is unknown; allowed are {', '.join(FORMATS)}.")
    check_output(path)
    check_packages(file_format)
    graph = DetrGraph(copy.deepcopy(model).cpu(), cfg.INPUT.FORMAT).eval().requires_grad_(False)
    description = json.dumps(describe_model(model, cfg), ensure_ascii=False)
    partial = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
    try:
        with torch.no_grad(), _quiet():
            report("tracing the network")
            program = torch.export.export(
                graph, _example_inputs(len(model.categories)), dynamic_shapes=_dynamic_shapes(), strict=False
            )
            FORMATS[file_format](program, graph.output_names, description, partial, report)
        os.replace(partial, path)
    except OSError as error:
        raise ConfigError(f"{path} can't be written: {error}. Name another file, or make room.") from error
    finally:
        partial.unlink(missing_ok=True)
    return path


def describe_model(model: DetrPanoptic, cfg: CfgNode) -> dict[str, Any]:
    """Plain data about a model.

    Args:
        model: its classes, thresholds and whether it has masks.
        cfg: of which the sizes of test images are taken.

    Returns:
        version of detr_d2; categories, a list whose index is what the graph calls a class, each with id (of the
        dataset), name, isthing (0 or 1) and color (RGB); has_masks; score_threshold, which the graph is given, one for
        each class; overlap_threshold, see :func:`detr_d2.modeling.panoptic_map`; min_segment_area in pixels of the
        original image; instance_score_threshold, of single boxes and masks of things; min_size and max_size, the sides
        in pixels between which images are resized.
    """
    thresholds = model.postprocess
    return {
        "version": detr_d2.__version__,
        "categories": to_record(model.categories),
        "has_masks": model.mask_head is not None,
        "score_threshold": thresholds.score_thresholds().tolist(),
        "overlap_threshold": float(thresholds.overlap_threshold),
        "min_segment_area": int(thresholds.min_segment_area),
        "instance_score_threshold": float(thresholds.instance_score_threshold),
        "min_size": int(cfg.INPUT.MIN_SIZE_TEST),
        "max_size": int(cfg.INPUT.MAX_SIZE_TEST),
    }


def check_output(path: Path) -> None:
    """Refuses a path that no file can be written to, before anything is computed.

    Raises:
        ConfigError: it is a folder, or its folder isn't there or is closed to us.
    """
    folder = real_path(path).parent
    if path.is_dir():
        raise ConfigError(f"{path} is a folder; name a file in it, such as {path / 'model.onnx'}.")
    if not folder.is_dir():
        raise ConfigError(f"{path} can't be written: there is no folder {folder}. Make it, or name another.")
    if not os.access(folder, os.W_OK):
        raise ConfigError(f"{path} can't be written: {folder} is closed to you. Name another folder.")


def check_packages(file_format: str) -> None:
    """Refuses a format whose packages aren't installed.

    Raises:
        ConfigError: one is missing; the message has the command that installs it.
    """
    needed = ("onnx", "onnxscript") if file_format == "onnx" else ()
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"Writing ONNX needs {' and '.join(missing)}, not installed here: pip install 'detr_d2[export]'. "
            "'--format torch' needs nothing more."
        )


def _write_onnx(
    program: ExportedProgram, output_names: list[str], description: str, path: Path, report: Report
) -> None:
    report("translating it to ONNX")
    found = torch.onnx.export(
        program, input_names=list(INPUT_NAMES), output_names=output_names, dynamo=True, verbose=False, optimize=False
    )
    assert found is not None
    report("simplifying the graph")
    found.optimize()
    found.model.metadata_props[METADATA_KEY] = description
    _name_dimensions(found.model)
    report("writing the file")
    found.save(str(path), external_data=False)


def _write_torch(
    program: ExportedProgram, output_names: list[str], description: str, path: Path, report: Report
) -> None:
    report("writing the file")
    torch.export.save(program, path, extra_files={f"{METADATA_KEY}.json": description})


#: Format to what writes it: the traced graph, names of its outputs, its description, the file, and what reports steps.
FORMATS: dict[str, Callable[[ExportedProgram, list[str], str, Path, Report], None]] = {
    "onnx": _write_onnx,
    "torch": _write_torch,
}


def _example_inputs(num_classes: int) -> tuple[Tensor, Tensor, Tensor]:
    """Two images of different sizes; only the kinds and numbers of dimensions stay in the graph."""
    return torch.zeros(2, 3, 100, 131), torch.tensor([[100, 120], [90, 131]]), torch.full((num_classes,), 0.5)


def _dynamic_shapes() -> dict[str, Any]:
    batch = Dim("batch")
    return {
        "images": {0: batch, 2: Dim("height", min=MIN_SIDE), 3: Dim("width", min=MIN_SIDE)},
        "sizes": {0: batch},
        "score_threshold": None,
    }


def _name_dimensions(model: Any) -> None:
    """Call the number of kept queries "kept" in the outputs' shapes, where the exporter counts it u0."""
    for output in model.graph.outputs:
        if output.shape is not None and str(output.shape[0]) == "u0":
            output.shape[0] = "kept"


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporters' notes to their own developers."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels):
            logger.setLevel(level)
