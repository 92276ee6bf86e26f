"""An independently written subset of Detectron2's API; not Detectron2. Run a model over a dataset and judge it."""

import contextlib
import datetime
import io
import json
import logging
import os
import pickle
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pycocotools.mask as mask_util
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from tabulate import tabulate

from detectron2.data import MetadataCatalog
from detectron2.structures import BoxMode
from detectron2.utils import comm
from detectron2.utils.file_io import PathManager

logger = logging.getLogger(__name__)
# Name: which of COCOeval's IoU thresholds, and which of its ranges of areas.
_METRICS = {"AP": (slice(None), 0), "AP50": (0, 0), "AP75": (5, 0)}
_METRICS |= {"APs": (slice(None), 1), "APm": (slice(None), 2), "APl": (slice(None), 3)}


class DatasetEvaluator:
    """Collects what a model makes of a dataset (``process``), then says how good it is (``evaluate``)."""

    def reset(self) -> None:
        """Forget everything."""

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        """Take a batch and what the model made of it."""

    def evaluate(self) -> dict[str, Any] | None:
        """{task: {metric: value}} on rank 0."""


class DatasetEvaluators(DatasetEvaluator):
    """Several evaluators as one."""

    def __init__(self, evaluators: list[DatasetEvaluator]) -> None:
        self._evaluators = evaluators

    def reset(self) -> None:
        for evaluator in self._evaluators:
            evaluator.reset()

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        for evaluator in self._evaluators:
            evaluator.process(inputs, outputs)

    def evaluate(self) -> dict[str, Any]:
        results: dict[str, Any] = {}
        for found in [evaluator.evaluate() or {} for evaluator in self._evaluators]:
            assert not results.keys() & found, f"Two evaluators give the same keys: {sorted(results.keys() & found)}"
            results |= found
        return results if comm.is_main_process() else {}


@torch.no_grad()
def inference_on_dataset(model: Any, data_loader: Any, evaluator: Any) -> dict[str, Any]:
    """Run ``model`` (in eval mode, without gradients) on every batch; what the evaluator(s) say of the outputs."""
    evaluator = DatasetEvaluators(evaluator or []) if isinstance(evaluator, list | None) else evaluator
    evaluator.reset()
    total, start, said = len(data_loader), time.perf_counter(), time.perf_counter()
    logger.info(f"Start inference on {total} batches")
    was_training = model.training
    model.eval()
    for done, inputs in enumerate(data_loader, start=1):
        evaluator.process(inputs, model(inputs))
        now = time.perf_counter()
        if now - said > 5:
            said, eta = now, datetime.timedelta(seconds=int((now - start) / done * (total - done)))
            logger.info(f"Inference done {done}/{total}. {(now - start) / done:.4f} s/iter. ETA={eta}")
    model.train(was_training)
    logger.info(f"Total inference time: {datetime.timedelta(seconds=int(time.perf_counter() - start))}")
    return evaluator.evaluate() or {}


def print_csv_format(results: Mapping[str, Mapping[str, float]]) -> None:
    """Log each task's main metrics (no per-class ones) as lines to paste into a spreadsheet."""
    for task, metrics in results.items():
        main = {name: value for name, value in metrics.items() if "-" not in name}
        for line in (f"Task: {task}", ",".join(main), ",".join(f"{value:.4f}" for value in main.values())):
            logger.info(f"copypaste: {line}")


def verify_results(cfg: Any, results: Mapping[str, Any]) -> bool:
    """Exit with 1 unless each (task, metric, value, tolerance) of ``cfg.TEST.EXPECTED_RESULTS`` is met."""
    for task, metric, expected, tolerance in cfg.TEST.EXPECTED_RESULTS:
        # Neither NaN nor a missing value is close to anything.
        if not abs(results[task].get(metric, float("nan")) - expected) <= tolerance:
            logger.error(f"{task}/{metric} should be {expected} ± {tolerance}; all results: {results}")
            sys.exit(1)
    return True


