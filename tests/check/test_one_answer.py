"""Datasets broken in each of the ways: training and prepare answer as check does, and nothing is dropped in silence."""

from __future__ import annotations

import itertools
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from detr_d2.check.report import check_before_training
from detr_d2.cli import main
from detr_d2.data import register
from detr_d2.data.categories import known_things
from detr_d2.errors import DatasetError, MissingFileError
from detr_d2.labels.readers import read_exports, shape_mask
from detr_d2.labels.rules.categories import normal_name
from tests.check import broken_files, broken_json
from tests.check.breaking import Break, segments_of

from detectron2.data import DatasetCatalog

CASES = [*broken_json.WAYS.cases, *broken_files.WAYS.cases]
#: Names of registered datasets aren't given twice.
NUMBERS = itertools.count()
#: Of two labels on the same pixels one is hidden, which the report says of each class.
HIDING = {"overlap", "id-duplicate"}


@pytest.fixture
def name() -> str:
    """Of a dataset that nobody has registered."""
    return f"broken{next(NUMBERS)}"


def segments(folder: Path) -> int:
    """How many there are in a prepared dataset, but for the rest, which nobody labelled."""
    contents = [json.loads(path.read_text()) for path in folder.glob("panoptic_*.json")]
    rest = {one["id"] for content in contents for one in content["categories"] if one["name"] == "misc"}
    found = [one for content in contents for entry in content["annotations"] for one in entry["segments_info"]]
    return sum(one["category_id"] not in rest for one in found)


@pytest.mark.parametrize(("broken", "code", "named", "panoptic"), CASES)
def test_training_refuses_what_check_calls_an_error_and_takes_the_rest(
    build: Any, tmp_path: Path, tiny_config: Any, name: str, broken: Break, code: str, named: Any, panoptic: bool
) -> None:
    built = build(tmp_path, 5, panoptic)
    image = built.content["images"][0]
    broken(built, image, segments_of(built, image)[0])
    is_wrong = any(fault.severity == "error" for fault in built.faults())
    images, root = built.folder / "images", built.folder / "panoptic"
    if panoptic:
        register(name, images, panoptic_json=built.json_file, panoptic_root=root)
    else:
        register(name, images, instances_json=built.json_file)
    cfg = tiny_config("DATASETS.TRAIN", (name,), "DATASETS.TEST", (), "DATASETS.CHECK", "full")

    if is_wrong:
        with pytest.raises((DatasetError, MissingFileError)):
            check_before_training(cfg)
            DatasetCatalog.get(name)
        with suppress(DatasetError, MissingFileError):  # it may leave to the check what it doesn't read
            DatasetCatalog.get(name)
    else:
        check_before_training(cfg)
        assert len(DatasetCatalog.get(name)) > 0


@pytest.mark.parametrize(("broken", "code", "named", "panoptic"), CASES)
def test_what_prepare_makes_has_no_error_and_it_says_what_it_left_out(
    build: Any, tmp_path: Path, name: str, broken: Break, code: str, named: Any, panoptic: bool
) -> None:
    (tmp_path / "in").mkdir()
    built = build(tmp_path / "in", 5, panoptic)
    image = built.content["images"][0]
    broken(built, image, segments_of(built, image)[0])
    built.faults()
    labels = built.content["annotations"]
    if panoptic:
        labels = [one for entry in labels if isinstance(entry, dict) for one in entry["segments_info"]]
    made = tmp_path / name

    try:
        assert main(["prepare", "--cvat", str(built.folder), "--stuff", "misc", "--out", str(made)]) == 0
    except DatasetError as refused:
        assert str(refused) and [path.name for path in tmp_path.iterdir()] == ["in"]
    else:
        assert main(["check", str(made)]) == 0
        report = json.loads((made / "report.json").read_text())
        if segments(made) < len(labels) and code not in HIDING:
            assert report["notes"] or report["images"]["skipped"]


def labels_in(folder: Path) -> dict[str, list[tuple[str, bool, bytes]]]:
    """Class, crowd and pixels of the labels that prepare's readers find, by image."""
    found: dict[str, list[tuple[str, bool, bytes]]] = {}
    for export in read_exports([folder], "cvat", known_things=known_things):
        for record in export.images:
            with suppress(DatasetError):
                found[record.name] = sorted(
                    (normal_name(one.class_name), one.is_crowd, mask.tobytes())
                    for one in record.read_labels()
                    if (mask := shape_mask(one.shape, *Image.open(record.image.path).size[::-1])).any()
                )
    return {name: labels for name, labels in found.items() if labels}


