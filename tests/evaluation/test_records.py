"""What an evaluation keeps: records, previews, facts; and predictions as files."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detr_d2.cli import main
from detr_d2.errors import DatasetError, MissingFileError
from detr_d2.evaluation import DetrPanopticEvaluator, build_evaluator
from detr_d2.evaluation.measures import PanopticMeasures
from detr_d2.evaluation.records import encode_preview, read_records, read_run
from tests.made_evaluations import config, predict, run, write_dataset

from detectron2.data import DatasetCatalog, MetadataCatalog


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path, dict]:
    """The name of a dataset, the folder of an evaluation of it that is two pixels off, and its results."""
    folder = tmp_path_factory.mktemp("evaluated")
    name = write_dataset(folder / "data", images=5)
    cfg = config(instance_on=False)
    cfg.TEST.PANOPTIC_PNG = True
    return name, folder / "out", run(build_evaluator(cfg, name, str(folder / "out")), name, shift=2)


def test_quality_from_records_is_that_of_the_evaluation_to_the_last_bit(evaluated: tuple[str, Path, dict]) -> None:
    _, folder, results = evaluated
    measures = PanopticMeasures([c["is_thing"] for c in read_run(folder)["categories"]])

    for record in read_records(folder):
        measures.add(record)

    assert 100 * measures.quality.average(range(4)).pq == results["panoptic_seg"]["PQ"]
    assert 100 * measures.boundary.average(range(4)).pq == results["panoptic_boundary"]["PQ"]
    assert 100 * measures.semantic()["mIoU"] == results["sem_seg"]["mIoU"]


def test_records_count_every_pixel_once(evaluated: tuple[str, Path, dict]) -> None:
    name, folder, _ = evaluated

    records = list(read_records(folder))

    assert [r.image_id for r in records] == [r["image_id"] for r in DatasetCatalog.get(name)]
    for record in records:
        assert sum(pixels for *_, pixels in record.overlaps) == record.height * record.width
        assert sum(pixels for *_, pixels in record.boundary_overlaps) == record.height * record.width
        assert {s["id"]: s["area"] for s in record.true} == {
            i: n for i, n in record.compared.overlaps.true_areas.items() if i in {s["id"] for s in record.true}
        }
        assert all(s["score"] == pytest.approx(0.9) for s in record.predicted)


def test_previews_show_the_predicted_map(evaluated: tuple[str, Path, dict]) -> None:
    name, folder, _ = evaluated

    with zipfile.ZipFile(folder / "previews.zip") as archive:
        for record in DatasetCatalog.get(name):
            preview = np.asarray(Image.open(io.BytesIO(archive.read(f"{record['image_id']}.png"))))
            assert (preview == predict(record, shift=2)["panoptic_seg"][0].numpy()).all()


@pytest.mark.parametrize("count", [3, 255, 256, 700])
def test_preview_numbers_segments_in_their_order_and_is_small(count: int) -> None:
    ids = 1000 + 7 * np.random.default_rng(0).permutation(count)
    shown = np.resize(np.concatenate([[0], ids]), (700, 901))

    preview = np.asarray(Image.open(io.BytesIO(encode_preview(shown, [{"id": int(i)} for i in ids]))))

    assert max(preview.shape) <= 320
    assert (np.concatenate([[0], ids])[preview] == shown[::3, ::3]).all()


def test_run_says_what_is_needed_to_do_it_again(evaluated: tuple[str, Path, dict]) -> None:
    name, folder, _ = evaluated

    facts = read_run(folder)

    assert facts["dataset"] == name and facts["images"] == 5 and "PANOPTIC_PNG: true" in facts["config"]
    assert facts["versions"].keys() >= {"detr_d2", "torch", "numpy", "python"} and facts["seconds"] > 0
    assert [c["name"] for c in facts["categories"]] == MetadataCatalog.get(name).stuff_classes


def test_predictions_as_files_have_the_same_quality(
    evaluated: tuple[str, Path, dict], capsys: pytest.CaptureFixture[str]
) -> None:
    name, folder, _ = evaluated
    gt = MetadataCatalog.get(name).panoptic_json

    assert main(["pq", "--gt", str(gt), "--pred", str(folder / "panoptic_predictions.json"), "--json", "-"]) == 0

    numbers = json.loads(capsys.readouterr().out)
    evaluation = json.loads((folder / "panoptic_quality.json").read_text())
    assert {c["id"]: c["PQ"] for c in numbers["classes"]} == {c["id"]: c["PQ"] for c in evaluation["classes"]}
    written = json.loads((folder / "panoptic_predictions.json").read_text())
    assert {c["isthing"] for c in written["categories"]} == {0, 1} and len(written["images"]) == 5
    segment = written["annotations"][0]["segments_info"][0]
    assert segment["score"] == pytest.approx(0.9) and len(segment["bbox"]) == 4
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]


def test_files_are_not_touched_by_an_evaluation_that_fails(evaluated: tuple[str, Path, dict]) -> None:
    name, folder, _ = evaluated
    before = {path: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    evaluator = DetrPanopticEvaluator(name, str(folder))
    record = DatasetCatalog.get(name)[0]
    ids, segments = predict(record)["panoptic_seg"]

    with pytest.raises(ValueError, match="contradicts"):
        evaluator.process([record, record], [predict(record), {"panoptic_seg": (ids, segments[1:])}])

    assert {path: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before


def test_folder_without_records_is_a_message(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="--eval-only"):
        list(read_records(tmp_path))
    with pytest.raises(MissingFileError, match="--eval-only"):
        read_run(tmp_path)


@pytest.mark.parametrize("line", ["{", "[]", '{"image_id": 1}', '{"surprise": 1}'])
def test_damaged_records_are_named_by_line(tmp_path: Path, line: str) -> None:
    (tmp_path / "records.jsonl").write_text(line + "\n")

    with pytest.raises(DatasetError, match="line 1 isn't a record"):
        list(read_records(tmp_path))


@pytest.mark.parametrize("content", ["{", "[]", '{"dataset": "a"}', '{"dataset": "a", "categories": 3}'])
def test_damaged_run_is_a_message(tmp_path: Path, content: str) -> None:
    (tmp_path / "run.json").write_text(content)

    with pytest.raises(DatasetError, match="Evaluate anew"):
        read_run(tmp_path)
