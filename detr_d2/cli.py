"""The command ``detr-d2``: everything that isn't training.

Each subcommand is a module with ``add_arguments(parser)`` and ``run(args) -> int``; only the chosen one is imported,
and torch and detectron2 only by those that need them.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import detr_d2


class Command(NamedTuple):
    """A subcommand.

    Args:
        module: that does the work.
        help: the line that ``detr-d2 --help`` shows.
        needs_all: it is for models, so that all of the package is imported; see :func:`detr_d2.register_all`.
    """

    module: str
    help: str
    needs_all: bool = False


COMMANDS = {
    "app": Command("detr_d2.prediction.app.page", "serve a page on which photos can be tried", True),
    "browse": Command("detr_d2.browse.command", "write a page with a dataset's images and their labels", True),
    "check": Command("detr_d2.check.command", "name everything that is wrong with a dataset"),
    "compare": Command("detr_d2.evaluation.comparison", "is one evaluation better than another, or is it chance?"),
    "convert-weights": Command(
        "detr_d2.checkpoint.model_file", "write another program's weights as a checkpoint of this one", True
    ),
    "env": Command("detr_d2.environment", "show versions, the detectron2 in use, devices and datasets"),
    "explain": Command("detr_d2.prediction.explain.command", "show how a model comes to its result for an image", True),
    "export": Command("detr_d2.export.writing", "write a trained model as ONNX, or as a torch.export program", True),
    "plan": Command("detr_d2.plan.command", "plan a training: where to start, keys, time on this machine", True),
    "plot": Command("detr_d2.training.plot.page", "draw losses, quality and learning rate of trainings"),
    "pq": Command("detr_d2.evaluation.pq_command", "panoptic quality of predictions of any system, in files"),
    "predict": Command("detr_d2.prediction.command", "use a model: drawings, counts, files for other programs", True),
    "prepare": Command("detr_d2.prepare.command", "make a panoptic dataset of exports from CVAT, and of COCO"),
    "replay": Command("detr_d2.training.replay_command", "run a training step again whose losses weren't finite", True),
    "report": Command("detr_d2.evaluation.report.command", "what an evaluation found and what to do next, on a page"),
    "sweep": Command("detr_d2.evaluation.sweep", "say which score and overlap thresholds to set", True),
    "weights": Command("detr_d2.checkpoint.weights_command", "say what a file of weights is"),
    "yard": Command("detr_d2.yard.command", "make a small panoptic dataset of construction yards"),
}

EPILOG = """\
examples:
  detr-d2 env
  detr-d2 yard datasets/yard --train 600 --val 60
  detr-d2 check datasets/yard

'detr-d2 COMMAND --help' explains a command. To train, run train_net.py.
"""


class _AnyOrder(argparse.ArgumentParser):
    """Takes options between and before lists of files: ``predict CHECKPOINT --out results photos/``."""

    _in_order = False

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:  # argparse's overloads
        """See argparse; what it calls here calls this again."""
        if self._in_order:
            return super().parse_known_args(args, namespace)
        self._in_order = True
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._in_order = False


def build_parser(chosen: str | None) -> argparse.ArgumentParser:
    """The command line's parser, with the arguments of the chosen subcommand only."""
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="detr-d2",
        description="DETR and its panoptic mask head on Detectron2: tools around training.",
        epilog=EPILOG,
        formatter_class=layout,
    )
    parser.add_argument("--version", action="version", version=f"detr_d2 {detr_d2.__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=_AnyOrder)
    for name, command in COMMANDS.items():
        subparser = subparsers.add_parser(name, help=command.help, formatter_class=layout)
        if name == chosen:
            if command.needs_all:
                detr_d2.register_all()
            module = importlib.import_module(command.module)
            module.add_arguments(subparser)
            subparser.set_defaults(run=module.run, refuse=subparser.error)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the subcommand that the arguments name.

    Args:
        arguments: as in ``sys.argv[1:]``, which is the default.

    Returns:
        The exit code.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    chosen = next((word for word in words if not word.startswith("-")), None)
    parser = build_parser(chosen)
    if not words:  # who doesn't know the commands wants to see them
        parser.exit(2, parser.format_help())
    args, unknown = parser.parse_known_args(words)
    if unknown:
        args.refuse(f"unknown: {' '.join(unknown)}; see detr-d2 {chosen} --help")
    return args.run(args)
