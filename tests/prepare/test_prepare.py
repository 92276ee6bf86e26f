"""From exports to a dataset: what is written, what is left out, and that nothing is lost when a run is interrupted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from detr_d2.check.dataset import dataset_faults
from detr_d2.check.sources import find_sources
from detr_d2.data import read_panoptic_png
from detr_d2.errors import ConfigError, DatasetError
from detr_d2.labels.records import Box, ClassRecord, Export, FileRef, ImageRecord, Label, Note
from detr_d2.prepare import pipeline
from detr_d2.prepare.finishing import MARKER
from detr_d2.prepare.options import PrepareOptions
from detr_d2.prepare.pipeline import prepare
from detr_d2.prepare.preparing import StoppedError, make_tasks
from detr_d2.prepare.stuff import build_policy

NAMES = ("pipe", "drum")
WIDTH, HEIGHT = 48, 40


def make_export(folder: Path, name: str, count: int = 6, seed: int = 0) -> Export:
    """An export of pictures that all look different, each with a label or two."""
    chance = np.random.default_rng(seed)
    (folder / name).mkdir(parents=True, exist_ok=True)
    pictures = []
    for number in range(count):
        path = folder / name / f"{number}.jpg"
        if not path.exists():
            rough = Image.fromarray(chance.integers(0, 256, (5, 6, 3), np.uint8))
            rough.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC).save(path)
        labels = [Label(NAMES[number % 2], Box(4, 4, 20 + number % 7, 24), id=number + 1)]
        if number % 3 == 0:
            labels.append(Label(NAMES[0], Box(30, 10, 44, 36), id=1000 + number))
        pictures.append(ImageRecord(FileRef(path), f"{number}.jpg", WIDTH, HEIGHT, tuple(labels), number))
    classes = tuple(map(ClassRecord, NAMES))
    return Export(name, "coco-instances", FileRef(folder / name / "coco.json"), classes, tuple(pictures))


@pytest.fixture
def made(tmp_path: Path) -> Callable[..., Path]:
    """Prepares exports: ``made(export, stuff="misc", overlap="last", …)``; the dataset's folder."""

    def make(*exports: Export, stuff: str = "misc", out: str = "site", **options: Any) -> Path:
        chosen = PrepareOptions(out=tmp_path / out, **options)
        return prepare(list(exports), build_policy([stuff]), chosen).folder

    return make


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def contents(folder: Path) -> dict[str, bytes]:
    """All files of a dataset; of the reports what doesn't depend on the clock."""
    found = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    files = {name: path.read_bytes() for name, path in found.items() if not name.startswith("report.")}
    report = read(folder / "report.json")
    return {**files, "report": json.dumps({**report, "seconds": 0}).encode()}


@pytest.mark.parametrize("stuff", ["none", "misc"])
def test_a_prepared_dataset_has_no_fault(made: Callable[..., Path], tmp_path: Path, stuff: str) -> None:
    folder = made(make_export(tmp_path, "job", 12), stuff=stuff, name=f"site_of_{stuff}")

    assert list(dataset_faults(find_sources(str(folder)), False, 1, lambda results, count: results)) == []
    assert {path.name for path in folder.iterdir()} >= {"images", "panoptic", "register.yaml", "categories.yaml"}
    assert not list(tmp_path.glob(".site*"))


def test_each_segment_is_in_the_png_and_says_who_labelled_it(made: Callable[..., Path], tmp_path: Path) -> None:
    folder = made(make_export(tmp_path, "job", 6))

    panoptic = read(folder / "panoptic_train.json")
    sources = set()
    for annotation in panoptic["annotations"]:
        ids = read_panoptic_png(str(folder / "panoptic" / annotation["file_name"]))
        for segment in annotation["segments_info"]:
            assert (ids == segment["id"]).sum() == segment["area"]
            sources.add(segment["source"])
        assert set(np.unique(ids)) == {segment["id"] for segment in annotation["segments_info"]}
    assert sources == {"human", "rest"}


