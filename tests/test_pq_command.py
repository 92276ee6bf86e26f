"""``detr-d2 pq``: the numbers of panopticapi on files, and every fault of the files at once."""

from __future__ import annotations

import contextlib
import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from detr_d2 import cli
from detr_d2.errors import DatasetError, MissingFileError, run_command

Content = dict[str, Any]
CATEGORIES = [
    {"id": 9, "name": "ground", "isthing": 0},
    {"id": 7, "name": "cone", "isthing": 1},
    {"id": 3, "name": "sky", "isthing": 0},
    {"id": 5, "name": "absent", "isthing": 1},
]
CLASS_OF = {1: 3, 300: 9, 2: 7, 70000: 7, 5: 7}
HEIGHT, WIDTH = 20, 30


def image_ids(number: int, shift: int = 0) -> np.ndarray:
    """Sky (1), ground (300), two cones (2, 70000), a crowd of cones (5), and a strip of void."""
    ids = np.ones((HEIGHT, WIDTH), dtype=np.int64)
    ids[10:] = 300
    ids[5:13, 2 + number : 9 + number] = 2
    ids[6:15, 14:19] = 70000
    ids[14:19, 22:29] = 5
    ids[:, :1] = 0
    return np.roll(ids, shift, axis=1)


def save_png(ids: np.ndarray, path: Path) -> None:
    rgb = np.stack([ids % 256, ids // 256 % 256, ids // 256**2], axis=-1)
    Image.fromarray(rgb.astype(np.uint8)).save(path)


def write_files(folder: Path, name: str, images: int = 4, shift: int = 0) -> Content:
    """NAME.json and the PNGs of NAME/; its content."""
    (folder / name).mkdir(parents=True)
    annotations = []
    for number in range(images):
        ids = image_ids(number, shift)
        save_png(ids, folder / name / f"{number}.png")
        segments = [
            {"id": i, "category_id": CLASS_OF[i], "area": int((ids == i).sum()), "iscrowd": int(i == 5)}
            for i in np.unique(ids).tolist()
            if i
        ]
        annotations.append({"image_id": 10 + number, "file_name": f"{number}.png", "segments_info": segments})
    entries = [{"id": 10 + number, "height": HEIGHT, "width": WIDTH} for number in range(images)]
    content = {"images": entries, "annotations": annotations, "categories": CATEGORIES}
    save(folder, name, content)
    return content


def save(folder: Path, name: str, content: Content) -> None:
    (folder / f"{name}.json").write_text(json.dumps(content))


def pq(folder: Path, *words: str) -> int:
    return cli.main(["pq", "--gt", str(folder / "truth.json"), "--pred", str(folder / "found.json"), *words])


def numbers(folder: Path, *words: str) -> Content:
    assert pq(folder, "--json", str(folder / "pq.json"), *words) == 0
    return json.loads((folder / "pq.json").read_text())


def refusal(folder: Path, *words: str) -> str:
    with pytest.raises(DatasetError) as error:
        pq(folder, *words)
    return str(error.value)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Truth and predictions that are three pixels off."""
    write_files(tmp_path, "truth")
    write_files(tmp_path, "found", shift=3)
    return tmp_path


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


def test_no_prediction_at_all_is_refused_as_a_subset(files: Path) -> None:
    save(files, "found", {"annotations": []})

    assert "there is no image to compare" in refusal(files, "--subset")
    assert numbers(files, "--allow-missing")["All"]["PQ"] == 0


def test_all_faults_of_predictions_are_listed_at_once(files: Path) -> None:
    write_files(files / "more", "found", images=9)
    for number in range(9):
        (files / "more" / "found" / f"{number}.png").rename(files / "found" / f"{number}.png")
    write_files(files / "large", "truth", images=9)
    content = json.loads((files / "more" / "found.json").read_text())
    entries = content["annotations"]
    save_png(image_ids(0)[:-1], files / "found" / "0.png")
    entries[1]["segments_info"][0]["id"] = 77
    entries[2]["segments_info"][0]["category_id"] = 1000
    entries[3]["segments_info"].append(dict(entries[3]["segments_info"][1]))
    whole = (files / "found" / "4.png").read_bytes()
    (files / "found" / "4.png").write_bytes(whole[: len(whole) // 2])
    entries[5]["image_id"] = 99
    entries[6]["segments_info"][0]["id"] = "1"
    (files / "found" / "7.png").unlink()
    Image.new("L", (WIDTH, HEIGHT)).save(files / "found" / "8.png")
    entries += [dict(entries[0]), {"image_id": None}, {"image_id": 11.5}]
    save(files, "found", content)

    with pytest.raises(DatasetError) as error:
        cli.main(["pq", "--gt", str(files / "large" / "truth.json"), "--pred", str(files / "found.json")])

    message = str(error.value)
    for image, fault in (
        (10, "is 30x19 pixels; the ground truth says 30x20"),
        (11, "has no pixel of the segment 77"),
        (11, "pixels of the id 1, which the JSON doesn't list"),
        (12, "segments_info[0] has category_id=1000, which categories lacks"),
        (13, "has the id of an earlier segment of its image"),
        (14, "can't be read"),
        (15, "there is none"),
        (99, "the ground truth has no annotation of this image"),
        (16, "segments_info[0] has id='1'"),
        (17, "isn't there"),
        (18, "of mode L"),
        (10, "annotations[9] is of an image that has its annotation already"),
    ):
        assert any(f"prediction, image id {image} " in line and fault in line for line in message.splitlines()), fault
    assert "annotations[10]" in message and "image_id=11.5" in message


def break_gt(content: Content, folder: Path) -> None:
    content["annotations"][0]["segments_info"][0]["id"] = 0
    content["annotations"][1]["segments_info"].pop()
    content["images"][2]["width"] = 31
    content["images"].pop()
    content["images"].append(content["images"][0])
    content["annotations"][3]["segments_info"][0]["iscrowd"] = 2


def test_all_faults_of_the_ground_truth_are_listed_at_once(files: Path) -> None:
    content = json.loads((files / "truth.json").read_text())
    break_gt(content, files)
    save(files, "truth", content)

    message = refusal(files)

    for image, fault in (
        (10, "segments_info[0] has id=0"),
        (11, "pixels of the id 70000, which the JSON doesn't list"),
        (12, "is 30x20 pixels; the JSON says 31x20"),
        (13, "images lacks it"),
        (13, "segments_info[0] has iscrowd=2"),
    ):
        assert any(f"truth, image id {image} " in line and fault in line for line in message.splitlines()), fault
    assert "images[3] has the id of an earlier image" in message


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


def not_json(folder: Path) -> None:
    (folder / "found.json").write_text("{")


def list_on_top(folder: Path) -> None:
    (folder / "found.json").write_text("[]")


def odd_entries(folder: Path) -> None:
    entries = [{"image_id": 10}, {"image_id": 11, "file_name": "1.png"}]
    entries += [{"image_id": 12, "file_name": "2.png", "segments_info": [3, {}, {"id": True, "category_id": [7]}]}]
    save(folder, "found", {"annotations": entries})


@pytest.mark.parametrize(
    ("spoil_file", "said"),
    [
        (not_json, "isn't JSON"),
        (list_on_top, "a list at its top"),
        (odd_entries, "[0] is a number; it must be an object"),
    ],
)
def test_odd_json_is_one_message_and_exit_code_two(
    spoil_file: Callable[[Path], None], said: str, files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil_file(files)

    assert run_command(lambda: pq(files)) == 2

    printed = capsys.readouterr()
    assert said in printed.err and "Traceback" not in printed.err and "PQ" not in printed.out


def test_number_of_faults_shown_is_bounded(files: Path) -> None:
    content = json.loads((files / "found.json").read_text())
    content["annotations"] += [{**content["annotations"][0], "image_id": i} for i in range(1000, 4000)]
    save(files, "found", content)

    message = refusal(files)

    assert message.startswith("6000 faults") and "more faults; all 6000" in message and len(message) < 5000


def test_place_that_can_not_be_written_is_a_message(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (files / "file").write_text("")

    code = run_command(lambda: pq(files, "--json", str(files / "file" / "pq.json")))

    assert code == 2
    assert f"error: {files / 'file'}: File exists. " in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--bootstrap", "0"], ["--workers", "x"], ["--subset", "--allow-missing"]])
def test_wrong_arguments_show_the_usage(words: list[str], files: Path) -> None:
    with pytest.raises(SystemExit) as stopped:
        pq(files, *words)

    assert stopped.value.code == 2
