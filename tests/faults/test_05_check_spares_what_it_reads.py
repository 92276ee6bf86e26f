"""No output of ``detr-d2 check`` replaces, or lies in, what is checked."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pytest

from tests.faults.label_files import Done, detr_d2, everything_in, is_one_sentence, photo, write_dataset


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A dataset with a register.yaml and a zip, in ``made``."""
    folder = tmp_path / "made"
    labels = write_dataset(folder, {"a.jpg": photo(), "b.jpg": photo(1)}, panoptic=True)
    name = f"spared_{tmp_path.name}"
    entry = f"- name: {name}\n  images: images\n  panoptic_json: {labels.name}\n  panoptic_root: panoptic\n"
    (folder / "register.yaml").write_text(entry)
    return folder


def refused(done: Done, before: dict[str, bytes], folder: Path) -> bool:
    return is_one_sentence(done) and everything_in(folder) == before


READ = ["labels.json", "images/a.jpg", "panoptic/a.png", "link.json"]


@pytest.mark.parametrize(
    ("dataset", "output"),
    [
        *(("labels.json", output) for output in READ),
        *(("", output) for output in [*READ, "register.yaml"]),
        *(("register.yaml", output) for output in [*READ, "register.yaml"]),
    ],
)
def test_a_report_replaces_nothing_that_is_read(dataset: str, output: str, made: Path) -> None:
    os.link(made / "labels.json", made / "link.json")
    before = everything_in(made)

    done = detr_d2("check", made / dataset, "--json", made / output)

    assert refused(done, before, made), done
    assert "--json" in done.stderr and Path(output).name in done.stderr


@pytest.mark.parametrize("inside", ["annotations.xml", "annotations/instances_default.json"])
@pytest.mark.parametrize("dataset", ["job.zip", ""])
def test_a_report_replaces_no_zip(inside: str, dataset: str, tmp_path: Path) -> None:
    labels = write_dataset(tmp_path / "made", {"a.png": photo()})
    xml = '<annotations><image id="0" name="a.png" width="40" height="30"/></annotations>'
    (tmp_path / "zips").mkdir()
    with zipfile.ZipFile(tmp_path / "zips" / "job.zip", "w") as archive:
        archive.writestr(inside, xml if inside.endswith(".xml") else labels.read_text())
        archive.write(tmp_path / "made" / "images" / "a.png", "images/a.png")
    before = everything_in(tmp_path)

    done = detr_d2("check", tmp_path / "zips" / dataset, "--json", tmp_path / "zips" / "job.zip")

    assert refused(done, before, tmp_path), done


def test_a_report_replaces_no_xml_and_no_image_of_its_export(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    photo().save(tmp_path / "images" / "a.png")
    xml = '<annotations><image id="0" name="a.png" width="40" height="30"/></annotations>'
    (tmp_path / "annotations.xml").write_text(xml)
    before = everything_in(tmp_path)

    for output in ("annotations.xml", "images/a.png"):
        assert refused(detr_d2("check", tmp_path, "--json", tmp_path / output), before, tmp_path)


def test_a_report_replaces_an_earlier_one_also_beside_images(tmp_path: Path) -> None:
    labels = write_dataset(tmp_path, {"a.png": photo()})

    for _ in range(2):
        assert detr_d2("check", labels, "--images", tmp_path / "images", "--json", tmp_path / "images/f.json")[0] == 0


@pytest.mark.parametrize("out", ["", "new", "images", "images/new", "panoptic/new/deeper", "../made/new", "link/new"])
def test_a_copy_never_lies_in_what_is_copied(out: str, made: Path) -> None:
    (made.parent / "link").symlink_to(made)
    target = made.parent / out if out.startswith("link") else made / out
    before = everything_in(made)

    done = detr_d2("check", made, "--fix", target)

    assert refused(done, before, made), done
    assert not (made / "new").exists()


def test_a_copy_lies_beside_labels_that_are_named_by_themselves(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(made)

    assert detr_d2("check", "labels.json", "--fix", "fixed").returncode == 0
    assert detr_d2("check", "register.yaml", "--fix", "again").returncode == 0


@pytest.mark.parametrize("report", ["fixed", "fixed/faults.json"])
def test_a_report_does_not_lie_in_the_copy(report: str, made: Path) -> None:
    before = everything_in(made.parent)

    done = detr_d2("check", made, "--fix", made.parent / "fixed", "--json", made.parent / report)

    assert refused(done, before, made.parent), done
