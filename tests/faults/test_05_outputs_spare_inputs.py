"""No output of evaluation, plots, weights and pages replaces a file that its command reads, nor another output."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from detr_d2.checkpoint import DetrCheckpointer
from detr_d2.cli import main
from detr_d2.errors import UserError
from tests.faults.evaluation_folders import (
    assert_one_sentence,
    evaluation_record,
    run_here,
    write_evaluation,
    write_metrics,
    write_panoptic,
)

from detectron2.config import CfgNode
from detectron2.modeling import build_model


def contents(folder: Path) -> dict[str, bytes]:
    """All files below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def assert_refused_and_spared(done: subprocess.CompletedProcess[str], folder: Path, before: dict[str, bytes]) -> None:
    assert_one_sentence(done, "would be replaced")
    assert contents(folder) == before


@pytest.mark.parametrize("option", ["--json", "--csv"])
@pytest.mark.parametrize("target", ["truth.json", "found.json", "truth/1.png", "found/2.png", "link.json", "hard.json"])
def test_pq_spares_both_json_files_and_their_pngs(option: str, target: str, tmp_path: Path) -> None:
    gt, found = write_panoptic(tmp_path, "truth"), write_panoptic(tmp_path, "found")
    (tmp_path / "link.json").symlink_to(gt)
    os.link(found, tmp_path / "hard.json")
    before = contents(tmp_path)

    done = run_here("pq", "--gt", gt, "--pred", found, option, tmp_path / target, cwd=tmp_path)

    assert_refused_and_spared(done, tmp_path, before)


def test_pq_refuses_one_file_for_two_outputs(tmp_path: Path) -> None:
    gt = write_panoptic(tmp_path, "truth")
    before = contents(tmp_path)

    done = run_here("pq", "--gt", gt, "--pred", gt, "--json", "out.txt", "--csv", tmp_path / "out.txt", cwd=tmp_path)

    assert_one_sentence(done, "--json", "--csv", "same file")
    assert contents(tmp_path) == before


@pytest.mark.parametrize("option", ["--json", "--page"])
@pytest.mark.parametrize("target", ["a/records.jsonl", "b/run.json", "b/previews.zip", "photo.jpg"])
def test_compare_spares_what_evaluations_left_and_their_images(option: str, target: str, tmp_path: Path) -> None:
    first, second = write_evaluation(tmp_path / "a"), write_evaluation(tmp_path / "b", shift=1)
    Image.new("RGB", (60, 40)).save(tmp_path / "photo.jpg")
    record = evaluation_record(0, 2) | {"file_name": str(tmp_path / "photo.jpg")}
    (first / "records.jsonl").write_text(json.dumps(record) + "\n")
    (second / "records.jsonl").write_text(json.dumps(record) + "\n")
    (second / "previews.zip").write_bytes(b"")
    before = contents(tmp_path)

    done = run_here("compare", first, second, option, tmp_path / target, cwd=tmp_path)

    assert_refused_and_spared(done, tmp_path, before)


def test_compare_refuses_one_file_for_two_outputs(tmp_path: Path) -> None:
    first, second = write_evaluation(tmp_path / "a"), write_evaluation(tmp_path / "b", shift=1)

    done = run_here("compare", first, second, "--json", "x.html", "--page", "./x.html", cwd=tmp_path)

    assert_one_sentence(done, "same file")
    assert not (tmp_path / "x.html").exists()


@pytest.mark.parametrize("name", ["report.html", "report.json", "per_class.csv"])
def test_report_spares_what_the_evaluation_left(name: str, tmp_path: Path) -> None:
    folder = write_evaluation(tmp_path / "run")
    (tmp_path / "out").mkdir()
    os.link(folder / "records.jsonl", tmp_path / "out" / name)
    before = contents(tmp_path)

    done = run_here("report", folder, "--output", tmp_path / "out", cwd=tmp_path)

    assert_refused_and_spared(done, tmp_path, before)


@pytest.mark.parametrize("name", ["metrics.png", "metrics.html"])
def test_plot_spares_its_runs(name: str, tmp_path: Path) -> None:
    run = write_metrics(tmp_path / "run")
    (run / "metrics.json").rename(run / name)
    before = contents(tmp_path)

    done = run_here("plot", f"plain={run / name}", "--out", run / name, cwd=tmp_path)

    assert_refused_and_spared(done, tmp_path, before)


def test_plot_spares_a_run_that_is_named_by_its_folder(tmp_path: Path) -> None:
    run = write_metrics(tmp_path / "run")
    (tmp_path / "curves.png").symlink_to(run / "metrics.json")
    before = contents(tmp_path)

    done = run_here("plot", run, "--out", tmp_path / "curves.png", cwd=tmp_path)

    assert_refused_and_spared(done, tmp_path, before)


