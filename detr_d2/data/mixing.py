"""Images that are made of several: which ones, and where the loader finds them."""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import numpy as np
import torch

from detectron2.config import CfgNode

from ..errors import ConfigError
from .copy_paste import CopyPaste
from .mapper import DetrPanopticDatasetMapper
from .ricap import Ricap
from .segments import Scene


class Mix(Protocol):
    """Makes one scene of several."""

    name: str
    """Of its keys in the config."""
    prob: float
    """How often it is done."""
    num_others: int
    """How many scenes it takes beside the first."""

    def __call__(self, scene: Scene, others: Sequence[Scene]) -> Scene:
        """The first scene, with something of the others; whatever is by chance comes from ``np.random``."""


def build_mixes(cfg: CfgNode) -> list[Mix]:
    """What ``INPUT`` asks for, in the order in which it is done.

    Raises:
        ConfigError: values that make no sense.
    """
    ricap, paste = cfg.INPUT.RICAP, cfg.INPUT.COPY_PASTE
    mixes: list[Mix] = []
    if ricap.ENABLED:
        mixes.append(Ricap(ricap.PROB, ricap.BETA))
    if paste.ENABLED:
        mixes.append(CopyPaste(paste.PROB, paste.MIN_SCALE, paste.MAX_SCALE))
    return mixes


class PackedRecords(Sequence[dict[str, Any]]):
    """Dataset dicts in one tensor, which the processes of a loader share instead of each having a copy."""

    def __init__(self, records: Iterable[dict[str, Any]]) -> None:
        pickled = [pickle.dumps(record, protocol=pickle.HIGHEST_PROTOCOL) for record in records]
        self._ends = torch.tensor([len(content) for content in pickled]).cumsum(0)
        content = bytearray(b"".join(pickled))
        # torch makes no tensor of an empty buffer.
        self._bytes = torch.frombuffer(content, dtype=torch.uint8) if content else torch.empty(0, dtype=torch.uint8)

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, index: Any) -> Any:
        start = 0 if index == 0 else int(self._ends[index - 1])
        return pickle.loads(self._bytes[start : int(self._ends[index])].numpy().data)


class MixingMapper:
    """Numbers of a dataset to the model's input, of images that have something of others by chance.

    The first image is the one asked for, which gives the size, file name and image id; the others are any of the
    dataset's.

    Args:
        mapper: reads images, and augments what comes out.
        records: dataset dicts with panoptic ground truth.
        mixes: what is done, in this order, each with its own probability.

    Raises:
        ConfigError: an image without panoptic ground truth.
    """

    def __init__(
        self, mapper: DetrPanopticDatasetMapper, records: Iterable[dict[str, Any]], mixes: Sequence[Mix]
    ) -> None:
        records = list(records)
        boxes_only = next((record for record in records if "segments_info" not in record), None)
        if boxes_only is not None:
            name = mixes[0].name
            raise ConfigError(
                f"{name} needs panoptic ground truth, and {boxes_only['file_name']} has none. "
                f"Set {name}.ENABLED False, or train on panoptic datasets only."
            )
        self.mapper, self.records, self.mixes = mapper, PackedRecords(records), mixes

    def __call__(self, index: int) -> dict[str, Any]:
        """What :class:`DetrPanopticDatasetMapper` gives, of the image with this number; raises as it does."""
        record = self.records[index]
        drawn = [mix for mix in self.mixes if np.random.uniform() < mix.prob]
        if not drawn:
            return self.mapper(record)
        scene = self.mapper.read_scene(record)
        for mix in drawn:
            others = np.random.randint(len(self.records), size=mix.num_others).tolist()
            scene = mix(scene, [self.mapper.read_scene(self.records[other]) for other in others])
        return self.mapper.give(scene, record)
