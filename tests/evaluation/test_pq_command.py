"""``detr-d2 pq``: the numbers of panopticapi on files, and every fault of the files at once."""

from __future__ import annotations

import contextlib
import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detr_d2 import cli
from detr_d2.errors import MissingFileError
from tests.evaluation.pq_files import (
    Content,
    numbers,
    pq,
    refusal,
    save,
    save_png,
)


def by_panopticapi(gt: Path, found: Path, monkeypatch: pytest.MonkeyPatch) -> Content:
    """panopticapi's numbers of the same files, on one core."""
    evaluation = pytest.importorskip("panopticapi.evaluation")

    def on_one_core(*arguments: Any) -> Any:
        return evaluation.pq_compute_single_core(0, *arguments)

    monkeypatch.setattr(evaluation, "pq_compute_multi_core", on_one_core)
    with contextlib.redirect_stdout(io.StringIO()):
        return evaluation.pq_compute(str(gt), str(found))


def assert_same_numbers(ours: Content, theirs: Content) -> None:
    for group in ("All", "Things", "Stuff"):
        assert [ours[group][key] for key in ("PQ", "SQ", "RQ", "N")] == [
            *(100 * theirs[group][key] for key in ("pq", "sq", "rq")),
            theirs[group]["n"],
        ]
    for entry in ours["classes"]:
        if entry["PQ"] is not None:
            assert entry["PQ"] == 100 * theirs["per_class"][entry["id"]]["pq"]


