"""``detr-d2 plot``: several runs in one image or on one page."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from detr_d2.cli import main
from detr_d2.errors import ConfigError, DatasetError, MissingFileError
from detr_d2.training.plot.page import write_runs_page
from detr_d2.training.plot.runs import MAX_POINTS, Run, panels_of, read_metrics, read_runs


def _write_run(folder: Path, iterations: int = 100, quality: bool = True) -> Path:
    folder.mkdir(parents=True)
    with open(folder / "metrics.json", "w") as file:
        for iteration in range(19, iterations, 20):
            line = {"iteration": iteration, "total_loss": 100 / (iteration + 1), "lr": 1e-4, "time": 0.5}
            if quality and iteration % 40 == 39:
                line |= {"panoptic_seg/PQ": iteration / 2, "validation/total_loss": 120 / iteration}
                line |= {"panoptic_interval/PQ_low": iteration / 3, "panoptic_interval/PQ_high": iteration / 1.5}
            file.write(json.dumps(line) + "\n")
    return folder


@pytest.fixture
def runs(tmp_path: Path) -> list[str]:
    return [str(_write_run(tmp_path / "a" / "stage")), str(_write_run(tmp_path / "b" / "stage", 200, quality=False))]


def test_runs_are_called_as_the_parts_of_their_paths_that_differ(runs):
    assert [run.name for run in read_runs(runs)] == ["a/stage", "b/stage"]
    assert [run.name for run in read_runs(runs[:1])] == ["stage"]


def test_run_can_be_named(runs):
    first, second = read_runs([f"first try={runs[0]}", f"second={runs[1]}/metrics.json"])

    assert (first.name, second.name) == ("first try", "second")
    assert first.iterations == 99 and second.iterations == 199


def test_runs_of_one_name_are_refused(runs):
    with pytest.raises(ConfigError, match="called x"):
        read_runs([f"x={runs[0]}", f"x={runs[1]}"])
    with pytest.raises(ConfigError, match="NAME=PATH"):
        read_runs([runs[0], runs[0]])


def test_panels_are_those_that_some_run_has(runs):
    panels = {panel.title: panel for panel in panels_of(read_runs(runs))}

    assert list(panels) == ["total loss", "PQ", "learning rate"]
    labels = [(line.run, line.label, line.is_evaluation) for line in panels["total loss"].lines]
    assert labels == [(0, "a/stage", False), (0, "a/stage, validation", True), (1, "b/stage", False)]
    assert panels["PQ"].lines[0].values == [19.5, 39.5] and panels["PQ"].limits()[0] == 0


def test_several_test_sets_have_a_line_each():
    run = Run("r", {"x/panoptic_seg/PQ": {9: 1.0}, "y/panoptic_seg/PQ": {9: 2.0}, "y/panoptic_seg/PQ_th": {9: 5.0}})

    panel = panels_of([run])[0]

    assert [(line.label, line.values) for line in panel.lines] == [("r, x", [1.0]), ("r, y", [2.0])]


def test_intervals_belong_to_their_dataset_and_are_shown_whole():
    ends = {"x/panoptic_interval/PQ_low": {9: 1.0, 19: 2.0}, "x/panoptic_interval/PQ_high": {9: 30.0}}
    run = Run("r", {"x/panoptic_seg/PQ": {9: 5.0, 19: 6.0}, "y/panoptic_seg/PQ": {9: 2.0}, **ends})

    panel = panels_of([run])[0]

    assert [line.interval for line in panel.lines] == [[(9, 1.0, 30.0)], []]
    assert panel.limits() == (0.0, 30.0)


def test_long_lines_are_thinned_to_means():
    values = {iteration: float(iteration % 2) for iteration in range(10 * MAX_POINTS)}

    line = panels_of([Run("r", {"total_loss": values})])[0].lines[0]

    assert len(line.values) == MAX_POINTS and set(line.values) == {0.5}
    assert line.iterations[0] == 4.5


def test_smoothing_is_that_of_detrs_plots():
    values = [5.0, 3.0, 4.0]
    run = Run("r", {"total_loss": dict(enumerate(values)), "validation/total_loss": dict(enumerate(values))})

    training, evaluation = panels_of([run], smooth=2)[0].lines

    # pandas' ewm(com=2): a value n steps back weighs (2/3) ** n.
    third = (4 + 2 / 3 * 3 + 4 / 9 * 5) / (1 + 2 / 3 + 4 / 9)
    assert training.values == pytest.approx([5.0, (3 + 2 / 3 * 5) / (1 + 2 / 3), third])
    assert evaluation.values == values


def test_first_losses_do_not_stretch_a_panel():
    run = Run("r", {"total_loss": {i: 1000.0 if i < 4 else 2.0 + i / 100 for i in range(100)}})

    assert panels_of([run])[0].limits()[1] < 4


@pytest.mark.parametrize("name", ["out/curves.png", "out/curves.html"])
def test_command_writes_the_image_or_the_page(runs, tmp_path, capsys, name):
    assert main(["plot", *runs, "--out", str(tmp_path / name), "--smooth", "3"]) == 0

    assert "shows 2 runs" in capsys.readouterr().out
    if name.endswith("png"):
        assert Image.open(tmp_path / name).size[0] > 700
    else:
        page = (tmp_path / name).read_text()
        assert (
            "a/stage" in page
            and page.count("<polyline") == 6
            and page.count("<polygon") == 1
            and "http:" not in page
            and "https:" not in page
        )


@pytest.mark.parametrize(
    ("arguments", "error"),
    [(["--out", "x.pdf"], ConfigError), (["--smooth", "-1"], ConfigError), (["no/such"], MissingFileError)],
)
def test_command_refuses_what_it_cannot_do(runs, tmp_path, monkeypatch, arguments, error):
    monkeypatch.chdir(tmp_path)

    with pytest.raises(error):
        main(["plot", runs[0], *arguments])

    assert not (tmp_path / "curves.png").exists()


def test_page_reads_values_and_switches_runs_off_in_a_browser(runs, tmp_path):
    browser = shutil.which("chromium")
    if browser is None:
        pytest.skip("chromium isn't installed (Debian's package chromium)")
    page = write_runs_page(read_runs(runs), tmp_path / "page.html")
    action = """document.querySelector('input[data-run="1"]').click();
      document.querySelector(".chart svg").dispatchEvent(new KeyboardEvent("keydown", {key: "ArrowLeft"}));"""
    page.write_text(page.read_text().replace("</script>\n</body>", f"{action}</script>\n</body>"))
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]

    command = [browser, *options, "--dump-dom", page.as_uri()]
    elements = subprocess.run(command, check=True, capture_output=True, text=True, timeout=3600).stdout

    assert '<body class="without-1">' in elements
    reading = elements.split('<ul class="reading"')[1].split("</ul>")[0]
    assert "a/stage: 1 at 99" in reading and "a/stage, validation: " in reading and "b/stage" not in reading


def write_metrics(path: Path, *records: dict[str, Any] | str) -> Path:
    lines = [record if isinstance(record, str) else json.dumps(record) for record in records]
    path.write_text("\n".join(lines))
    return path


def test_metrics_leave_out_partial_lines_and_what_is_no_number(tmp_path: Path) -> None:
    file = write_metrics(
        tmp_path / "metrics.json",
        {"iteration": 19, "total_loss": 3.0, "lr": 0.1},
        {"iteration": 39, "total_loss": float("nan"), "lr": float("inf"), "note": "text"},
        "[1, 2]",
        {"total_loss": 5.0},
        {"iteration": 59, "total_loss": 2.0},
        '{"iteration": 79, "total_lo',
    )

    assert read_metrics(file) == {"total_loss": {19: 3.0, 59: 2.0}, "lr": {19: 0.1}}
    assert read_metrics(tmp_path) == read_metrics(file), "the folder will do"


def test_metrics_of_a_restarted_run_are_the_last_ones(tmp_path: Path) -> None:
    file = write_metrics(
        tmp_path / "metrics.json",
        {"iteration": 19, "total_loss": 3.0},
        {"iteration": 39, "total_loss": 2.0},
        {"iteration": 39, "panoptic_seg/PQ": 50.0},
        {"iteration": 59, "total_loss": 1.0},
        {"iteration": 39, "total_loss": 2.5},
    )

    assert read_metrics(file) == {"total_loss": {19: 3.0, 39: 2.5}}


def test_metrics_of_one_iteration_may_come_in_two_lines(tmp_path: Path) -> None:
    file = write_metrics(
        tmp_path / "metrics.json",
        {"iteration": 60, "panoptic_seg/PQ": 50.0},
        {"iteration": 59, "total_loss": 1.0},
    )

    assert read_metrics(file) == {"panoptic_seg/PQ": {60: 50.0}, "total_loss": {59: 1.0}}


def test_metrics_that_are_absent_or_empty_are_named(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"metrics\.json isn't there"):
        read_metrics(tmp_path)
    with pytest.raises(DatasetError, match="holds no metrics"):
        read_metrics(write_metrics(tmp_path / "metrics.json", "nothing"))


def test_a_folder_around_runs_names_them(tmp_path: Path) -> None:
    (tmp_path / "stage1").mkdir()
    write_metrics(tmp_path / "stage1" / "metrics.json", {"iteration": 1, "total_loss": 1.0})

    with pytest.raises(MissingFileError, match=r"such as .*stage1"):
        read_metrics(tmp_path)
