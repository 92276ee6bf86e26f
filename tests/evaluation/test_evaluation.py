"""The panoptic evaluator and its builder, on small datasets made here."""

from __future__ import annotations

import copy
import json
import logging
import math
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from detr_d2.data import read_panoptic_png, register
from detr_d2.errors import ConfigError, DatasetError
from detr_d2.evaluation import DetrPanopticEvaluator, build_evaluator, panoptic_evaluator
from detr_d2.evaluation.overlaps import GroundTruthMaps
from tests.made_evaluations import config, predict, register_records, run, write_dataset

from detectron2.data import DatasetCatalog
from detectron2.utils.events import EventStorage

IS_FALLBACK = "fallback" in (sys.modules["detectron2"].__file__ or "")
KEYS = [kind + ending for ending in ("", "_th", "_st") for kind in ("PQ", "SQ", "RQ")]


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    """Records of detr_d2's loggers, whoever configured them."""
    monkeypatch.setattr(logging.getLogger("detr_d2"), "propagate", True)
    caplog.set_level(logging.INFO, logger="detr_d2")
    return caplog


def test_exact_prediction_has_full_quality_and_detectron2s_keys(tmp_path: Path) -> None:
    name = write_dataset(tmp_path)

    results = run(DetrPanopticEvaluator(name), name)

    assert next(iter(results)) == "panoptic_seg" and list(results["panoptic_seg"]) == KEYS
    assert all(value == 100 for value in results["panoptic_seg"].values())