@pytest.fixture
def checkpoint(tiny_config: Callable[..., CfgNode], tmp_path: Path) -> Path:
    """A very small panoptic model's file."""
    cfg = tiny_config("MODEL.DETR.MASK_ON", True, "DATALOADER.NUM_WORKERS", 0)
    model = build_model(cfg)
    model.model_recipe = cfg
    DetrCheckpointer(model, str(tmp_path)).save("model")
    return tmp_path / "model.pth"


def assert_refused_in_process(words: list[str], spared: list[Path], message: str = "would be replaced") -> None:
    before = [path.read_bytes() for path in spared]

    with pytest.raises(UserError, match=message):
        main(words)

    assert [path.read_bytes() for path in spared] == before


@pytest.mark.parametrize("words", [["--force", "--store"], ["--json"]])
@pytest.mark.parametrize("target", ["weights", "register", "dataset"])
def test_sweep_spares_weights_and_dataset(words: list[str], target: str, checkpoint: Path, yard_folder: Path) -> None:
    register = yard_folder / "register.yaml"
    files = {"weights": checkpoint, "register": register, "dataset": yard_folder / "panoptic_val.json"}

    assert_refused_in_process(
        ["sweep", str(checkpoint), "--dataset", "yard_val", "--register", str(register), *words, str(files[target])],
        list(files.values()),
    )


def test_sweep_refuses_one_file_for_two_outputs(checkpoint: Path, yard_folder: Path, tmp_path: Path) -> None:
    words = ["--register", str(yard_folder / "register.yaml"), "--store", str(tmp_path / "x"), "--json"]

    with pytest.raises(UserError, match="same file"):
        main(["sweep", str(checkpoint), "--dataset", "yard_val", *words, str(tmp_path / "." / "x")])


def test_convert_weights_spares_its_input(checkpoint: Path) -> None:
    assert_refused_in_process(["convert-weights", str(checkpoint), str(checkpoint), "--force"], [checkpoint])


def test_convert_weights_spares_a_folder_of_hugging_face(tmp_path: Path) -> None:
    folder = tmp_path / "saved"
    folder.mkdir()
    for name in ("config.json", "pytorch_model.bin"):
        (folder / name).write_text("{}")

    assert_refused_in_process(
        ["convert-weights", str(folder), str(folder / "config.json"), "--force"], [folder / "config.json"]
    )


@pytest.mark.parametrize("target", ["checkpoint", "config"])
def test_export_spares_checkpoint_and_config(
    target: str, checkpoint: Path, tiny_config: Callable[..., CfgNode], tmp_path: Path
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(tiny_config("MODEL.DETR.MASK_ON", True).dump())
    output = {"checkpoint": checkpoint, "config": config}[target]

    assert_refused_in_process(
        ["export", str(checkpoint), str(output), "--format", "torch", "--config-file", str(config)],
        [checkpoint, config],
    )


@pytest.mark.parametrize("source", ["panoptic_val.json", "register.yaml", "images/yard_val_000000.jpg"])
def test_browse_spares_its_dataset(source: str, yard_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "pages").mkdir()
    path = yard_folder / source
    if source.startswith("images"):
        path = sorted((yard_folder / "images").iterdir())[-1]
    os.link(path, tmp_path / "pages" / "yard_val.html")

    assert_refused_in_process(["browse", str(yard_folder / "register.yaml"), "--out", str(tmp_path / "pages")], [path])


def test_browse_gives_each_dataset_a_page_of_its_own(yard_folder: Path, tmp_path: Path) -> None:
    names = [f"browse {tmp_path.name} a", f"browse_{tmp_path.name}_a", f"browse_{tmp_path.name}_A"]
    entries = [
        f"- name: {name}\n  images: {yard_folder}/images\n  panoptic_json: {yard_folder}/panoptic_val.json\n"
        f"  panoptic_root: {yard_folder}/panoptic\n"
        for name in names
    ]
    (tmp_path / "register.yaml").write_text("".join(entries))

    assert main(["browse", str(tmp_path / "register.yaml"), "--out", str(tmp_path / "pages"), "--limit", "1"]) == 0

    titles = [name for name in names if any(name in page.read_text() for page in (tmp_path / "pages").iterdir())]
    assert titles == names
    assert len({page.name.casefold() for page in (tmp_path / "pages").iterdir()}) == 3


@pytest.mark.parametrize("target", ["pipe", "folder"])
def test_outputs_are_files_and_devices_stay_what_they_are(target: str, tmp_path: Path) -> None:
    gt = write_panoptic(tmp_path, "truth")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    path = target if target.startswith("/") else tmp_path / target
    mode = os.stat(path).st_mode

    done = run_here("pq", "--gt", gt, "--pred", gt, "--json", path, cwd=tmp_path)

    assert_one_sentence(done, "a regular file is needed")
    assert os.stat(path).st_mode == mode
