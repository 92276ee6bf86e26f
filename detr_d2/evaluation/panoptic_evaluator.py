"""Panoptic quality of a model over a registered dataset, in memory: no predictions are written or kept."""

from __future__ import annotations

import logging
import os
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np

from detr_d2.data import categories_of, read_panoptic_png
from detr_d2.errors import DatasetError, UserError
from detr_d2.evaluation.ground_truth import count_stale_areas, find_faults
from detr_d2.evaluation.overlaps import segment_areas
from detr_d2.evaluation.panoptic_quality import PanopticQuality, Quality
from detr_d2.evaluation.results import group_means, quality_as_json, write_json
from detr_d2.evaluation.tables import class_table, quality_table

from detectron2.data import DatasetCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm

logger = logging.getLogger(__name__)

#: More faults of the ground truth than this aren't told apart.
MAX_FAULTS = 10
_RESULT_FILE = "panoptic_quality.json"


class DetrPanopticEvaluator(DatasetEvaluator):
    """PQ, SQ and RQ for All, Things and Stuff, with the keys of Detectron2's ``COCOPanopticEvaluator``.

    Args:
        dataset_name: a registered dataset with panoptic ground truth.
        output_dir: gets ``panoptic_quality.json``; None writes nothing.

    Raises:
        DatasetError: no such dataset, or it has no panoptic ground truth.
    """

    def __init__(self, dataset_name: str, output_dir: str | None = None) -> None:
        self._dataset_name, self._output_dir = dataset_name, output_dir
        self._categories = categories_of(dataset_name)
        records = DatasetCatalog.get(dataset_name)
        if not records or "pan_seg_file_name" not in records[0]:
            raise DatasetError(
                f"the dataset {dataset_name!r} has no panoptic ground truth to evaluate with; register it with "
                "panoptic_json and panoptic_root, or evaluate boxes only (MODEL.DETR.MASK_ON False)."
            )
        self._records = {record["image_id"]: (row, record) for row, record in enumerate(records)}
        self.reset()

    def reset(self) -> None:
        """Forget all pictures."""
        self._quality = PanopticQuality(len(self._categories))
        self._times_seen = np.zeros(len(self._records), dtype=np.int64)
        self._stale_areas = 0
        self._faults: list[str] = []

    def process(self, inputs: Sequence[dict[str, Any]], outputs: Sequence[dict[str, Any]]) -> None:
        """Compare each output's "panoptic_seg" with the ground truth of its input's "image_id".

        Raises:
            DatasetError: an image id isn't the dataset's; or ten faults of the ground truth have come together.
            ValueError: an output has no "panoptic_seg", or it contradicts itself.
        """
        for picture, output in zip(inputs, outputs, strict=True):
            if "panoptic_seg" not in output:
                raise ValueError('the model gave no "panoptic_seg"; MODEL.DETR.MASK_ON and PANOPTIC_ON must be True.')
            row, record = self._record(picture["image_id"])
            self._times_seen[row] += 1
            ids = self._true_map(record)
            if ids is not None:
                predicted_map, predicted_segments = output["panoptic_seg"]
                found = predicted_map.detach().cpu().numpy()
                self._quality.update(ids, record["segments_info"], found, predicted_segments)

    def evaluate(self) -> dict[str, dict[str, float]] | None:
        """Results over all processes; None but in the main one.

        Returns:
            {"panoptic_seg": {"PQ", "SQ", "RQ", "PQ_th", "SQ_th", "RQ_th", "PQ_st", "SQ_st", "RQ_st"}} in percent; NaN
            where the dataset has no such class.

        Raises:
            DatasetError: the ground truth contradicts itself; up to ten faults are listed.
        """
        self._gather()
        if self._faults:
            raise self._contradiction()
        if not comm.is_main_process():
            return None
        self._report_coverage()
        groups = self._report_quality()
        results = {}
        for group, ending in (("All", ""), ("Things", "_th"), ("Stuff", "_st")):
            for key in ("pq", "sq", "rq"):
                results[key.upper() + ending] = 100 * getattr(groups[group], key)
        return OrderedDict(panoptic_seg=results)

    def _record(self, image_id: Any) -> tuple[int, dict[str, Any]]:
        if image_id not in self._records:
            raise DatasetError(
                f"the image id {image_id!r} isn't one of the {len(self._records)} of the dataset "
                f"{self._dataset_name!r}; evaluate the pictures of the dataset that the evaluator was made for."
            )
        return self._records[image_id]

    def _true_map(self, record: dict[str, Any]) -> np.ndarray | None:
        """The true segment ids, or None where the ground truth has faults, which are noted."""
        try:
            ids = read_panoptic_png(record["pan_seg_file_name"])
        except UserError as error:
            faults = [f"image id {record['image_id']}: {error}"]
        else:
            faults = find_faults(record, ids)
            self._stale_areas += count_stale_areas(record["segments_info"], segment_areas(ids))
        self._faults += faults
        if len(self._faults) >= MAX_FAULTS:
            raise self._contradiction()
        return None if faults else ids

    def _contradiction(self) -> DatasetError:
        shown = "\n".join(f"  {fault}" for fault in self._faults[:MAX_FAULTS])
        more = "\n  ... and perhaps more." if len(self._faults) >= MAX_FAULTS else ""
        return DatasetError(
            f"the ground truth of {self._dataset_name!r} contradicts itself, so that no number would mean anything:\n"
            f"{shown}{more}\nMake PNGs and JSON agree; ids are R + 256 G + 65536 B, and 0 is void."
        )

    def _gather(self) -> None:
        """Join what all processes have seen, in the order of their ranks."""
        parts = comm.all_gather((self._quality, self._times_seen, self._stale_areas, self._faults))
        self._quality = PanopticQuality(len(self._categories))
        for quality, *_ in parts:
            self._quality.merge(quality)
        self._times_seen = np.sum([seen for _, seen, _, _ in parts], axis=0)
        self._stale_areas = sum(stale for _, _, stale, _ in parts)
        self._faults = [fault for *_, faults in parts for fault in faults]

    def _report_quality(self) -> dict[str, Quality]:
        """Log the tables, write the file; the means over All, Things and Stuff."""
        is_thing = [category.is_thing for category in self._categories]
        groups = group_means(self._quality, is_thing)
        names = [category.name for category in self._categories]
        logger.info("Panoptic quality by class:\n%s", class_table(self._quality, names, is_thing))
        logger.info("Panoptic quality on %s:\n%s", self._dataset_name, quality_table(groups))
        if self._output_dir:
            head = {"dataset": self._dataset_name, "pictures": int((self._times_seen > 0).sum())}
            content = head | quality_as_json(self._quality, self._categories)
            write_json(os.path.join(self._output_dir, _RESULT_FILE), content)
        return groups

    def _report_coverage(self) -> None:
        total, missing = len(self._times_seen), int((self._times_seen == 0).sum())
        repeated = int((self._times_seen > 1).sum())
        if missing:
            logger.warning(
                "Only %d of the %d pictures of %s were evaluated: the numbers are those of a part of the dataset.",
                total - missing,
                total,
                self._dataset_name,
            )
        if repeated:
            logger.warning("%d pictures of %s were evaluated more than once.", repeated, self._dataset_name)
        if self._stale_areas:
            logger.info(
                "%d segments have another area in the JSON than in the PNG; the PNG's pixels were counted.",
                self._stale_areas,
            )
