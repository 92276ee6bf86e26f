"""From exports to a dataset: what is written, what is left out, and that nothing is lost when a run is interrupted."""

from __future__ import annotations

from collections.abc import Callable
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
from detr_d2.prepare.finishing import MARKER
from detr_d2.prepare.options import PrepareOptions
from detr_d2.prepare.preparing import make_tasks
from tests.prepare.made_datasets import HEIGHT, WIDTH, make_export, read


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
    assert read(folder / "report.json")["notes"]["image-orientation"]["count"] == 1


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


def test_a_class_of_one_image_is_named_as_validation_says_nothing_of_it(
    made: Callable[..., Path], tmp_path: Path
) -> None:
    export = make_export(tmp_path, "job", 10)
    rare = replace(export.images[4], labels=(*export.images[4].labels, Label("crane", Box(40, 0, 48, 8))))
    pictures = (*export.images[:4], rare, *export.images[5:])

    report = read(made(replace(export, classes=(*export.classes, ClassRecord("crane")), images=pictures)) / MARKER)

    assert [warning for warning in report["warnings"] if "one image only" in warning and "crane" in warning]
    assert next(one["images"] for one in report["classes"] if one["name"] == "crane") == {"train": 1, "val": 0}


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