def test_instances_are_the_things_of_the_panoptic_file(made: Callable[..., Path], tmp_path: Path) -> None:
    folder = made(make_export(tmp_path, "job", 9))

    for split in ("train", "val"):
        panoptic, instances = read(folder / f"panoptic_{split}.json"), read(folder / f"instances_{split}.json")
        things = {category["id"] for category in panoptic["categories"] if category["isthing"]}
        expected = [
            (annotation["image_id"], segment["category_id"], segment["bbox"], segment["area"])
            for annotation in panoptic["annotations"]
            for segment in annotation["segments_info"]
            if segment["category_id"] in things
        ]
        found = [(one["image_id"], one["category_id"], one["bbox"], one["area"]) for one in instances["annotations"]]
        assert found == expected
        assert {category["id"] for category in instances["categories"]} == things


def test_images_of_one_name_stay_two(made: Callable[..., Path], tmp_path: Path) -> None:
    folder = made(make_export(tmp_path, "brick", 3), make_export(tmp_path, "pipe", 3, seed=1), stuff="none")

    names = {path.relative_to(folder / "images").as_posix() for path in (folder / "images").rglob("*.jpg")}
    assert names == {f"{export}/{number}.jpg" for export in ("brick", "pipe") for number in range(3)}


def test_files_are_named_apart_whatever_their_suffix_and_case() -> None:
    pictures = [ImageRecord(FileRef(Path(name)), name, 0, 0, ()) for name in ("1.jpg", "1.PNG", "1_2.jpg", "A/b.jpg")]
    export = Export("x", "coco-instances", FileRef(Path("x.json")), (), tuple(pictures))

    targets = [task.target for task in make_tasks([export, replace(export, name="X")])]

    assert len({target.casefold() for target in targets}) == 8
    assert targets[:4] == ["x/1", "x/1_3", "x/1_2", "x/A/b"]


@pytest.mark.parametrize("name", ["../1.jpg", "/etc/1.jpg", "a/../../1.jpg"])
def test_names_that_lead_out_of_the_dataset_are_refused(tmp_path: Path, name: str) -> None:
    export = make_export(tmp_path, "job", 1)
    export = replace(export, images=(replace(export.images[0], name=name),))

    with pytest.raises(DatasetError, match="leads out"):
        make_tasks([export])


def test_what_cannot_be_used_is_left_out_and_counted_by_reason(made: Callable[..., Path], tmp_path: Path) -> None:
    export = make_export(tmp_path, "job", 8)
    (tmp_path / "job" / "0.jpg").write_bytes(b"no picture")
    (tmp_path / "job" / "1.jpg").unlink()
    pictures = [*export.images[:2], replace(export.images[2], width=99), replace(export.images[3], labels=())]
    notes = (Note("mask-empty", "annotation 9 has no polygon.", "coco.json", "5.jpg", "drum", 9, True),)
    export = replace(export, images=(*pictures, *export.images[4:]), notes=notes)

    report = read(made(export, stuff="none") / "report.json")

    assert {one["name"]: one["reason"] for one in report["images"]["skipped"]} == {
        "job/0.jpg": "image-broken",
        "job/1.jpg": "image-missing",
        "job/2.jpg": "image-size",
        "job/3.jpg": "no-segment",
    }
    assert report["images"]["train"] + report["images"]["val"] == 4
    assert any("4 images were left out" in warning for warning in report["warnings"])
    drum = next(one for one in report["classes"] if one["name"] == "drum")
    assert drum["dropped"] == {"mask-empty": 1}


