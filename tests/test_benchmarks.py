"""The benchmarks compare like with like, and deliver what they measured."""

from __future__ import annotations

import argparse
import importlib
import json
import runpy
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from detr_d2.errors import MissingFileError, UserError

BENCHMARKS = ("benchmark_inference", "benchmark_training", "benchmark_scaling", "benchmark_pq")


@pytest.fixture
def tool(project_folder: Path, monkeypatch: pytest.MonkeyPatch):
    """Imports a module of tools/ by name."""
    monkeypatch.syspath_prepend(str(project_folder / "tools"))
    return importlib.import_module


@pytest.fixture
def setting(tool):
    return tool("benchmarking.models").Setting(64, 98, classes=20, queries=8, kept=3, small=True)


def test_as_many_queries_are_kept_as_the_setting_says(tool):
    from detr_d2.modeling import kept_queries

    setting = tool("benchmarking.models").Setting(kept=15)

    _, kept, _, classes = kept_queries(setting.class_logits()[None], threshold=0.85)

    assert kept.tolist() == setting.kept_queries().tolist() and len(set(classes.tolist())) == 15


def test_implementations_agree_on_masks_and_map(tool, setting):
    pytest.importorskip("transformers")

    ours, theirs = tool("benchmark_inference").compare(["detr_d2", "transformers"], setting, 1, None)

    assert ours["seconds"] > 0 and theirs["seconds"] > 0
    assert theirs["difference"] <= 1e-4 and theirs["changed"] == 0
    assert ours["floor"] > 0 and ours["products"] > 50


@pytest.mark.parametrize("frozen", [True, False])
def test_implementations_agree_on_mask_losses(tool, setting, frozen):
    pytest.importorskip("transformers")
    names = ["detr_d2", "transformers", "detr_d2, masks recomputed"]

    rows = tool("benchmark_training").compare(names, setting, 3, frozen, 1, None)

    assert all(row["difference"] <= 1e-4 for row in rows)


def test_floor_counts_convolutions_and_products_and_nothing_else(tool):
    floor_seconds = tool("benchmarking.floor").floor_seconds
    calls = []
    images, weights = torch.rand(1, 3, 8, 8), torch.rand(4, 3, 3, 3)

    @torch.inference_mode()
    def run():
        calls.append(torch.nn.functional.conv2d(images, weights).relu() @ torch.rand(6, 2))

    seconds, count = floor_seconds(run, 2, lambda: calls.append("waited"))

    assert count == 2 and seconds > 0
    assert calls.count("waited") == 6