@pytest.mark.parametrize("workers", ["1", "3"])
def test_numbers_are_those_of_panopticapi_to_the_last_bit(
    workers: str, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = by_panopticapi(files / "truth.json", files / "found.json", monkeypatch)

    ours = numbers(files, "--workers", workers)

    assert 0 < ours["All"]["PQ"] < 100
    assert_same_numbers(ours, theirs)


def spoil(ids: np.ndarray, classes: dict[int, int], known: list[int], rng: np.random.Generator) -> np.ndarray:
    """Moved, two segments merged, one split, every sixth relabelled, some dropped, and one grown over void."""
    found = np.roll(ids, rng.integers(0, 4, size=2), axis=(0, 1))
    present = [i for i in np.unique(found).tolist() if i]
    if len(present) > 3:
        found[found == present[0]] = present[1]
        found[(found == present[2]) & (np.arange(ids.shape[1]) % 2 == 0)] = 256**3 - 1
        classes[256**3 - 1] = classes[present[2]]
        found[found == present[3]] = 0
    found[(ids == 0) & (found == 0)] = present[-1]
    for i in present[::6]:
        classes[i] = int(rng.choice(known))
    return found


def test_numbers_are_those_of_panopticapi_on_spoilt_real_ground_truth(
    shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shared_data / "coco128_panoptic" / "val"
    if not folder.is_dir():
        pytest.skip(f"no real data: {folder} isn't there")
    from detr_d2.data import read_panoptic_png

    content, rng = json.loads((folder / "panoptic.json").read_text()), np.random.default_rng(0)
    known = [category["id"] for category in content["categories"]]
    (tmp_path / "found").mkdir()
    annotations = []
    for entry in content["annotations"]:
        classes = {s["id"]: s["category_id"] for s in entry["segments_info"]}
        ids = spoil(read_panoptic_png(str(folder / "panoptic" / entry["file_name"])), classes, known, rng)
        save_png(ids, tmp_path / "found" / entry["file_name"])
        segments = [{"id": i, "category_id": classes[i]} for i in np.unique(ids).tolist() if i]
        annotations.append({**entry, "segments_info": segments})
    save(tmp_path, "found", {"annotations": annotations})
    theirs = by_panopticapi(folder / "panoptic.json", tmp_path / "found.json", monkeypatch)

    output = str(tmp_path / "pq.json")
    assert (
        cli.main(["pq", "--gt", str(folder / "panoptic.json"), "--pred", f"{tmp_path}/found.json", "--json", output])
        == 0
    )

    ours = json.loads(Path(output).read_text())
    assert ours["images"] == len(annotations) and 10 < ours["All"]["PQ"] < 90
    assert_same_numbers(ours, theirs)


def test_tables_go_to_the_terminal_and_numbers_to_files(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert pq(files, "--per-class", "--bootstrap", "50", "--csv", str(files / "new" / "classes.csv")) == 0

    shown = capsys.readouterr().out
    assert "| All " in shown and "| Stuff" in shown and "| cone" in shown and "PQ, 95 %" in shown
    assert "1 of 4 classes is neither" in shown and "4 images were compared." in shown
    with open(files / "new" / "classes.csv", newline="") as file:
        rows = {row["name"]: row for row in csv.DictReader(file)}
    assert list(rows) == ["ground", "cone", "sky", "absent"] and rows["absent"]["PQ"] == rows["absent"]["PQ_low"] == ""
    assert float(rows["cone"]["PQ_low"]) <= float(rows["cone"]["PQ"]) <= float(rows["cone"]["PQ_high"])


def test_json_to_the_standard_output_is_nothing_but_json(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert pq(files, "--json", "-", "--bootstrap", "20", "--seed", "5") == 0

    printed = capsys.readouterr()
    content = json.loads(printed.out)
    assert content["intervals"] == {"resamples": 20, "seed": 5, "confidence": 0.95}
    assert len(content["All"]["PQ_interval"]) == 2 and "| All" in printed.err


def test_folders_may_be_named(files: Path, tmp_path: Path) -> None:
    (files / "found").rename(files / "elsewhere")

    with pytest.raises(MissingFileError, match=r"found isn't a folder\. Name it with --pred-folder"):
        pq(files)
    assert pq(files, "--pred-folder", str(files / "elsewhere"), "--gt-folder", str(files / "truth")) == 0


def test_ground_truth_of_a_dataset_finds_its_pngs_and_predictions_never_take_them(files: Path) -> None:
    (files / "truth").rename(files / "panoptic")

    assert pq(files) == 0

    (files / "found").rename(files / "elsewhere")
    with pytest.raises(MissingFileError, match="--pred-folder"):
        pq(files)


def test_missing_predictions_are_refused_counted_as_empty_or_left_out(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = numbers(files)
    content = json.loads((files / "found.json").read_text())
    save(files, "found", {"annotations": content["annotations"][:3]})

    message = refusal(files)
    assert "1 fault," in message and "prediction, image id 13 | there is none" in message
    capsys.readouterr()
    empty = numbers(files, "--allow-missing")
    assert "1 of them has no prediction: empty" in capsys.readouterr().out
    part = numbers(files, "--subset")
    assert "SUBSET: only 3 of 4 images" in capsys.readouterr().out
    assert (empty["images"], empty["counted_as_empty"], part["images"], part["of_images"]) == (4, 1, 3, 4)
    misses = [sum(entry["false_negatives"] for entry in c["classes"]) for c in (whole, empty, part)]
    assert misses[1] >= misses[2] + 4 and empty["All"]["PQ"] < part["All"]["PQ"]


def test_stale_areas_can_not_lift_the_number_above_100(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = json.loads((files / "truth.json").read_text())
    for entry in content["annotations"]:
        for segment in entry["segments_info"]:
            segment["area"] = 1
    save(files, "truth", content)
    (files / "found.json").write_text((files / "truth.json").read_text())

    found = numbers(files, "--pred-folder", str(files / "truth"))

    assert found["All"]["PQ"] == 100 and found["stale_areas"] == 20
    assert "20 true segments have another area" in capsys.readouterr().out


def test_images_without_annotation_and_other_names_are_named(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = json.loads((files / "truth.json").read_text())
    content["images"].append({"id": 50, "height": 5, "width": 5})
    save(files, "truth", content)
    found = json.loads((files / "found.json").read_text())
    found["categories"] = [{"id": 7, "name": "barrel"}, {"id": 3, "name": "sky"}, {"id": 1, "name": "other"}, "broken"]
    save(files, "found", found)

    assert pq(files) == 0

    shown = capsys.readouterr().out
    assert "1 image of" in shown and "has no annotation" in shown
    assert "1 category has another name in the predictions: 7 is 'cone' and 'barrel'" in shown


def test_ground_truth_without_images_is_enough(files: Path) -> None:
    content = json.loads((files / "truth.json").read_text())
    expected = numbers(files)
    del content["images"]
    save(files, "truth", content)

    assert numbers(files) == expected