def test_the_report_adds_up(made: Callable[..., Path], tmp_path: Path) -> None:
    folder = made(make_export(tmp_path, "job", 30), min_area=400)
    report = read(folder / "report.json")

    segments = [
        (annotation["image_id"], segment)
        for split in ("train", "val")
        for annotation in read(folder / f"panoptic_{split}.json")["annotations"]
        for segment in annotation["segments_info"]
    ]
    for said in report["classes"]:
        own = [segment for _, segment in segments if segment["category_id"] == said["id"]]
        assert (said["kept"], said["pixels"]) == (len(own), sum(segment["area"] for segment in own))
        assert said["areas"][0] == min(s["area"] for s in own) and said["areas"][-1] == max(s["area"] for s in own)
        assert len(said["examples"]) == min(10, len(own))
    dropped = sum(sum(said["dropped"].values()) for said in report["classes"])
    assert dropped + sum(said["kept"] for said in report["classes"] if said["is_thing"]) == 40
    counts = np.array(report["cooccurrence"]["counts"])
    assert np.diag(counts).tolist() == [sum(one["images"].values()) for one in report["classes"]]
    assert (counts == counts.T).all()


def test_overlaps_that_are_errors_are_listed_and_nothing_is_written(made: Callable[..., Path], tmp_path: Path) -> None:
    export = make_export(tmp_path, "job", 4)
    both = (Label("pipe", Box(0, 0, 20, 20), id=5), Label("drum", Box(10, 10, 30, 30), id=6))
    export = replace(export, images=(*export.images[:3], replace(export.images[3], labels=both)))

    with pytest.raises(DatasetError, match=r"(?s)1 of 4 images.*job/3.jpg: labels 5 and 6 share 100 pixels"):
        made(export, overlap="error")

    assert not (tmp_path / "site").exists()


def test_a_folder_of_something_else_stays_as_it_is(made: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "thesis.txt").write_text("three years")

    with pytest.raises(DatasetError, match=r"report\.json"):
        made(make_export(tmp_path, "job", 2))

    assert (tmp_path / "site" / "thesis.txt").read_text() == "three years"


def test_a_dataset_is_replaced_by_the_next_one(made: Callable[..., Path], tmp_path: Path) -> None:
    made(make_export(tmp_path, "job", 6))
    folder = made(make_export(tmp_path, "job", 3))

    assert len(list((folder / "images").rglob("*.jpg"))) == len(list((folder / "panoptic").rglob("*.png"))) == 3


def test_images_are_copied_linked_or_written_as_jpeg(made: Callable[..., Path], tmp_path: Path) -> None:
    export = make_export(tmp_path, "job", 2)
    original = tmp_path / "job" / "0.jpg"

    copied, linked, written = (
        made(export, out=kind, images=kind, quality=60) / "images" / "job" / "0.jpg"
        for kind in ("copy", "link", "jpeg")
    )

    assert copied.read_bytes() == original.read_bytes() and not copied.samefile(original)
    assert linked.samefile(original)
    assert written.read_bytes() != original.read_bytes() and not written.samefile(original)


def test_a_turned_image_is_saved_upright_without_its_tag(made: Callable[..., Path], tmp_path: Path) -> None:
    export = make_export(tmp_path, "job", 3)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(tmp_path / "job" / "0.jpg").transpose(Image.Transpose.ROTATE_90).save(
        tmp_path / "job" / "0.jpg", exif=exif
    )

    folder = made(export)

    with Image.open(folder / "images" / "job" / "0.jpg") as picture:
        assert picture.size == (WIDTH, HEIGHT) and not picture.getexif()
    assert read(folder / "report.json")["notes"]["exif-applied"]["count"] == 1


def test_look_alikes_are_on_one_side(made: Callable[..., Path], tmp_path: Path) -> None:
    exports = [make_export(tmp_path, name, 10) for name in ("morning", "copy_of_morning")]

    folder = made(*exports, val=0.3)

    names = [image["file_name"] for image in read(folder / "panoptic_val.json")["images"]]
    assert len(names) == 6
    assert {name.split("/")[1] for name in names if name.startswith("morning")} == {
        name.split("/")[1] for name in names if name.startswith("copy")
    }
    assert any("look like another" in warning for warning in read(folder / "report.json")["warnings"])


