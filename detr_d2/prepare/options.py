"""What a user may choose of ``detr-d2 prepare``, apart from the exports."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from detr_d2.arguments import Engine
from detr_d2.errors import ConfigError

Crowds: TypeAlias = Literal["auto", "keep", "clear"]
Overlap: TypeAlias = Literal["error", "small-on-top", "z-order", "file-order", "last"]
Holes: TypeAlias = Literal["cut", "fill"]
Images: TypeAlias = Literal["copy", "link", "jpeg"]
CocoThings: TypeAlias = Literal["misc", "keep"]
StuffClasses: TypeAlias = Literal["super", "coco"]
ForeignThings: TypeAlias = Literal["misc", "void"]

OVERLAPS: tuple[Overlap, ...] = get_args(Overlap)


def refuse_other(option: str, value: object, allowed: Any) -> None:
    """Raises a :class:`ConfigError` for a value that isn't among those of a ``Literal``."""
    if value not in get_args(allowed):
        raise ConfigError(f"{option} {value}: allowed are {', '.join(get_args(allowed))}.")


@dataclass(frozen=True)
class PrepareOptions:
    """How exports become a dataset.

    Args:
        out: folder of the dataset.
        name: the datasets are called ``<name>_train`` and ``<name>_val``; empty: as ``out``.
        val: share of the images for validation, from 0 to below 1.
        seed: of the split.
        categories: ``auto`` (what the exports have), ``construction``, ``coco``, or a file that lists them.
        classes: a yaml that maps the exports' class names, or None.
        crowds: ``keep`` them, ``clear`` them all, or ``auto``: clear where a class has nothing but CVAT's.
        overlap: who gets a pixel that several labels claim.
        holes: polygons in polygons of the same object are ``cut`` out of it, or ``fill``-ed.
        min_area: segments of fewer pixels become void.
        images: ``copy`` the files as they are, ``link`` to them, or write all as ``jpeg``.
        quality: of JPEGs that are written, 1 to 100.
        workers: processes; None: one for each processor, of this machine or of the cluster.
        engine: ``local``, or ``ray``: processes of a cluster, which all read and write the same folders.

    Raises:
        ConfigError: a value isn't allowed.
    """

    out: Path
    name: str = ""
    val: float = 0.2
    seed: int = 0
    categories: str = "auto"
    classes: Path | None = None
    crowds: Crowds = "auto"
    overlap: Overlap = "small-on-top"
    holes: Holes = "cut"
    min_area: int = 16
    images: Images = "copy"
    quality: int = 95
    workers: int | None = 1
    engine: Engine = "local"

    def __post_init__(self) -> None:
        if not 0 <= self.val < 1:
            raise ConfigError(f"--val {self.val} isn't a share of the images; allowed are 0 to below 1, such as 0.2.")
        if self.min_area < 0 or (self.workers is not None and self.workers < 1):
            raise ConfigError(f"--min-area {self.min_area}, --workers {self.workers}: allowed are 0 or 1 and more.")
        refuse_other("--crowd", self.crowds, Crowds)
        refuse_other("--overlap", self.overlap, Overlap)
        refuse_other("--holes", self.holes, Holes)
        refuse_other("--engine", self.engine, Engine)
        if not 1 <= self.quality <= 100:
            raise ConfigError(f"a JPEG's quality is 1 to 100, not {self.quality}.")
        if not re.fullmatch(r"\w[\w.-]*", self.dataset_name):
            raise ConfigError(
                f"{self.dataset_name!r} is no name for a dataset; give one of letters, digits, _ by --name."
            )

    @property
    def dataset_name(self) -> str:
        """What the registered names start with."""
        return self.name or self.out.name


@dataclass(frozen=True)
class StuffSettings:
    """The choices beside ``--stuff`` itself.

    Args:
        classes: COCO's stuff becomes one of 16 super-categories (``super``) or stays as it is (``coco``).
        things: a model's things become ``misc``, or ``void``.
        score: a model's segments with a lower score become void; 0 to 1.
        margin: what is at most so many pixels away from people's labels becomes void, so that a class that the model
            saw there doesn't leak out of it; None: 5 for a model, 0 otherwise.
        cache: folder where a model's answers are kept, also for later runs; None: they last until the run is complete.
        overrides: config keys and values in turn for the model, such as ``("MODEL.DEVICE", "cpu")``.

    Raises:
        ConfigError: a value isn't allowed.
    """

    classes: StuffClasses = "super"
    things: ForeignThings = "misc"
    score: float = 0.85
    margin: int | None = None
    cache: Path | None = field(default=None, repr=False)
    overrides: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        refuse_other("--stuff-classes", self.classes, StuffClasses)
        refuse_other("--stuff-things", self.things, ForeignThings)
        if not 0 <= self.score <= 1:
            raise ConfigError(f"--stuff-score {self.score} isn't a probability; allowed are 0 to 1, such as 0.85.")
        if self.margin is not None and self.margin < 0:
            raise ConfigError(f"--margin {self.margin}: pixels around people's labels; allowed are 0 and more.")
