"""The journal of predicted images: what was noted is found, what was damaged is done again, nothing else is removed."""

from __future__ import annotations

from pathlib import Path

import pytest

from detr_d2.labels.records import FileRef
from detr_d2.prediction.image_files import FoundImage
from detr_d2.prediction.journal import FILE_NAME, Journal

SETTINGS = {"write": ["drawing"], "score": 0.5}


def images(folder: Path, count: int = 3) -> list[FoundImage]:
    """Images in a folder."""
    for number in range(count):
        (folder / f"{number}.jpg").write_bytes(b"image")
    return [FoundImage(FileRef(folder / f"{number}.jpg"), f"{number}.jpg", str(number)) for number in range(count)]


def noted(folder: Path, found: list[FoundImage], **entry: object) -> Path:
    """A journal of a folder of results, in which the images are finished."""
    journal = Journal(folder, SETTINGS)
    for image in found:
        (folder / f"{image.stem}.png").touch()
        journal.add(image, {"files": [f"{image.stem}.png"], "data": 1, **entry})
    journal.close()
    return folder / FILE_NAME


def test_finished_images_are_found_again(tmp_path):
    found = images(tmp_path)
    noted(tmp_path / "out", found)

    again = Journal(tmp_path / "out", SETTINGS)

    assert all(again.has(image) for image in found)
    assert [entry["stem"] for entry in again.entries()] == ["0", "1", "2"]


@pytest.mark.parametrize(("before", "after"), [(b'"data": 1', b'"data": 7'), (b'"stem"', b'"stom"'), (b"{", b"[")])
def test_image_whose_line_was_changed_is_not_finished(tmp_path, before, after):
    found = images(tmp_path)
    path = noted(tmp_path / "out", found)
    header, first, second, third = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(header + first + second.replace(before, after) + third)

    again = Journal(tmp_path / "out", SETTINGS)

    assert [again.has(image) for image in found] == [True, False, True]
    assert len(list(again.entries())) == 2


def test_line_that_broke_off_is_cut_away(tmp_path):
    found = images(tmp_path)
    path = noted(tmp_path / "out", found)
    path.write_bytes(path.read_bytes()[:-5])

    again = Journal(tmp_path / "out", SETTINGS)
    again.add(found[2], {"files": [], "data": 1})
    again.close()

    assert all(Journal(tmp_path / "out", SETTINGS).has(image) for image in found)


@pytest.mark.parametrize("name", ["../precious.txt", "a/../../precious.txt", "/absolute"])
def test_overwriting_removes_nothing_outside_of_the_folder(tmp_path, name):
    precious = tmp_path / "precious.txt"
    precious.touch()
    named = str(precious) if name == "/absolute" else name
    (tmp_path / "out" / "a").mkdir(parents=True)
    noted(tmp_path / "out", images(tmp_path, 1), files=[named])

    Journal(tmp_path / "out", {**SETTINGS, "score": 0.7}, begins_anew=True)

    assert precious.exists()


@pytest.mark.parametrize(
    "header", [b"", b"[1]", b"null", b'{"write": 5}', b'{"write": [[]]}', b"[" * 100_000, b"\xff\0"]
)
def test_damaged_first_line_is_refused_or_replaced(tmp_path, header):
    path = noted(tmp_path / "out", images(tmp_path))
    path.write_bytes(header + b"\n" + path.read_bytes().partition(b"\n")[2])

    with pytest.raises(ValueError, match="other settings"):
        Journal(tmp_path / "out", SETTINGS)
    Journal(tmp_path / "out", SETTINGS, begins_anew=True)

    assert len(Journal(tmp_path / "out", SETTINGS)) == 0
