"""Panoptic quality of a model over a registered dataset, and what is measured beside; predictions aren't kept."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from detr_d2.data import categories_of
from detr_d2.errors import DatasetError, UserError
from detr_d2.evaluation.bootstrap import bootstrap_intervals
from detr_d2.evaluation.evaluation_writer import EvaluationWriter, run_facts, training_iteration
from detr_d2.evaluation.faults import MAX_FAULTS, contradiction, count_stale_areas, find_faults
from detr_d2.evaluation.matching import compare_maps
from detr_d2.evaluation.measures import PanopticMeasures
from detr_d2.evaluation.overlaps import GROUND_TRUTH, RunMap, boundary_overlaps, boundary_width, read_run_map
from detr_d2.evaluation.records import make_record
from detr_d2.evaluation.results import (
    Results,
    class_table,
    evaluation_results,
    group_labels,
    measures_as_json,
    measures_table,
    quality_table,
)
from detr_d2.files import write_json

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm

logger = logging.getLogger(__name__)

_RESULT_FILE = "panoptic_quality.json"


class DetrPanopticEvaluator(DatasetEvaluator):
    """PQ, SQ and RQ for All, Things and Stuff, with the keys of Detectron2's ``COCOPanopticEvaluator``, and more.

    Args:
        dataset_name: a registered dataset with panoptic ground truth.
        output_dir: gets ``panoptic_quality.json`` and the records of :mod:`detr_d2.evaluation.records`; None writes
            nothing.
        boundaries: count boundaries, for Boundary PQ.
        resamples: draws for the intervals; 0 for none.
        save_predictions: write the predictions as COCO panoptic files as well.
        cfg: of the run, for ``run.json``.

    Raises:
        DatasetError: no such dataset, or it has no panoptic ground truth.
    """

    def __init__(
        self,
        dataset_name: str,
        output_dir: str | None = None,
        *,
        boundaries: bool = True,
        resamples: int = 1000,
        save_predictions: bool = False,
        cfg: CfgNode | None = None,
    ) -> None:
        self._dataset_name, self._output_dir, self._cfg = dataset_name, output_dir, cfg
        self._boundaries, self._resamples, self._save_predictions = boundaries, resamples, save_predictions
        self._categories = categories_of(dataset_name)
        self._is_thing = [category.is_thing for category in self._categories]
        records = DatasetCatalog.get(dataset_name)
        if not records or "pan_seg_file_name" not in records[0]:
            raise DatasetError(
                f"the dataset {dataset_name!r} has no panoptic ground truth to evaluate with; register it with "
                "panoptic_json and panoptic_root, or evaluate boxes only (MODEL.DETR.MASK_ON False)."
            )
        self._records = {record["image_id"]: (row, record) for row, record in enumerate(records)}
        self.reset()

    def reset(self) -> None:
        """Forget all images."""
        self._measures = PanopticMeasures(self._is_thing)
        self._times_seen = np.zeros(len(self._records), dtype=np.int64)
        self._stale_areas = 0
        self._faults: list[str] = []
        self._started = time.perf_counter()
        # An evaluation outside of a training looks at each map once.
        self._read_map = read_run_map if training_iteration() is None else GROUND_TRUTH.read
        self._writer: EvaluationWriter | None = None
        if self._output_dir:
            dataset_dicts = [record for _, record in self._records.values()] if self._save_predictions else None
            self._writer = EvaluationWriter(self._output_dir, self._categories, dataset_dicts)

    def process(self, inputs: Sequence[dict[str, Any]], outputs: Sequence[dict[str, Any]]) -> None:
        """Compare each output's "panoptic_seg" with the ground truth of its input's "image_id".

        Raises:
            DatasetError: an image id isn't the dataset's; or ten faults of the ground truth have come together.
            ValueError: an output has no "panoptic_seg", or it contradicts itself.
        """
        for item, output in zip(inputs, outputs, strict=True):
            if "panoptic_seg" not in output:
                raise ValueError('the model gave no "panoptic_seg"; MODEL.DETR.MASK_ON and PANOPTIC_ON must be True.')
            if item["image_id"] not in self._records:
                raise DatasetError(
                    f"the image id {item['image_id']!r} isn't one of the {len(self._records)} of the dataset "
                    f"{self._dataset_name!r}; evaluate the images of the dataset that the evaluator was made for."
                )
            row, record = self._records[item["image_id"]]
            self._times_seen[row] += 1
            ground_truth = self._ground_truth(record)
            if ground_truth is not None:
                predicted_map, predicted_segments = output["panoptic_seg"]
                self._compare(record, ground_truth, predicted_map.detach().cpu().numpy(), predicted_segments)

    def evaluate(self) -> Results | None:
        """Results over all processes; None but in the main one.

        Returns:
            By task, in percent; NaN where the dataset has no such class. "panoptic_seg" has the names of Detectron2's
            evaluator; for the others see :func:`detr_d2.evaluation.results.evaluation_results`.

        Raises:
            DatasetError: the ground truth contradicts itself; up to ten faults are listed.
        """
        self._gather()
        if self._faults:
            raise contradiction(f"the ground truth of {self._dataset_name!r}", self._faults)
        if self._writer:
            facts = run_facts(self._dataset_name, self._categories, self._cfg) if comm.is_main_process() else {}
            self._writer.write(facts | {"seconds": time.perf_counter() - self._started, "images": self._images()})
        if not comm.is_main_process():
            return None
        self._report_coverage()
        quality, intervals = self._measures.quality, None
        if self._resamples and len(quality):
            intervals = bootstrap_intervals(quality, group_labels(self._is_thing), self._resamples)
        content = measures_as_json(self._measures, self._categories, intervals)
        results = evaluation_results(content)
        logger.info("Panoptic quality by class:\n%s", class_table(content))
        logger.info("Panoptic quality on %s:\n%s", self._dataset_name, quality_table(content))
        logger.info("Measured beside:\n%s", measures_table(results))
        if self._output_dir:
            head = {"dataset": self._dataset_name, "images": self._images()}
            write_json(os.path.join(self._output_dir, _RESULT_FILE), head | content)
        return results

    def _compare(
        self, dataset_dict: dict[str, Any], true_map: RunMap, predicted_map: np.ndarray, segments: list[dict[str, Any]]
    ) -> None:
        """Measure an image, and keep what is kept of it."""
        image = compare_maps(true_map, dataset_dict["segments_info"], predicted_map, segments, len(self._categories))
        boundaries = None
        if self._boundaries:
            boundaries = boundary_overlaps(true_map.pixels(), predicted_map, boundary_width(*true_map.shape))
        record = make_record(dataset_dict, image.overlaps, segments, boundaries)
        self._measures.add(record)
        if self._writer:
            self._writer.add(record, predicted_map, segments)

    def _ground_truth(self, record: dict[str, Any]) -> RunMap | None:
        """The true map, or None where the ground truth has faults, which are noted."""
        try:
            found = self._read_map(record["pan_seg_file_name"])
        except UserError as error:
            faults = [f"image id {record['image_id']}: {error}"]
        else:
            areas = found.areas()
            faults = find_faults(record, areas, found.shape)
            self._stale_areas += count_stale_areas(record["segments_info"], areas)
        self._faults += faults
        if len(self._faults) >= MAX_FAULTS:
            raise contradiction(f"the ground truth of {self._dataset_name!r}", self._faults)
        return None if faults else found

    def _gather(self) -> None:
        """Join what all processes have seen, in the order of their ranks."""
        parts = comm.all_gather((self._measures, self._times_seen, self._stale_areas, self._faults))
        self._measures = PanopticMeasures(self._is_thing)
        for measures, *_ in parts:
            self._measures.merge(measures)
        self._times_seen = np.sum([seen for _, seen, _, _ in parts], axis=0)
        self._stale_areas = sum(stale for _, _, stale, _ in parts)
        self._faults = [fault for *_, faults in parts for fault in faults]

    def _images(self) -> int:
        return int((self._times_seen > 0).sum())

    def _report_coverage(self) -> None:
        total, seen, name = len(self._times_seen), self._images(), self._dataset_name
        if seen < total:
            text = "Only %d of the %d images of %s were evaluated: the numbers are those of a part of the dataset."
            logger.warning(text, seen, total, name)
        if repeated := int((self._times_seen > 1).sum()):
            logger.warning("%d images of %s were evaluated more than once.", repeated, name)
        if self._stale_areas:
            text = "%d segments have another area in the JSON than in the PNG; the PNG's pixels were counted."
            logger.info(text, self._stale_areas)
