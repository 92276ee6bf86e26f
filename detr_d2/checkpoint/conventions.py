"""Which pictures weights expect: the order of the channels, their mean and their standard deviation.

Source: torchvision's ImageNet models (RGB), and Caffe2's ResNets as Detectron2's model zoo uses them (BGR).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from detr_d2.errors import WeightsError

from .names import CAFFE2, DETECTRON2, HUGGING_FACE, OURS, PUBLISHED, TORCHVISION

FORMAT, MEAN, STD = "INPUT.FORMAT", "MODEL.PIXEL_MEAN", "MODEL.PIXEL_STD"


@dataclass(frozen=True)
class InputConvention:
    """What a network's pictures look like.

    Args:
        format: "RGB" or "BGR".
        mean: of each channel, in that order, of values in 0..255.
        std: likewise.
    """

    format: str
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def entries(self) -> dict[str, Any]:
        """The config keys that say so."""
        return {FORMAT: self.format, MEAN: list(self.mean), STD: list(self.std)}


IMAGENET_RGB = InputConvention("RGB", (123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
CAFFE2_BGR = InputConvention("BGR", (103.53, 116.28, 123.675), (1.0, 1.0, 1.0))


def convention_of(
    origin: str, author: str, recorded: Mapping[str, Any], preprocessor: Mapping[str, Any]
) -> InputConvention | None:
    """What the weights of an origin expect; None where nobody knows.

    Args:
        origin: see ``convert_names``.
        author: who Detectron2's file says made it.
        recorded: config keys that our own checkpoint holds.
        preprocessor: Hugging Face's preprocessor_config.json.
    """
    if origin == HUGGING_FACE and preprocessor.get("image_mean") and preprocessor.get("image_std"):
        scaled = [tuple(round(255 * value, 4) for value in preprocessor[key]) for key in ("image_mean", "image_std")]
        return InputConvention("RGB", *scaled)
    if origin in (PUBLISHED, HUGGING_FACE, TORCHVISION) or (origin == DETECTRON2 and author == "torchvision"):
        return IMAGENET_RGB
    if origin == CAFFE2 or (origin == DETECTRON2 and author):
        return CAFFE2_BGR
    if origin == OURS and all(key in recorded for key in (FORMAT, MEAN, STD)):
        return InputConvention(str(recorded[FORMAT]), tuple(recorded[MEAN]), tuple(recorded[STD]))
    return None


def refuse_other_pictures(expected: InputConvention | None, config: Mapping[str, Any], path: str, origin: str) -> None:
    """Refuse a config whose pictures look other than those that the weights were trained with.

    Args:
        expected: by the weights.
        config: keys and values that the model was built with; keys that aren't there aren't looked at.
        path: of the weights, for the message.
        origin: of the weights, for the message.

    Raises:
        WeightsError: naming each key to change, what it is and what it must be.
    """
    if expected is None:
        return
    wrong = [key for key, value in expected.entries().items() if key in config and not _same(config[key], value)]
    if not wrong:
        return
    found = ", ".join(f"{key} is {_shown(config[key])}" for key in wrong)
    cure = " ".join(f"{key} {_shown(expected.entries()[key], quoted=True)}" for key in wrong)
    raise WeightsError(f"{path} ({origin}) was trained on other pictures than the config makes: {found}. Set {cure}.")


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, str) or isinstance(b, str):
        return bool(a == b)
    return len(a) == len(b) and all(abs(x - y) < 0.5 for x, y in zip(a, b))


def _shown(value: str | Sequence[float], quoted: bool = False) -> str:
    if isinstance(value, str):
        return value
    text = "[" + ", ".join(f"{number:g}" for number in value) + "]"
    return f'"{text}"' if quoted else text