def broken_dataset(build: Any, folder: Path, broken: Break, panoptic: bool) -> Any:
    """A dataset of five images that was broken in its first one, as files in a new folder."""
    folder.mkdir()
    built = build(folder, 5, panoptic)
    image = built.content["images"][0]
    broken(built, image, segments_of(built, image)[0])
    built.faults()
    return built


#: Names with brackets are renamed by ``--fix`` alone; which outlines cover no pixel shows when they are drawn.
OTHERWISE = ("category_name_with_brackets", "segmentation-mask-empty-2")


@pytest.mark.parametrize(
    ("broken", "code", "named", "panoptic"),
    [case for case in broken_json.WAYS.cases if not str(case.id).startswith(OTHERWISE)],
)
def test_prepare_reads_of_a_broken_json_what_it_reads_of_its_fixed_copy(
    build: Any, tmp_path: Path, broken: Break, code: str, named: Any, panoptic: bool
) -> None:
    built = broken_dataset(build, tmp_path / "in", broken, panoptic)

    try:
        fixed = main(["check", str(built.json_file), "--fix", str(tmp_path / "fixed")]) == 0
    except DatasetError:
        fixed = False

    if fixed:
        assert labels_in(built.folder) == labels_in(tmp_path / "fixed")


def prepared(folder: Path, out: Path) -> dict[str, tuple[Any, ...]]:
    """Size, and class, crowd and pixels of the segments, of each image that prepare makes of a folder, by its name."""
    try:
        assert main(["prepare", "--coco", str(folder), "--min-area", "1", "--workers", "1", "--out", str(out)]) == 0
    except DatasetError:
        return {}
    found = {}
    for path in out.glob("panoptic_*.json"):
        content = json.loads(path.read_text())
        names = {one["id"]: one["name"] for one in content["categories"]}
        images = {one["id"]: one for one in content["images"]}
        for entry in content["annotations"]:
            image = images[entry["image_id"]]
            segments = sorted((names[s["category_id"]], s["iscrowd"], s["area"]) for s in entry["segments_info"])
            found[Path(image["file_name"]).stem] = (image["width"], image["height"], segments)
    return found


#: What PQ is made without: images, boxes and areas; and whether some images have no label.
UNREAD = ("image-", "path-", "box", "area", "json-number", "json-repeated", "json-text", "split-", "category-gap")


@pytest.mark.parametrize(("broken", "code", "named", "panoptic"), [case for case in CASES if case.values[3]])
def test_pq_refuses_what_check_calls_an_error_in_its_words(
    build: Any, tmp_path: Path, broken: Break, code: str, named: Any, panoptic: bool
) -> None:
    for folder in ("gt", "found"):
        (tmp_path / folder).mkdir()
    built, found = build(tmp_path / "gt", 5, True), build(tmp_path / "found", 5, True)
    image = built.content["images"][0]
    broken(built, image, segments_of(built, image)[0])
    unread = [one for one in built.faults() if one.code.startswith(UNREAD) and one.code != "image-unknown"]
    faults = [one for one in built.check() if one.severity == "error" and one not in unread]
    labelled = [entry["image_id"] for entry in built.content["annotations"] if isinstance(entry, dict)]
    found.content["annotations"] = [one for one in found.content["annotations"] if one["image_id"] in labelled]
    found.faults()
    words = ["pq", "--gt", built.json_file, "--gt-folder", built.folder / "panoptic"]
    words += ["--pred", found.json_file, "--pred-folder", found.folder / "panoptic", "--allow-missing"]

    if not faults:
        assert main([str(word) for word in words]) == 0
        return
    with pytest.raises((DatasetError, MissingFileError)) as refused:
        main([str(word) for word in words])
    assert any(one.message.rstrip(".") in str(refused.value) for one in faults)


@pytest.mark.parametrize(("broken", "code", "named", "panoptic"), broken_files.WAYS.cases)
def test_prepare_makes_of_a_broken_dataset_what_it_makes_of_its_fixed_copy(
    build: Any, tmp_path: Path, broken: Break, code: str, named: Any, panoptic: bool
) -> None:
    built = broken_dataset(build, tmp_path / "in", broken, panoptic)

    try:
        assert main(["check", str(built.json_file), "--workers", "1", "--fix", str(tmp_path / "fixed")]) == 0
    except DatasetError:
        return

    assert prepared(built.folder, tmp_path / "made") == prepared(tmp_path / "fixed", tmp_path / "again")