def test_gpu_that_is_not_there_is_refused(tool, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    report = tool("benchmarking.report")

    with pytest.raises(UserError, match="--device cuda needs a GPU"):
        report.compared(argparse.Namespace(device="cuda", reference=None, variants=False), [])


def test_accelerations_are_taken_away_one_at_a_time(tool, setting):
    from detr_d2.acceleration import ACCELERATIONS

    chosen = tool("benchmarking.accelerations").variants()
    rows = tool("benchmark_inference").accelerations(setting, 1)

    assert [row["accelerations"] for row in rows] == list(chosen)
    assert chosen["none"] == () and set(chosen["all"]) == set(ACCELERATIONS)
    assert all(set(ACCELERATIONS) - set(chosen[f"without {name}"]) == {name} for name in ACCELERATIONS)
    assert rows[0]["× all"] == 1 and all(row["processor seconds"] > 0 for row in rows)


@pytest.mark.parametrize("frozen", [True, False])
def test_plain_and_accelerated_steps_have_the_same_losses(tool, setting, frozen):
    training = tool("benchmarking.training")
    plain, fast = (training.ours(setting, 3, frozen, accelerations=names) for names in ((), None))
    plain.model.load_state_dict(fast.model.state_dict())

    assert type(plain.model.mask_head) is not type(fast.model.mask_head)
    assert plain.run() == pytest.approx(fast.run(), rel=1e-4)


def test_bfloat16_is_near_float32(tool, setting):
    inference = tool("benchmarking.inference")
    full = inference.ours(setting)
    half = inference.ours(setting, "MODEL.DETR.INFERENCE_DTYPE", "bfloat16")
    tool("benchmarking.models").share_weights(full.model, half.model)

    difference = inference.mask_difference(full.masks(), half.masks())

    assert 0 < difference < 1


def test_pixels_change_only_where_masks_are_not_tied(tool, setting):
    changed_pixels = tool("benchmarking.inference").changed_pixels
    masks = torch.randn(3, 16, 25)
    tied, other = masks.clone(), masks.clone()
    tied[1], other[0] = tied[0], -masks[0]

    assert changed_pixels(masks, masks, setting) == 0
    assert changed_pixels(tied.flip(0), tied, setting) > 0
    assert changed_pixels(masks, other, setting) > 0


def test_scaling_varies_one_thing_at_a_time_and_draws_it(tool, setting, tmp_path):
    scaling = tool("benchmark_scaling")
    points = scaling.points(tool("benchmarking.models").Setting())
    rows = [
        {"varied": what, "value": value, "seconds": 2 * value, "MiB": 100 + value} | vars(point)
        for what, value, point in points
    ]

    scaling.draw(rows, tmp_path / "new" / "scaling.png")

    assert {what for what, _, _ in points} == {"megapixels", "kept queries", "images a batch", "queries"}
    assert (tmp_path / "new" / "scaling.png").read_bytes()[:4] == b"\x89PNG"
    assert "kept queries: " in scaling._growth(rows)[0] and "R² 1.000" in scaling._growth(rows)[0]
    assert scaling.measure(setting, 1, 1)[0] > 0


def peak_of_64_mebibytes():
    from benchmarking.measure import peak_above_now

    torch.ones(1).sum()
    return peak_above_now(lambda: torch.ones(2**24).sum())


def test_peak_memory_sees_what_is_freed_again(tool):
    mebibytes = tool("benchmarking.measure").in_fresh_process(peak_of_64_mebibytes)

    assert 60 < mebibytes < 120


def test_figures_go_to_json_and_between_the_lines_of_a_document(tool, tmp_path, capsys):
    report = tool("benchmarking.report")
    document, figures = tmp_path / "document.md", tmp_path / "figures.json"
    document.write_text("before\n<!-- part -->\nold\n<!-- end of part -->\nafter\n", encoding="utf-8")
    args = argparse.Namespace(json=figures, write=document)

    report.deliver("part", "new", {"seconds": 1.5}, args)

    assert document.read_text(encoding="utf-8") == "before\n<!-- part -->\nnew\n<!-- end of part -->\nafter\n"
    assert json.loads(figures.read_text()) == {"seconds": 1.5}
    assert capsys.readouterr().out == "new\n"
    with pytest.raises(UserError, match="end of other"):
        report.write_part(document, "other", "new")


def test_folder_without_a_clone_is_named(tool, setting, tmp_path):
    with pytest.raises(MissingFileError, match=r"segmentation\.py is absent"):
        tool("benchmarking.models").build_reference(tmp_path, setting)


def test_performance_document_has_a_part_for_every_benchmark(project_folder):
    document = (project_folder / "docs" / "performance.md").read_text(encoding="utf-8")

    parts = (*BENCHMARKS, *(f"{name}_accelerations" for name in BENCHMARKS[:2]))
    assert all(f"<!-- {name} -->" in document and f"<!-- end of {name} -->" in document for name in parts)


@pytest.mark.parametrize("name", BENCHMARKS)
def test_help_has_an_example(name, project_folder, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    monkeypatch.syspath_prepend(str(project_folder / "tools"))

    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(project_folder / "tools" / f"{name}.py"), run_name="__main__")

    assert ended.value.code == 0
    assert f"python tools/{name}.py --short" in capsys.readouterr().out


@pytest.mark.slow
def test_short_benchmark_prints_the_ratio_and_measures_memory(tool, project_folder, monkeypatch, capsys):
    pytest.importorskip("transformers")
    monkeypatch.setattr(sys, "argv", ["benchmark_inference", "--short", "--repeats", "1", "--threads", "1"])
    module: ModuleType = tool("benchmark_inference")

    assert module.main() == 0

    printed = capsys.readouterr().out
    assert "× ours" in printed and "transformers" in printed and "1 threads" in printed
