"""Arguments that several command lines take."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from typing import Any, Literal, TypeAlias, get_args

Engine: TypeAlias = Literal["local", "ray"]
ENGINES: tuple[Engine, ...] = get_args(Engine)


def whole_number(least: int, most: int) -> Callable[[str], int]:
    """What reads a whole number within bounds, as the ``type`` of an argument."""

    def read(text: str) -> int:
        is_short = text.isascii() and text.isdecimal() and len(text) <= len(str(most))
        if not is_short or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"{text!r} isn't a whole number from {least} to {most}")
        return int(text)

    return read


def number(least: float, most: float, what: str) -> Callable[[str], float]:
    """What reads a number within bounds; the message says ``what`` it is to be."""

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{text!r} isn't {what}")
        return value

    return read


def add_opts(parser: argparse.ArgumentParser, meaning: str) -> None:
    """Adds ``--opts KEY VALUE ...``, which takes the rest of the line."""
    parser.add_argument(
        "--opts",
        nargs=argparse.REMAINDER,
        default=[],
        metavar="KEY VALUE",
        help=f"{meaning}, as pairs; the last argument, as it takes all that follows",
    )


def add_engine(parser: Any, workers: int) -> None:
    """Adds ``--engine`` and ``--workers`` to a parser or a group of its arguments.

    Args:
        parser: of the command.
        workers: how many processes the command uses on this machine by default.
    """
    parser.add_argument(
        "--engine",
        choices=ENGINES,
        default="local",
        help="ray: in processes of a cluster, the one that RAY_ADDRESS names, or else of this machine (default: local)",
    )
    parser.add_argument(
        "--workers",
        type=whole_number(1, 999_999_999),
        metavar="N",
        help=f"processes (default: {workers}; of a cluster one for each processor, or for each GPU)",
    )


def add_shown_images(parser: argparse.ArgumentParser, default: int, which: str) -> None:
    """Adds ``--images N``, which says how many images a page shows."""
    parser.add_argument(
        *("--images", "--pictures"),
        dest="images",
        type=whole_number(0, 9_999_999),
        default=default,
        metavar="N",
        help=f"how many {which}; 0 for none (default: %(default)s)",
    )


def add_resamples(parser: argparse.ArgumentParser) -> None:
    """Adds ``--resamples`` and ``--seed`` of bootstrap intervals."""
    parser.add_argument(
        "--resamples",
        type=whole_number(0, 9_999_999),
        default=1000,
        metavar="N",
        help="bootstrap resamples for the intervals (default: %(default)s)",
    )
    add_seed(parser)


def add_seed(parser: argparse.ArgumentParser) -> None:
    """Adds ``--seed`` of bootstrap resamples."""
    parser.add_argument(
        "--seed", type=whole_number(0, 2**32 - 1), default=0, metavar="N", help="of the resamples (default: 0)"
    )
