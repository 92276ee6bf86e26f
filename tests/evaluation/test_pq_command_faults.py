"""``detr-d2 pq`` with files that contradict one another, are none, or can't be written."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from detr_d2 import cli
from detr_d2.errors import DatasetError, run_command
from tests.evaluation.pq_files import (
    HEIGHT,
    WIDTH,
    Content,
    image_ids,
    numbers,
    pq,
    refusal,
    save,
    save_png,
    write_files,
)


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
        (13, "annotations[3] has image_id=13, which images lacks"),
        (13, "segments_info[0] has iscrowd=2"),
    ):
        assert any(f"truth, image id {image} " in line and fault in line for line in message.splitlines()), fault
    assert "images[3] has the id of an earlier image" in message


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

    assert message.startswith("6,000 faults") and "more faults; all 6,000" in message and len(message) < 5000


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