class COCOEvaluator(DatasetEvaluator):
    """AP (0 to 100; NaN where there is nothing to judge) of a registered dataset, overall and "AP-<class>".

    The ground truth is the COCO json ``json_file`` of its metadata; ``output_dir`` gets coco_instances_results.json.
    """

    def __init__(self, dataset_name: str, tasks: Any = None, *, output_dir: str | None = None) -> None:
        self._metadata, self._tasks, self._output_dir = MetadataCatalog.get(dataset_name), tasks, output_dir
        with contextlib.redirect_stdout(io.StringIO()):
            self._coco = COCO(PathManager.get_local_path(self._metadata.json_file))

    def reset(self) -> None:
        # Pickles, one behind the other, as objects for each image leave gaps in the memory: image id; class, score and
        # box of its instances, (N, 6); size and run lengths of their masks.
        self._packed = bytearray()

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        for image, output in zip(inputs, outputs):
            found = output["instances"].to("cpu")
            boxes = BoxMode.convert(found.pred_boxes.tensor, BoxMode.XYXY_ABS, BoxMode.XYWH_ABS)
            rows = torch.cat([found.pred_classes[:, None], found.scores[:, None], boxes], dim=1).numpy()
            masks = found.pred_masks if found.has("pred_masks") else []
            runs = [mask_util.encode(np.asfortranarray(mask, dtype=np.uint8))["counts"] for mask in masks]
            self._packed += pickle.dumps((image["image_id"], rows, [*found.image_size], b"\n".join(runs)))

    def evaluate(self) -> dict[str, Any]:
        """{"bbox": {"AP": ...}, "segm": ...}; empty on other ranks and when nothing was processed."""
        self._packed = bytearray().join(comm.gather(self._packed))
        if not self._packed:
            return {}
        if self._output_dir:
            PathManager.mkdirs(self._output_dir)
            with PathManager.open(os.path.join(self._output_dir, "coco_instances_results.json"), "w") as file:
                file.write("[" + ", ".join(map(json.dumps, self._found())) + "]")
        tasks = self._tasks or ("bbox", "segm")[: 1 + any("segmentation" in found for found in self._found())]
        return {task: self._metrics(task) for task in tasks}

    def _found(self, category: int | None = None) -> Iterator[dict[str, Any]]:
        """The instances, perhaps of one category, as COCO's results have them."""
        labels, stream = self._metadata.thing_dataset_id_to_contiguous_id, io.BytesIO(self._packed)
        ids = {v: k for k, v in labels.items()}
        while stream.tell() < len(self._packed):
            image_id, rows, size, runs = pickle.load(stream)
            for i in np.flatnonzero((rows[:, 0] == labels.get(category, -1)) | (category is None)):
                (label, score, *box), counts = rows[i].tolist(), runs and runs.split(b"\n")[i].decode()
                mask = {"segmentation": {"size": size, "counts": counts}} if counts else {}
                yield {"image_id": image_id, "category_id": ids[label], "bbox": box, "score": score, **mask}

    def _metrics(self, task: str) -> dict[str, float]:
        if not any(self._found()):
            logger.warning("No predictions from the model!")
            return dict.fromkeys(_METRICS, float("nan"))
        parts = []
        for category in sorted(self._coco.getCatIds()):  # one by one, as COCOeval keeps much of every image
            # With a box beside the mask, pycocotools would take the box's area for the mask's.
            found = [{k: v for k, v in f.items() if k != "bbox" or task == "bbox"} for f in self._found(category)]
            with contextlib.redirect_stdout(io.StringIO()):
                judge = COCOeval(self._coco, self._coco.loadRes(found) if found else COCO(), task)
                judge.params.catIds = [category]
                judge.evaluate()
                judge.accumulate()
            parts.append(judge.eval["precision"][..., -1])
        precision: Any = np.concatenate(parts, axis=2)  # (IoU thresholds, recalls, classes, ranges of areas)
        results = {name: _mean(precision[iou, ..., area]) for name, (iou, area) in _METRICS.items()}
        per_class = {f"AP-{n}": _mean(precision[:, :, i, 0]) for i, n in enumerate(self._metadata.thing_classes)}
        logger.info(f"Evaluation results for {task}:\n" + tabulate([results.values()], list(results), "pipe", ".3f"))
        rows = [sum(list(per_class.items())[i : i + 3], ()) for i in range(0, len(per_class), 3)]
        if len(per_class) > 1:
            logger.info(f"AP of each class, {task}:\n" + tabulate(rows, ["class", "AP"] * 3, "pipe", ".3f"))
            results |= per_class
        return results


def _mean(precision: np.ndarray) -> float:
    known = precision[precision > -1]
    return float(known.mean() * 100) if known.size else float("nan")
