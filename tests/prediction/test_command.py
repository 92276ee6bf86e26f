"""``detr-d2 predict``: results of every kind, whole, as they are made; what is bad is named, and costs nothing else."""

from __future__ import annotations

import csv
import json
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detr_d2 import Predictor, cli
from detr_d2.errors import run_command
from detr_d2.prediction import running
from detr_d2.prediction.writers import WRITERS

Run = Callable[..., int]


@pytest.fixture
def photos(yard_folder: Path, tmp_path: Path) -> Path:
    """A folder of three photos, one of them in a folder of its own."""
    folder = tmp_path / "photos"
    (folder / "day 2").mkdir(parents=True)
    for number, path in enumerate(sorted((yard_folder / "images").iterdir())[:3]):
        shutil.copy(path, folder / "day 2" / "c.jpg" if number == 2 else folder / f"{'ab'[number]}.jpg")
    return folder


@pytest.fixture
def predict(checkpoint: Path, photos: Path, tmp_path: Path) -> Run:
    """Runs the command on the photos, or on other inputs; results are in ``tmp_path / "out"``."""

    def run(*more: str, inputs: list[Path] | None = None, model: Path = checkpoint) -> int:
        words = [str(model), *map(str, inputs or [photos]), "--out", str(tmp_path / "out"), "--device", "cpu", *more]
        return run_command(lambda: cli.main(["predict", *words]))

    return run


