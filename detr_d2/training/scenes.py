"""A fixed set of validation scenes in TensorBoard: image, ground truth and prediction after every evaluation."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from detr_d2.data import dataset_metadata
from detr_d2.errors import UserError
from detr_d2.visualization import draw_side_by_side

from detectron2.data import DatasetCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm
from detectron2.utils.events import get_event_storage

logger = logging.getLogger(__name__)

#: TensorBoard keeps every image of every evaluation; a row of three is no wider than this.
MAX_WIDTH = 1500


class SceneEvaluator(DatasetEvaluator):
    """Draws some images, always the same, from the predictions that are evaluated; they cost no forward pass.

    Args:
        dataset_name: a registered dataset.
        count: how many, spread evenly over the dataset.
    """

    def __init__(self, dataset_name: str, count: int) -> None:
        self._dataset_name, self._metadata = dataset_name, dataset_metadata(dataset_name)
        records = DatasetCatalog.get(dataset_name)
        chosen = np.linspace(0, len(records) - 1, min(count, len(records))).round().astype(int).tolist()
        self._records = {records[row]["image_id"]: records[row] for row in chosen}
        self.reset()

    def reset(self) -> None:
        """Forget all images."""
        self._rows: dict[Any, np.ndarray] = {}

    def process(self, inputs: Sequence[dict[str, Any]], outputs: Sequence[dict[str, Any]]) -> None:
        """Draw the images that belong to the set."""
        for item, output in zip(inputs, outputs, strict=True):
            record = self._records.get(item["image_id"])
            if record is None:
                continue
            try:
                row = draw_side_by_side(record, output, self._metadata)
            except UserError as error:  # what is wrong with the ground truth is the other evaluators' matter
                logger.warning("A validation scene can't be drawn: %s", error)
                continue
            self._rows[item["image_id"]] = _at_most(row, MAX_WIDTH)

    def evaluate(self) -> None:
        """Hand the images of all processes to TensorBoard's writer, in the order of the dataset; no results."""
        parts = comm.gather(self._rows)
        rows = {image_id: row for part in parts for image_id, row in part.items()}
        if comm.is_main_process():
            storage = get_event_storage()
            for number, image_id in enumerate(name for name in self._records if name in rows):
                name = f"{self._dataset_name}/{number:02d} (image {image_id})"
                storage.put_image(name, np.ascontiguousarray(rows[image_id].transpose(2, 0, 1)))
        self.reset()


def _at_most(row: np.ndarray, width: int) -> np.ndarray:
    if row.shape[1] <= width:
        return row
    size = (width, max(1, round(row.shape[0] * width / row.shape[1])))
    return np.asarray(Image.fromarray(row).resize(size, Image.Resampling.LANCZOS))