def test_a_known_list_of_categories_is_kept_whole(made: Callable[..., Path], tmp_path: Path) -> None:
    listed = tmp_path / "list.yaml"
    listed.write_text("".join(f"- {{id: {n}, name: {name}, isthing: {int(n > 5)}}}\n" for n, name in
                              ((5, "misc"), (7, "Drum"), (9, "pipe"), (40, "crane"))))  # fmt: skip

    folder = made(make_export(tmp_path, "job", 4), categories=str(listed))

    categories = read(folder / "panoptic_train.json")["categories"]
    assert [(one["id"], one["name"]) for one in categories] == [(5, "misc"), (7, "Drum"), (9, "pipe"), (40, "crane")]


def test_several_processes_write_what_one_does(made: Callable[..., Path], tmp_path: Path) -> None:
    export = make_export(tmp_path, "job", 70)

    one, two = (made(export, out=f"{workers}/site", workers=workers) for workers in (1, 2))

    assert contents(one) == contents(two)


_KILLED = """
    import os, signal, sys
    from pathlib import Path
    import detr_d2
    from detr_d2.prepare import pipeline
    from detr_d2.prepare.journal import Journal

    sys.path.insert(0, sys.argv[1])
    import test_prepare as tests

    add, count = Journal.add, [0]

    def dying_add(journal, key, result):
        count[0] += 1
        if count[0] == 4:  # its files are there, its line isn't whole
            journal._file.write(key.encode())
            journal._file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        add(journal, key, result)

    Journal.add = dying_add
    folder = Path(sys.argv[2])
    tests.prepare_in(folder, tests.make_export(folder, "job", 9))
"""


def prepare_in(folder: Path, export: Export, **options: Any) -> Any:
    return prepare([export], build_policy(["misc"]), PrepareOptions(out=folder / "site", **options))


def _kill_in_the_middle(folder: Path) -> None:
    here = Path(__file__).resolve().parent
    words = [sys.executable, "-c", textwrap.dedent(_KILLED), str(here), str(folder)]
    paths = os.pathsep.join([str(here.parent.parent), os.environ.get("PYTHONPATH", "")])
    ended = subprocess.run(words, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="nothing is killed like this on Windows")
def test_a_killed_run_leaves_no_dataset_and_the_next_one_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    _kill_in_the_middle(killed)
    assert not (killed / "site").exists()

    prepared = prepare_in(killed, make_export(killed, "job", 9))
    prepare_in(whole, make_export(whole, "job", 9))

    assert prepared.reused == 3
    expected = contents(whole / "site")
    said = {name: content.replace(str(whole).encode(), str(killed).encode()) for name, content in expected.items()}
    assert contents(killed / "site") == said
    assert not list(killed.glob(".site*"))


def _interrupt(tmp_path: Path, export: Export, after: int, **options: Any) -> None:
    """A run that ends by Ctrl-C."""

    def stopping(things: Sequence[Any], count: int, unit: str, title: str) -> Any:
        for number, thing in enumerate(things):
            if title == "images" and number == after:
                raise KeyboardInterrupt
            yield thing

    chosen = PrepareOptions(out=tmp_path / "site", **options)
    with pytest.MonkeyPatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(pipeline, "progress", stopping)
        prepare([export], build_policy(["misc"]), chosen)


def test_other_options_begin_anew_but_another_split_goes_on(tmp_path: Path) -> None:
    export = make_export(tmp_path, "job", 6)

    _interrupt(tmp_path, export, 4)
    split_anew = prepare_in(tmp_path, export, val=0.5)
    _interrupt(tmp_path, export, 4)
    drawn_anew = prepare_in(tmp_path, export, min_area=3)

    assert (split_anew.reused, drawn_anew.reused) == (4, 0)


