"""``detr-d2 weights``: say what a file of weights is."""

from __future__ import annotations

import argparse
import json
import textwrap
from typing import TYPE_CHECKING, Any

import detr_d2

if TYPE_CHECKING:
    from .reading import WeightsFile

_EPILOG = """\
examples:
  detr-d2 weights output/detr_panoptic_R50/model_final.pth
  detr-d2 weights detr-r50-panoptic-00ce5173.pth --json
  detr-d2 weights folder-saved-by-huggingface

Reads checkpoints of this project, facebookresearch/detr and Hugging Face, and ResNets of torchvision and Detectron2.
Nothing in the file is run.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command and its arguments to ``parser``."""
    parser.description = "Say what a file of weights is: origin, network, classes, and the images it expects."
    parser.epilog = _EPILOG
    parser.add_argument("file", metavar="FILE", help="a file, a folder of Hugging Face, an address or a short name")
    parser.add_argument("--json", action="store_true", help="write JSON, with the names of all classes")


def run(args: argparse.Namespace) -> int:
    """Print the description."""
    detr_d2.register_all()
    from .reading import read_weights  # which needs torch, and --help doesn't

    description = describe(read_weights(args.file))
    if args.json:
        print(json.dumps(description, indent=2))
        return 0
    for title, value in _lines(description):
        print(textwrap.fill(value, 110, initial_indent=f"{title:<14}", subsequent_indent=" " * 14))
    return 0


def describe(file: WeightsFile) -> dict[str, Any]:
    """What a file is, from its names, shapes, record and neighbours; None and empty lists where nothing says it.

    Returns:
        Plain data: path and origin; kind ("panoptic", "boxes", "backbone" or "unknown"); backbone, such as "ResNet-50",
        and whether its res5 is dilated; sizes of the transformer; outputs of the class head, no-object included; names
        of things, of stuff and of all classes, in the order of the outputs; format, mean and std of the images'
        channels, in 0..255; numbers of tensors and parameters; the iteration after which our training saved it.

    Raises:
        WeightsError: its own list of categories is damaged.
    """
    from .categories import WEIGHT, head_classes
    from .recipe import FORMAT, MEAN, STD, deduced_recipe

    recipe, head, iteration = deduced_recipe(file), file.weights.get(WEIGHT), file.rest.get("iteration")
    known = [head_class for head_class in head_classes(file) or [] if head_class is not None]
    depth, dilation = recipe.get("MODEL.RESNETS.DEPTH"), recipe.get("MODEL.RESNETS.RES5_DILATION")
    return {
        "path": file.path,
        "origin": file.origin,
        "kind": _kind(file, head is not None),
        "backbone": None if depth is None else f"ResNet-{depth}",
        "dilated": None if dilation is None else dilation == 2,
        "hidden_dim": recipe.get("MODEL.DETR.HIDDEN_DIM"),
        "heads": recipe.get("MODEL.DETR.NHEADS"),
        "encoder_layers": recipe.get("MODEL.DETR.ENC_LAYERS"),
        "decoder_layers": recipe.get("MODEL.DETR.DEC_LAYERS"),
        "queries": recipe.get("MODEL.DETR.NUM_QUERIES"),
        "outputs": None if head is None else len(head),
        "things": [head_class.name for head_class in known if head_class.is_thing is True],
        "stuff": [head_class.name for head_class in known if head_class.is_thing is False],
        "classes": [head_class.name for head_class in known],
        "format": file.convention.get(FORMAT),
        "mean": file.convention.get(MEAN),
        "std": file.convention.get(STD),
        "tensors": len(file.weights),
        "parameters": sum(value.numel() for value in file.weights.values()),
        "iteration": iteration if isinstance(iteration, int) else None,
    }


def _kind(file: WeightsFile, has_head: bool) -> str:
    if has_head:
        return "panoptic" if "mask_head.lay1.weight" in file.weights else "boxes"
    return "backbone" if any(name.startswith("detr.backbone.") for name in file.weights) else "unknown"


def _lines(about: dict[str, Any]) -> list[tuple[str, str]]:
    """Title and text of each line."""
    what = {"panoptic": "boxes and masks", "boxes": "boxes, no masks", "backbone": "a backbone alone"}
    dilation = {True: "res5 dilated (DC5)", False: "res5 not dilated", None: "dilation of res5 not in the file"}
    lines = [
        ("file", about["path"]),
        ("origin", about["origin"]),
        ("kind", what.get(about["kind"], "unknown")),
        ("backbone", f"{about['backbone'] or 'none that is known'}, {dilation[about['dilated']]}"),
    ]
    if about["outputs"] is not None:
        layers = f"{about['encoder_layers']} encoder and {about['decoder_layers']} decoder layers"
        heads = f"{about['heads']} heads" if about["heads"] else "number of heads not in the file"
        lines += [
            ("transformer", f"{layers}, width {about['hidden_dim']}, {heads}"),
            ("queries", str(about["queries"])),
            ("classes", f"{about['outputs']} outputs, no-object last; {_counts(about)}"),
        ]
    kinds = [kind for kind in ("things", "stuff") if about[kind]]
    lines += [(kind, ", ".join(about[kind])) for kind in kinds]
    if about["classes"] and not kinds:
        lines.append(("names", ", ".join(about["classes"])))
    return [*lines, ("images", _images(about)), ("size", _size(about))]


def _counts(about: dict[str, Any]) -> str:
    things, stuff, classes = (len(about[key]) for key in ("things", "stuff", "classes"))
    if not classes:
        return "their names are not in the file"
    return f"{things} things and {stuff} stuff classes with a name" if things or stuff else f"{classes} with a name"


def _images(about: dict[str, Any]) -> str:
    if about["format"] is None:
        return "not in the file"
    mean, std = (", ".join(f"{value:g}" for value in about[key]) for key in ("mean", "std"))
    return f"{about['format']}, mean {mean}, standard deviation {std} (of values 0 to 255)"


def _size(about: dict[str, Any]) -> str:
    after = "" if about["iteration"] is None else f", saved after iteration {about['iteration']}"
    return f"{about['parameters'] / 1e6:.1f} million values in {about['tensors']} tensors{after}"