def files_in(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_default_results_are_drawings_maps_and_quantities(
    predict: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert predict() == 0

    names = ["a", "b", "day 2/c"]
    assert files_in(tmp_path / "out") == sorted(
        [*(f"drawings/{name}.jpg" for name in names), *(f"panoptic/{name}.png" for name in names)]
        + ["journal.jsonl", "panoptic.json", "quantities.csv"]
    )
    assert "3 of 3 images predicted" in capsys.readouterr().out


def test_files_hold_what_the_model_predicts(predict: Run, predictor: Predictor, photos: Path, tmp_path: Path) -> None:
    assert predict("--write", "all", "--batch", "2") == 0

    out = tmp_path / "out"
    panoptic, instances = (json.loads((out / name).read_text()) for name in ("panoptic.json", "instances.json"))
    assert [image["file_name"] for image in panoptic["images"]] == ["a.jpg", "b.jpg", "day 2/c.jpg"]
    rows = list(csv.DictReader((out / "quantities.csv").open()))
    for image, annotation in zip(panoptic["images"], panoptic["annotations"], strict=True):
        expected = predictor(photos / image["file_name"])
        own = [row for row in rows if row["image"] == image["file_name"]]
        assert {row["class"] for row in own} == {segment["category"] for segment in expected.segments}
        assert sum(float(row["share"]) for row in own) == pytest.approx((expected.panoptic > 0).mean(), abs=1e-5)
        assert annotation["image_id"] == image["id"]
        assert {s["id"] for s in annotation["segments_info"]} == {s["id"] for s in expected.segments}
    assert len({one["id"] for one in instances["annotations"]}) == len(instances["annotations"]) > 3


def test_interrupted_run_goes_on(
    predict: Run,
    predictor: Predictor,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    predicted: list[str] = []
    whole = running.WholeImages.predict

    def until_the_second(self: running.WholeImages, images: list[running.LoadedImage]) -> list:
        predicted.extend(image.name for image in images)
        if len(predicted) == 2:
            raise KeyboardInterrupt
        return whole(self, images)

    monkeypatch.setattr(running.WholeImages, "predict", until_the_second)
    monkeypatch.setattr("detr_d2.prediction.pipeline.AHEAD", 0)
    assert predict() == 130
    first = json.loads((tmp_path / "out" / "panoptic.json").read_text())
    predicted.clear()
    monkeypatch.setattr(running.WholeImages, "predict", lambda self, images: whole(self, images))
    assert predict() == 0

    printed = capsys.readouterr()
    assert "the same command goes on" in printed.err
    assert len(first["images"]) <= 1
    assert "3 of 3 images predicted" in printed.out
    whole_json = json.loads((tmp_path / "out" / "panoptic.json").read_text())
    assert [image["file_name"] for image in whole_json["images"]] == ["a.jpg", "b.jpg", "day 2/c.jpg"]
    assert not [name for name in files_in(tmp_path / "out") if Path(name).name.startswith(".")]


def test_finished_images_are_not_predicted_again_unless_they_changed(
    predict: Run, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    predict()
    (photos / "day 2" / "c.jpg").write_bytes((photos / "a.jpg").read_bytes())
    loaded: list[str] = []
    load = running.WholeImages.load
    monkeypatch.setattr(
        running.WholeImages, "load", lambda self, image: (loaded.append(image.name), load(self, image))[1]
    )

    assert predict() == 0

    assert loaded == ["day 2/c.jpg"]
    assert "2 of them by an earlier run" in capsys.readouterr().out


def test_other_settings_are_refused_or_replace_the_results(
    predict: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    predict()
    capsys.readouterr()

    assert predict("--write", "drawing") == 2
    assert "write was drawing,panoptic,quantities, now drawing)" in capsys.readouterr().err
    assert predict("--write", "drawing", "--overwrite") == 0
    assert not list((tmp_path / "out" / "panoptic").rglob("*.png"))


def test_setting_that_is_no_longer_given_is_named(
    predict: Run, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    predict("--tile", "64", "--write", "quantities", inputs=[photos / "a.jpg"])

    assert predict("--write", "quantities", inputs=[photos / "a.jpg"]) == 2
    assert "(overlap was 16, now not set, tile was 64, now not set)" in capsys.readouterr().err


def test_changed_threshold_is_one_number(predict: Run, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    predict("--score-threshold", "0.6", inputs=[photos / "a.jpg"])

    assert predict("--score-threshold", "0.7", inputs=[photos / "a.jpg"]) == 2
    assert "(score threshold was 0.6, now 0.7)" in capsys.readouterr().err


def test_overwriting_leaves_no_file_of_the_settings_before(predict: Run, photos: Path, tmp_path: Path) -> None:
    predict("--write", "all", inputs=[photos / "a.jpg"])

    assert predict("--write", "quantities", "--overwrite", inputs=[photos / "a.jpg"]) == 0
    assert files_in(tmp_path / "out") == ["journal.jsonl", "quantities.csv"]


@pytest.mark.parametrize("name", ["panoptic/b/1.png", "panoptic.json", "drawings/a.jpg"])
def test_files_of_others_in_the_folder_are_not_replaced(
    predict: Run, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    others = tmp_path / "out" / name
    others.parent.mkdir(parents=True)
    others.write_text("mine")

    assert predict("--overwrite") == 2
    assert "is there already" in capsys.readouterr().err
    assert predict("--write", "quantities") == 0
    assert predict("--write", "instances", "--overwrite") == 0
    assert predict("--overwrite") == 2
    assert files_in(tmp_path / "out") == sorted([name, "instances.json", "journal.jsonl"])
    assert others.read_text() == "mine"


def test_run_in_which_no_image_can_be_read_has_no_results(
    predict: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text.jpg").write_text("no image")

    assert predict(inputs=[tmp_path / "text.jpg"]) == 2
    assert capsys.readouterr().out.strip() == "0 of 1 image predicted, 1 skipped, see above"
    assert files_in(tmp_path / "out") == ["journal.jsonl"]


def test_result_of_another_image_is_not_replaced(
    predict: Run, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    predict(inputs=[photos / "a.jpg"])
    (tmp_path / "other").mkdir()
    shutil.copy(photos / "b.jpg", tmp_path / "other" / "a.jpg")

    assert predict(inputs=[tmp_path / "other" / "a.jpg"]) == 2
    assert "has results called a already" in capsys.readouterr().err


def test_model_without_masks_gives_what_boxes_can(
    predict: Run, boxes_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert predict("--write", "panoptic", model=boxes_checkpoint) == 2
    assert "no mask head, only boxes; it can give drawing, instances" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()

    assert predict(model=boxes_checkpoint) == 0
    assert "panoptic isn't written" in capsys.readouterr().err
    assert predict("--write", "all", "--overwrite", model=boxes_checkpoint) == 2, "it was asked for"
    assert "<box label=" in (tmp_path / "out" / "cvat-xml" / "annotations.xml").read_text()


def bad_file(kind: str, path: Path) -> None:
    """Writes a file that can't be read as an image."""
    whole = path.parent / "whole.jpg"
    Image.effect_noise((80, 60), 50).save(whole)
    header = b"IHDR" + struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    huge = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    huge += struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))
    contents = {"text": b"no image", "empty": b"", "truncated": whole.read_bytes()[:1000], "huge": huge}
    whole.unlink()
    path.write_bytes(contents[kind])


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("text", "it is no image, or none of JPEG"),
        ("empty", "the file is empty"),
        ("truncated", "truncated"),
        ("huge", "more than 178,956,970 pixels; predict it by tiles with --tile"),
    ],
)
def test_bad_image_is_named_in_one_line_and_costs_no_other(
    predict: Run, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str, reason: str
) -> None:
    bad_file(kind, photos / "bad.png")

    assert predict("--write", "drawing") == 2

    printed = capsys.readouterr()
    (line,) = [line for line in printed.err.splitlines() if "bad.png" in line]
    assert line.startswith("skipped: ") and reason in line
    assert "3 of 4 images predicted, 1 skipped" in printed.out
    assert "drawings/bad.png" not in files_in(tmp_path / "out")


@pytest.mark.parametrize(
    ("mode", "size", "options"),
    [
        ("RGB", (1, 1), {}),
        ("CMYK", (60, 40), {"format": "TIFF"}),
        ("I;16", (60, 40), {"format": "PNG"}),
        ("RGB", (60, 40), {"format": "PNG"}),
        ("P", (60, 40), {"format": "GIF"}),
    ],
)
def test_unusual_images_are_predicted(
    predict: Run, tmp_path: Path, mode: str, size: tuple[int, int], options: dict[str, str]
) -> None:
    Image.new(mode, size).save(tmp_path / "odd.jpg", **{"format": "JPEG", **options})  # whatever it is called

    assert predict(inputs=[tmp_path / "odd.jpg"]) == 0

    (image,) = json.loads((tmp_path / "out" / "panoptic.json").read_text())["images"]
    assert (image["width"], image["height"]) == size


def test_animation_gives_its_first_frame_and_a_line(
    predict: Run, predictor: Predictor, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frames = [Image.open(photos / name).convert("P") for name in ("a.jpg", "b.jpg")]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])

    assert predict("--write", "panoptic", inputs=[tmp_path / "moving.gif"]) == 0

    assert "moving.gif has 2 frames; the first one is used" in capsys.readouterr().err
    frames[0].convert("RGB").save(tmp_path / "first.png")
    with Image.open(tmp_path / "out" / "panoptic" / "moving.png") as png:
        found = np.asarray(png)[:, :, 0]
    np.testing.assert_array_equal(found, predictor(tmp_path / "first.png").panoptic)


def test_turned_image_has_an_upright_result(predict: Run, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (60, 40)).save(tmp_path / "turned.jpg", exif=exif)

    assert predict("--write", "drawing,panoptic", inputs=[tmp_path / "turned.jpg"]) == 0

    with Image.open(tmp_path / "out" / "panoptic" / "turned.png") as png:
        assert png.size == (40, 60)


def test_inputs_without_images_are_said_before_anything_is_written(
    predict: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()

    assert predict(inputs=[tmp_path / "empty", tmp_path / "gone.jpg", Path("@gone")]) == 2

    error = capsys.readouterr().err
    assert "no image in this folder" in error and "there is no such file" in error and "Traceback" not in error
    assert "@gone: there is no list gone" in error
    assert not (tmp_path / "out").exists()


def test_output_that_can_not_be_written_is_one_line(
    predict: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").write_text("mine")
    assert predict() == 2
    assert "is a file; name a folder" in capsys.readouterr().err
    (tmp_path / "out").unlink()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("detr_d2.files.os.replace", full)
    assert predict() == 2
    error = capsys.readouterr().err
    assert "No space left on device. Make room" in error and "Traceback" not in error
    assert files_in(tmp_path / "out") == ["journal.jsonl"]


def test_unknown_kinds_of_results_are_named(predict: Run, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        predict("--write", "drawing,pdf")

    assert f"'pdf' is no kind of result; there are {', '.join(WRITERS)}, and all" in capsys.readouterr().err