def test_images_and_labels_that_changed_meanwhile_are_prepared_again(tmp_path: Path) -> None:
    export = make_export(tmp_path, "job", 6)
    _interrupt(tmp_path, export, 5)
    Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "job" / "0.jpg")
    changed = replace(export.images[1], labels=(Label("drum", Box(0, 0, 9, 9)),))
    gone = replace(export, images=(export.images[0], changed, *export.images[3:]))

    prepared = prepare_in(tmp_path, gone)

    assert prepared.reused == 2
    assert len(list((tmp_path / "site" / "images").rglob("*.jpg"))) == 5
    assert len(list((tmp_path / "site" / "panoptic").rglob("*.png"))) == 5


def test_two_runs_at_once_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    export = make_export(tmp_path, "job", 2)

    def start_another(things: Sequence[Any], *about: Any) -> Any:
        with pytest.raises(DatasetError, match="another 'detr-d2 prepare'"):
            prepare_in(tmp_path, export)
        return things

    monkeypatch.setattr(pipeline, "progress", start_another)
    prepare([export], build_policy(["misc"]), PrepareOptions(out=tmp_path / "site"))


def test_memory_does_not_grow_with_the_images(tmp_path: Path) -> None:
    export = make_export(tmp_path, "job", 1)
    one = export.images[0]

    def most_memory(count: int) -> int:
        pictures = tuple(replace(one, name=f"{number}.jpg") for number in range(count))
        many = replace(export, images=pictures)
        chosen = PrepareOptions(out=tmp_path / f"of_{count}", val=0)
        tracemalloc.start()
        prepare([many], build_policy(["misc"]), chosen)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    prepare_in(tmp_path, export)  # imports what is needed, which would take minutes under tracemalloc's eyes
    few, many = most_memory(100), most_memory(600)

    assert many - few < 500 * 5000  # a name, a key and a few numbers of each; its pixels alone are more than that


def test_a_class_of_one_image_is_named_as_validation_says_nothing_of_it(
    made: Callable[..., Path], tmp_path: Path
) -> None:
    export = make_export(tmp_path, "job", 10)
    rare = replace(export.images[4], labels=(*export.images[4].labels, Label("crane", Box(40, 0, 48, 8))))
    pictures = (*export.images[:4], rare, *export.images[5:])

    report = read(made(replace(export, classes=(*export.classes, ClassRecord("crane")), images=pictures)) / MARKER)

    assert [warning for warning in report["warnings"] if "one image only" in warning and "crane" in warning]
    assert next(one["images"] for one in report["classes"] if one["name"] == "crane") == {"train": 1, "val": 0}


def test_a_process_that_is_ended_is_told_from_a_fault_of_the_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> Any:
        raise DatasetError("a process was ended")
        yield

    monkeypatch.setattr(pipeline, "in_processes", broken)

    with pytest.raises(StoppedError, match="--workers 1 goes on"):
        prepare_in(tmp_path, make_export(tmp_path, "job", 2))


def test_exports_of_one_name_get_folders_of_their_own(tmp_path: Path) -> None:
    export = make_export(tmp_path, "job", 1)

    names = [task.record.name for task in make_tasks([export, export, replace(export, name="job_2")])]

    assert names == ["job/0.jpg", "job_3/0.jpg", "job_2/0.jpg"]


@pytest.mark.parametrize(
    "wrong", [{"val": 1.0}, {"val": -0.1}, {"min_area": -1}, {"overlap": "first"}, {"crowds": "no"}, {"name": "a b/c"}]
)
def test_options_that_are_not_allowed_are_refused(tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        PrepareOptions(out=tmp_path / "site", **wrong)


def test_exports_without_a_usable_image_are_refused(made: Callable[..., Path], tmp_path: Path) -> None:
    export = make_export(tmp_path, "job", 2)

    with pytest.raises(DatasetError, match=r"no image is left.*no-segment"):
        made(replace(export, images=tuple(replace(one, labels=()) for one in export.images)), stuff="none")

    assert not (tmp_path / "site").exists()