def test_evaluator_logs_tables_and_writes_its_file(tmp_path: Path, log: pytest.LogCaptureFixture) -> None:
    name = write_dataset(tmp_path)

    results = run(DetrPanopticEvaluator(name, str(tmp_path / "out")), name, shift=1)["panoptic_seg"]

    written = json.loads((tmp_path / "out" / "panoptic_quality.json").read_text())
    assert written["images"] == 4 and written["dataset"] == name
    things = {key: value for key, value in written["Things"].items() if not key.endswith("_interval")}
    assert things == {**{k: results[k + "_th"] for k in ("PQ", "SQ", "RQ")}, "N": 2}
    assert [c["id"] for c in written["classes"]] == [7, 5, 3, 9]
    files = ["panoptic_quality.json", "previews.zip", "records.jsonl", "run.json"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == files
    assert "| All" in log.text and "| Things" in log.text and "| Stuff" in log.text and "drum" in log.text


def test_maps_of_the_ground_truth_are_kept_in_a_training_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept, name = GroundTruthMaps(), write_dataset(tmp_path)
    monkeypatch.setattr(panoptic_evaluator, "GROUND_TRUTH", kept)

    alone = run(DetrPanopticEvaluator(name), name, shift=1)
    nothing = kept.nbytes
    with EventStorage(0):
        in_training = run(DetrPanopticEvaluator(name), name, shift=1)

    assert alone == in_training and nothing == 0 < kept.nbytes


def test_no_image_gives_nan_not_zero(tmp_path: Path) -> None:
    name = write_dataset(tmp_path)
    evaluator = DetrPanopticEvaluator(name, str(tmp_path))
    evaluator.reset()

    results = evaluator.evaluate()["panoptic_seg"]

    assert all(math.isnan(results[key]) for key in KEYS)
    assert json.loads((tmp_path / "panoptic_quality.json").read_text())["Stuff"] == {
        "PQ": None,
        "SQ": None,
        "RQ": None,
        "N": 0,
    }


@pytest.mark.skipif(IS_FALLBACK, reason="COCOPanopticEvaluator is only in a real Detectron2")
@pytest.mark.parametrize("shift", [0, 1, 3, 6])
def test_evaluator_equals_detectron2s(tmp_path: Path, shift: int) -> None:
    pytest.importorskip("panopticapi.evaluation")
    name = write_dataset(tmp_path)
    results = {}
    for kind in ("detr_d2", "coco"):
        evaluator = build_evaluator(config(evaluator=kind, instance_on=False), name, str(tmp_path / kind))
        results[kind] = run(evaluator, name, shift)["panoptic_seg"]

    assert list(results["detr_d2"]) == list(results["coco"])
    assert results["detr_d2"] == pytest.approx(results["coco"], abs=1e-12)


@pytest.mark.skipif(IS_FALLBACK, reason="COCOPanopticEvaluator is only in a real Detectron2")
@pytest.mark.parametrize("how", ["shifted", "merged", "relabelled", "dropped"])
def test_evaluator_equals_detectron2s_on_real_ground_truth_to_the_last_bit(
    shared_data: Path, tmp_path: Path, how: str
) -> None:
    pytest.importorskip("panopticapi.evaluation")
    folder = shared_data / "coco128_panoptic" / "val"
    if not folder.is_dir():
        pytest.skip(f"no real data: {folder} isn't there")
    content = json.loads((folder / "panoptic.json").read_text())
    content["annotations"] = content["annotations"][:8]
    chosen = {entry["image_id"] for entry in content["annotations"]}
    content["images"] = [image for image in content["images"] if image["id"] in chosen]
    (tmp_path / "panoptic.json").write_text(json.dumps(content))
    name, places = f"real_{how}", {"images": folder / "images", "panoptic_root": folder / "panoptic"}
    register(name, panoptic_json=tmp_path / "panoptic.json", **places)

    results = []
    for kind in ("detr_d2", "coco"):
        evaluator = build_evaluator(config(evaluator=kind, instance_on=False), name, str(tmp_path / kind))
        evaluator.reset()
        for record in DatasetCatalog.get(name):
            evaluator.process([record], [{"panoptic_seg": spoilt(record, how)}])
        results.append(evaluator.evaluate()["panoptic_seg"])

    assert results[0] == results[1] and 0 < results[0]["PQ"] < 100


def spoilt(record: dict[str, Any], how: str) -> tuple[torch.Tensor, list[dict[str, Any]]]:
    """The truth of an image, made wrong in one way, as a model would return it."""
    ids = read_panoptic_png(record["pan_seg_file_name"])
    classes = {s["id"]: s["category_id"] for s in record["segments_info"]}
    known = list(classes)
    if how == "shifted":
        ids = np.roll(ids, (6, -9), axis=(0, 1))
    elif how == "merged" and len(known) > 1:
        ids = np.where(ids == known[0], known[1], ids)
    elif how == "relabelled":
        classes |= {i: (classes[i] + 1) % 80 for i in known[::3]}
    elif how == "dropped":
        ids = np.where(np.isin(ids, known[1::3]), 0, ids)
    numbers = {i: number for number, i in enumerate((i for i in np.unique(ids).tolist() if i), 1)}
    small = np.zeros(ids.shape, np.int32)
    for i, number in numbers.items():
        small[ids == i] = number
    is_thing = {s["category_id"]: s["isthing"] for s in record["segments_info"]}
    segments = [
        {"id": n, "category_id": classes[i], "isthing": is_thing.get(classes[i], classes[i] < 80)}
        for i, n in numbers.items()
    ]
    return torch.from_numpy(small), segments


@pytest.mark.skipif(not IS_FALLBACK, reason="a real Detectron2 has COCOPanopticEvaluator")
def test_detectron2s_evaluator_is_refused_where_it_is_absent(tmp_path: Path) -> None:
    name = write_dataset(tmp_path)

    with pytest.raises(ConfigError, match="'detr_d2', which gives the same numbers"):
        build_evaluator(config(evaluator="coco"), name, str(tmp_path))


def test_unknown_evaluator_is_refused(tmp_path: Path) -> None:
    name = write_dataset(tmp_path)

    with pytest.raises(ConfigError, match="'mine'; allowed are detr_d2 and coco"):
        build_evaluator(config(evaluator="mine"), name, str(tmp_path))


def test_evaluation_of_a_part_is_said_out_loud(tmp_path: Path, log: pytest.LogCaptureFixture) -> None:
    name = write_dataset(tmp_path)

    run(DetrPanopticEvaluator(name), name, rows=slice(0, 3))

    assert "Only 3 of the 4 images" in log.text


def test_image_of_another_dataset_is_refused(tmp_path: Path) -> None:
    name = write_dataset(tmp_path)
    record = DatasetCatalog.get(name)[0]

    with pytest.raises(DatasetError, match="image id 99"):
        DetrPanopticEvaluator(name).process([{**record, "image_id": 99}], [predict(record)])


def test_contradicting_ground_truth_is_refused_with_all_faults(tmp_path: Path) -> None:
    name = write_dataset(tmp_path)
    broken = copy.deepcopy(DatasetCatalog.get(name))
    broken[0]["segments_info"][0]["id"] = 77  # was 1
    broken[1]["segments_info"].append({**broken[1]["segments_info"][0], "id": 0})
    broken[1]["segments_info"].append(dict(broken[1]["segments_info"][1]))
    broken[2]["height"] = 41
    Path(broken[3]["pan_seg_file_name"]).write_bytes(b"")
    evaluator = DetrPanopticEvaluator(register_records(broken, name))

    with pytest.raises(DatasetError) as error:
        run(evaluator, name)

    message = str(error.value)
    assert re.search(r"0\.png \(image id 10\): has \d+ pixels of the id 1, which the JSON doesn't list", message)
    assert "0.png (image id 10): has no pixel of the segment 77" in message
    assert "1.png (image id 11): a segment has id=0" in message
    assert "1.png (image id 11): 2 segments have the id 2" in message
    assert "2.png (image id 12): is 60x40 pixels; the JSON says 60x41" in message
    assert "image id 13: " in message and "3.png: png-broken: can't be read" in message
    assert len(message.splitlines()) == 8


def test_ten_faults_end_the_evaluation_at_once(tmp_path: Path) -> None:
    name = write_dataset(tmp_path)
    record = DatasetCatalog.get(name)[0]
    wrong = {**record, "segments_info": [{**s, "id": s["id"] + 1000} for s in record["segments_info"]]}
    evaluator = DetrPanopticEvaluator(register_records([wrong], name))

    with pytest.raises(DatasetError) as error:
        evaluator.process([record], [predict(record)])

    assert len(str(error.value).splitlines()) == 13 and "perhaps more" in str(error.value)


def test_model_without_panoptic_output_is_named(tmp_path: Path) -> None:
    name = write_dataset(tmp_path)

    with pytest.raises(ValueError, match="MASK_ON"):
        DetrPanopticEvaluator(name).process(DatasetCatalog.get(name)[:1], [{"instances": None}])


@pytest.mark.parametrize("instances", [True, False])
def test_box_ap_stands_beside_quality(tmp_path: Path, instances: bool) -> None:
    name = write_dataset(tmp_path, instances=instances)

    results = run(build_evaluator(config(), name, str(tmp_path / "out")), name)

    assert results["bbox"]["AP"] == 100 and "panoptic_seg" in results
    assert results["bbox"]["AP"] == pytest.approx(100)
    assert results["bbox"]["AP-cone"] == pytest.approx(100) and results["bbox"]["AP-drum"] == pytest.approx(100)
    assert (tmp_path / "out" / f"{name}_things.json").exists() is not instances


def test_mask_ap_stands_beside_box_ap_where_the_ground_truth_has_masks(tmp_path: Path) -> None:
    with_masks, without = write_dataset(tmp_path / "a"), write_dataset(tmp_path / "b", instances=True)

    exact, moved = (run(build_evaluator(config(), with_masks, str(tmp_path / "a")), with_masks, n) for n in (0, 4))
    boxes_only = run(build_evaluator(config(), without, str(tmp_path / "b")), without)

    assert exact["segm"]["AP"] == pytest.approx(100) and exact["segm"]["AP-drum"] == pytest.approx(100)
    assert 0 < moved["segm"]["AP"] < 90 and "segm" not in boxes_only and "bbox" in boxes_only


@pytest.mark.parametrize(("key", "value"), [("bbox", [[1, 2], 3, 4, 5]), ("area", "12"), ("iscrowd", [])])
def test_faults_of_the_instances_file_are_named_before_the_first_image(tmp_path: Path, key: str, value: Any) -> None:
    name = write_dataset(tmp_path, instances=True)
    path = next(tmp_path.rglob("*instances*.json"))
    content = json.loads(path.read_text())
    content["annotations"][1][key] = value
    path.write_text(json.dumps(content))
    with pytest.raises(DatasetError, match=rf"{re.escape(path.name)}.*{key}"):
        build_evaluator(config(), name, str(tmp_path / "out"))


def test_derived_boxes_give_the_same_ap_as_the_instances_file(tmp_path: Path) -> None:
    names = [write_dataset(tmp_path / "with", instances=True), write_dataset(tmp_path / "without")]

    first, second = (run(build_evaluator(config(), n, str(tmp_path / n)), n, shift=2)["bbox"] for n in names)

    assert first == pytest.approx(second, nan_ok=True) and 0 < first["AP"] < 100


def test_derived_boxes_keep_crowds(tmp_path: Path) -> None:
    name = write_dataset(tmp_path)

    build_evaluator(config(), name, str(tmp_path))

    derived = json.loads((tmp_path / f"{name}_things.json").read_text())
    crowds = [a for a in derived["annotations"] if a["iscrowd"]]
    assert len(crowds) == 4 and crowds[0]["bbox"] == [46, 28, 12, 10] and crowds[0]["category_id"] == 7
    assert {category["id"] for category in derived["categories"]} == {5, 7}


def test_class_aps_bear_the_names_of_their_classes(tmp_path: Path) -> None:
    name = write_dataset(tmp_path)
    evaluator = build_evaluator(config(mask_on=False), name, str(tmp_path))
    evaluator.reset()
    for record in DatasetCatalog.get(name):
        output = predict(record)
        drums = output["instances"].pred_classes == 1  # contiguous ids: cone 0, drum 1
        evaluator.process([record], [{"instances": output["instances"][drums]}])

    results = evaluator.evaluate()["bbox"]

    assert results["AP-drum"] == pytest.approx(100) and not results["AP-cone"] > 0


def test_boxes_only_model_gets_box_ap_only(tmp_path: Path) -> None:
    name = write_dataset(tmp_path)

    assert list(run(build_evaluator(config(mask_on=False), name, str(tmp_path)), name)) == ["bbox"]


def test_nothing_to_evaluate_is_an_error(tmp_path: Path) -> None:
    name = write_dataset(tmp_path)

    with pytest.raises(ConfigError, match="nothing to evaluate"):
        build_evaluator(config(mask_on=False, instance_on=False), name, str(tmp_path))


def test_evaluator_may_be_built_again(tmp_path: Path) -> None:
    name = write_dataset(tmp_path)

    for folder in ("first", "second"):
        assert run(build_evaluator(config(), name, str(tmp_path / folder)), name)["panoptic_seg"]["PQ"] == 100


def _part_of_the_work(rank: int, folder: str) -> None:
    """One of two processes: evaluates every second image; the main one writes what it got."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    name = "evaluation_of_two"
    root = Path(folder)
    register(name, images=root / "images", panoptic_json=root / "panoptic.json", panoptic_root=root / "panoptic")
    evaluator = build_evaluator(config(), name, str(root / "out"))
    results = run(evaluator, name, shift=1, rows=slice(rank, None, 2))
    assert bool(results) is (rank == 0)
    if rank == 0:
        (root / "results.json").write_text(json.dumps(results))
    torch.distributed.destroy_process_group()


def test_two_processes_give_the_result_of_one(tmp_path: Path) -> None:
    name = write_dataset(tmp_path, images=5)
    one = run(build_evaluator(config(), name, str(tmp_path / "one")), name, shift=1)

    torch.multiprocessing.start_processes(_part_of_the_work, args=(str(tmp_path),), nprocs=2, start_method="fork")

    two = json.loads((tmp_path / "results.json").read_text())
    assert two["panoptic_seg"] == pytest.approx(one["panoptic_seg"], abs=1e-12)
    assert two["bbox"] == pytest.approx(one["bbox"], nan_ok=True)
