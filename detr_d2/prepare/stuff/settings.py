"""What a user may choose for the part of a picture that people didn't label."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from detr_d2.errors import ConfigError

StuffClasses: TypeAlias = Literal["super", "coco"]
ForeignThings: TypeAlias = Literal["misc", "void"]

STUFF_CLASSES: tuple[StuffClasses, ...] = get_args(StuffClasses)
FOREIGN_THINGS: tuple[ForeignThings, ...] = get_args(ForeignThings)

#: Of a panoptic model's masks, which are at a quarter of the picture's size and blurred by one more pixel there.
MODEL_MARGIN = 5


@dataclass(frozen=True)
class StuffSettings:
    """The choices beside ``--stuff`` itself.

    Args:
        classes: COCO's stuff becomes one of 16 super-categories (``super``) or stays as it is (``coco``).
        things: a model's things become ``misc``, or ``void``.
        score: a model's segments with a lower score become void; 0 to 1.
        margin: what is at most so many pixels away from what people labelled becomes void, so that a class that the
            model saw there doesn't leak out of it; None: 5 for a model, 0 otherwise.
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
        for option, value, allowed in (
            ("--stuff-classes", self.classes, STUFF_CLASSES),
            ("--stuff-things", self.things, FOREIGN_THINGS),
        ):
            if value not in allowed:
                raise ConfigError(f"{option} {value}: allowed are {', '.join(allowed)}.")
        if not 0 <= self.score <= 1:
            raise ConfigError(f"--stuff-score {self.score} isn't a probability; allowed are 0 to 1, such as 0.85.")
        if self.margin is not None and self.margin < 0:
            raise ConfigError(f"--margin {self.margin}: pixels around people's labels; allowed are 0 and more.")
