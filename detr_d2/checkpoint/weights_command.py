"""``detr-d2 weights``: say what a file of weights is."""

from __future__ import annotations

import argparse
import json
import textwrap
from typing import TYPE_CHECKING

import detr_d2

if TYPE_CHECKING:
    from .description import Description

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
    parser.description = "Say what a file of weights is: origin, network, classes, and the pictures it expects."
    parser.epilog = _EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("file", metavar="FILE", help="a file, a folder of Hugging Face, an address or a short name")
    parser.add_argument("--json", action="store_true", help="write JSON, with the names of all classes")


def run(args: argparse.Namespace) -> int:
    """Print the description."""
    detr_d2.register_all()
    from .description import describe  # these need torch, which --help doesn't
    from .reading import read_weights

    description = describe(read_weights(args.file))
    if args.json:
        print(json.dumps(description.as_dict(), indent=2))
        return 0
    for title, value in _lines(description):
        print(textwrap.fill(value, 110, initial_indent=f"{title:<14}", subsequent_indent=" " * 14))
    return 0


def _lines(description: Description) -> list[tuple[str, str]]:
    """Title and text of each line."""
    what = {"panoptic": "boxes and masks", "boxes": "boxes, no masks", "backbone": "a backbone alone"}
    lines = [
        ("file", description.path),
        ("origin", description.origin),
        ("kind", what.get(description.kind, "unknown")),
        ("backbone", _backbone(description)),
    ]
    if description.outputs is not None:
        layers = f"{description.encoder_layers} encoder and {description.decoder_layers} decoder layers"
        heads = f"{description.heads} heads" if description.heads else "number of heads not in the file"
        lines += [
            ("transformer", f"{layers}, width {description.hidden_dim}, {heads}"),
            ("queries", str(description.queries)),
            ("classes", f"{description.outputs} outputs, no-object last; {_counts(description)}"),
        ]
    for title, names in _named(description):
        lines.append((title, ", ".join(names)))
    return [*lines, ("pictures", _pictures(description)), ("size", _size(description))]


def _backbone(description: Description) -> str:
    dilation = {True: "res5 dilated (DC5)", False: "res5 not dilated", None: "dilation of res5 not in the file"}
    return f"{description.backbone or 'none that is known'}, {dilation[description.dilated]}"


def _counts(description: Description) -> str:
    if not description.classes:
        return "their names are not in the file"
    if not description.things and not description.stuff:
        return f"{len(description.classes)} with a name"
    return f"{len(description.things)} things and {len(description.stuff)} stuff classes with a name"


def _named(description: Description) -> list[tuple[str, list[str]]]:
    kinds = [("things", description.things), ("stuff", description.stuff)]
    both = [(title, names) for title, names in kinds if names]
    return both or ([("names", description.classes)] if description.classes else [])


def _pictures(description: Description) -> str:
    if description.format is None or description.mean is None or description.std is None:
        return "not in the file"
    mean, std = (", ".join(f"{value:g}" for value in values) for values in (description.mean, description.std))
    return f"{description.format}, mean {mean}, standard deviation {std} (of values 0 to 255)"


def _size(description: Description) -> str:
    after = "" if description.iteration is None else f", saved after iteration {description.iteration}"
    return f"{description.parameters / 1e6:.1f} million values in {description.tensors} tensors{after}"
