"""An independently written subset of Detectron2's API; not Detectron2. Box and mask AP through pycocotools."""

import contextlib
import copy
import io
import itertools
import json
import logging
import os
from typing import Any

import numpy as np
import pycocotools.mask as mask_util
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from tabulate import tabulate

from detectron2.data import MetadataCatalog
from detectron2.structures import BoxMode, Instances
from detectron2.utils import comm
from detectron2.utils.file_io import PathManager
from detectron2.utils.logger import create_small_table

from .evaluator import DatasetEvaluator

logger = logging.getLogger(__name__)
# Name: index of the IoU threshold (None: the mean over all), index of the range of areas, of COCOeval.
_METRICS = {"AP": (None, 0), "AP50": (0, 0), "AP75": (5, 0), "APs": (None, 1), "APm": (None, 2), "APl": (None, 3)}


class COCOEvaluator(DatasetEvaluator):
    """AP (0 to 100; NaN where there is nothing to judge) of a registered dataset, overall and "AP-<class>".

    The ground truth is the COCO json ``json_file`` of its metadata; ``output_dir`` gets coco_instances_results.json.
    """

    def __init__(
        self,
        dataset_name: str,
        tasks: Any = None,
        distributed: bool = True,
        output_dir: Any = None,
        *,
        max_dets_per_image: int = 100,
        use_fast_impl: bool = False,
    ) -> None:
        self._metadata = MetadataCatalog.get(dataset_name)
        self._tasks, self._distributed, self._output_dir = tasks, distributed, output_dir
        self._max_dets = [1, 10, max_dets_per_image]
        if not self._metadata.get("json_file"):
            raise ValueError(f"{dataset_name!r} has no COCO json: set json_file in its metadata.")
        with contextlib.redirect_stdout(io.StringIO()):
            self._coco = COCO(PathManager.get_local_path(self._metadata.json_file))

    def reset(self) -> None:
        self._predictions: list[dict] = []

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        for picture, output in zip(inputs, outputs):
            if "instances" in output:
                found = instances_to_coco_json(output["instances"].to("cpu"), picture["image_id"])
                self._predictions.append({"image_id": picture["image_id"], "instances": found})

    def evaluate(self, img_ids: list[int] | None = None) -> dict[str, Any]:
        """{"bbox": {"AP": ...}, "segm": ...}; empty on other ranks and when nothing was predicted on."""
        gathered = comm.gather(self._predictions) if self._distributed else [self._predictions]
        predictions = list(itertools.chain(*gathered))
        if not predictions:
            if comm.is_main_process():
                logger.warning("[COCOEvaluator] Did not receive valid predictions.")
            return {}
        found = list(itertools.chain(*(p["instances"] for p in predictions)))
        to_dataset_id = {v: k for k, v in self._metadata.get("thing_dataset_id_to_contiguous_id", {}).items()}
        if to_dataset_id:
            found = [{**f, "category_id": to_dataset_id[f["category_id"]]} for f in found]
        if self._output_dir:
            PathManager.mkdirs(self._output_dir)
            with PathManager.open(os.path.join(self._output_dir, "coco_instances_results.json"), "w") as file:
                json.dump(found, file)
        if "annotations" not in self._coco.dataset:
            return {}
        tasks = self._tasks or ("bbox", "segm")[: 1 + any("segmentation" in f for f in found)]
        return {task: self._metrics(found, task, img_ids) for task in sorted(tasks)}

    def _metrics(self, found: list[dict], task: str, img_ids: list[int] | None) -> dict[str, float]:
        if not found:
            logger.warning("No predictions from the model!")
            return dict.fromkeys(_METRICS, float("nan"))
        if task == "segm":
            # With a box, pycocotools would call small what has a small box.
            found = [{k: v for k, v in f.items() if k != "bbox"} for f in found]
        with contextlib.redirect_stdout(io.StringIO()):
            judge = COCOeval(self._coco, self._coco.loadRes(copy.deepcopy(found)), task)
            judge.params.maxDets = self._max_dets
            judge.params.imgIds = judge.params.imgIds if img_ids is None else img_ids
            judge.evaluate()
            judge.accumulate()
        # (IoU thresholds, recalls, classes, ranges of areas, limits of detections)
        precision = judge.eval["precision"][..., -1]
        results = {
            k: _mean(precision[slice(None) if iou is None else iou, ..., area]) for k, (iou, area) in _METRICS.items()
        }
        logger.info(f"Evaluation results for {task}: \n" + create_small_table(results))
        names = self._metadata.get("thing_classes") or []
        if len(names) > 1:
            per_class = {f"AP-{name}": _mean(precision[:, :, i, 0]) for i, name in enumerate(names)}
            table = tabulate(per_class.items(), ["category", "AP"], "pipe", ".3f")
            logger.info(f"Per-category {task} AP: \n" + table)
            results.update(per_class)
        return results


def _mean(precision: np.ndarray) -> float:
    known = precision[precision > -1]
    return float(known.mean() * 100) if known.size else float("nan")


def instances_to_coco_json(instances: Instances, img_id: int) -> list[dict]:
    """COCO's result format; categories stay contiguous."""
    boxes = BoxMode.convert(instances.pred_boxes.tensor, BoxMode.XYXY_ABS, BoxMode.XYWH_ABS).tolist()
    columns = zip(instances.pred_classes.tolist(), boxes, instances.scores.tolist())
    results = [{"image_id": img_id, "category_id": c, "bbox": b, "score": s} for c, b, s in columns]
    for result, mask in zip(results, instances.pred_masks if instances.has("pred_masks") else []):
        rle = mask_util.encode(np.asfortranarray(mask, dtype=np.uint8))
        result["segmentation"] = {**rle, "counts": rle["counts"].decode()}
    return results
