"""Commands that need neither torch nor a detectron2 don't wait for them; 'import detr_d2' in a script registers all."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.evaluation_folders import (
    PROJECT,
    assert_one_sentence,
    run_command,
    write_evaluation,
    write_metrics,
    write_panoptic,
)

HEAVY = ("torch", "torchvision", "detectron2", "fvcore")
#: Files of this project, packages' own not counted, that a look at a dataset's JSON may need.
MOST_FILES = 35


def modules_of(done: subprocess.CompletedProcess[str]) -> set[str]:
    """Modules that a run with ``-X importtime`` has imported."""
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    assert len(lines) > 50
    return {line.rsplit("|", 1)[1].strip() for line in lines}


def imported_by(done: subprocess.CompletedProcess[str]) -> set[str]:
    """Top-level packages that a run with ``-X importtime`` has imported."""
    return {name.split(".")[0] for name in modules_of(done)}


def pq_words(folder: Path) -> list[str | os.PathLike[str]]:
    gt, found = write_panoptic(folder, "truth"), write_panoptic(folder, "found", shift=1)
    return [
        "pq",
        "--gt",
        gt,
        "--pred",
        found,
        "--per-class",
        "--json",
        folder / "pq.json",
        "--csv",
        folder / "c.csv",
    ]


def compare_words(folder: Path) -> list[str | os.PathLike[str]]:
    return ["compare", write_evaluation(folder / "a"), write_evaluation(folder / "b", shift=1)]


def yard_words(folder: Path) -> list[str | os.PathLike[str]]:
    return ["yard", folder / "yard", "--train", "2", "--val", "1"]


def check_words(folder: Path) -> list[str | os.PathLike[str]]:
    assert run_command(*yard_words(folder), cwd=folder).returncode == 0
    return ["check", folder / "yard"]


def prepare_words(folder: Path) -> list[str | os.PathLike[str]]:
    assert run_command(*yard_words(folder), "--layout", "cvat", cwd=folder).returncode == 0
    return [
        *("prepare", "--cvat", folder / "yard" / "cvat", "--stuff", "masks", folder / "yard" / "stuff"),
        *("--overlap", "last", "--out", folder / "prepared"),
    ]


def report_words(folder: Path) -> list[str | os.PathLike[str]]:
    assert run_command(*yard_words(folder), cwd=folder).returncode == 0
    config = f"DATASETS:\n  REGISTER: [{folder}/yard/register.yaml]\n  TRAIN: [yard_train]\n"
    return ["report", write_evaluation(folder / "evaluation", config=config)]


CASES: dict[str, Callable[[Path], list[str | os.PathLike[str]]]] = {
    "help": lambda folder: ["--help"],
    "version": lambda folder: ["--version"],
    "check --help": lambda folder: ["check", "--help"],
    "weights --help": lambda folder: ["weights", "--help"],
    "pq": pq_words,
    "pq --bootstrap": lambda folder: [*pq_words(folder), "--bootstrap", "10"],
    "compare": compare_words,
    "report": report_words,
    "plot": lambda folder: ["plot", write_metrics(folder / "run"), "--out", folder / "curves.png"],
    "plot html": lambda folder: ["plot", write_metrics(folder / "run"), "--out", folder / "curves.html"],
    "yard": yard_words,
    "check": check_words,
    "prepare": prepare_words,
}


@pytest.mark.parametrize("name", CASES)
def test_command_without_a_model_imports_neither_torch_nor_detectron2(name: str, tmp_path: Path) -> None:
    words = CASES[name](tmp_path)

    done = run_command(*words, cwd=tmp_path, options=("-X", "importtime"))

    assert imported_by(done).isdisjoint(HEAVY)


def test_quick_check_imports_few_files_and_nothing_that_reads_images(tmp_path: Path) -> None:
    words = check_words(tmp_path)

    modules = modules_of(run_command(*words, "--quick", cwd=tmp_path, options=("-X", "importtime")))

    own = {name for name in modules if name.startswith("detr_d2")}
    files = [name for name in own if not any(other.startswith(f"{name}.") for other in own)]
    assert len(files) <= MOST_FILES, sorted(files)
    assert {"PIL.Image", "imagehash"}.isdisjoint(modules)


def test_pq_that_refuses_its_files_imports_no_torch_either(tmp_path: Path) -> None:
    gt = write_panoptic(tmp_path, "truth")
    (tmp_path / "truth" / "0.png").unlink()

    done = run_command("pq", "--gt", gt, "--pred", gt, cwd=tmp_path, options=("-X", "importtime"))

    assert done.returncode == 2
    assert "0.png isn't there" in done.stderr
    assert not any(line.rsplit("|", 1)[-1].strip() == "torch" for line in done.stderr.splitlines())


def test_installed_command_starts_without_torch(tmp_path: Path) -> None:
    script = tmp_path / "bin" / "detr-d2"
    script.parent.mkdir()
    script.write_text(
        "import sys\nfrom detr_d2.__main__ import main\nif __name__ == '__main__':\n    sys.exit(main())\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}

    command = [sys.executable, "-X", "importtime", str(script), *map(str, pq_words(tmp_path))]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)

    assert imported_by(done).isdisjoint(HEAVY)


SCRIPT = """
import json, sys
import detr_d2
from detectron2.data import DatasetCatalog
from detectron2.modeling import META_ARCH_REGISTRY
print(json.dumps(["DetrPanoptic" in META_ARCH_REGISTRY, "construction_panoptic_train" in DatasetCatalog.list()]))
"""


@pytest.mark.parametrize("name", ["train.py", "pq.py", "detr_d2_tool.py"])
def test_import_in_a_script_registers_model_and_datasets(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(SCRIPT)

    done = subprocess.run(
        [sys.executable, str(tmp_path / name), "pq"],
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [True, True]


def test_import_in_another_program_that_is_run_as_a_module_registers_all(tmp_path: Path) -> None:
    package = tmp_path / "my_program"
    package.mkdir()
    (package / "__init__.py").write_text("import detr_d2\n")
    (package / "__main__.py").write_text(SCRIPT)

    done = subprocess.run(
        [sys.executable, "-m", "my_program", "detr_d2"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(PROJECT), str(tmp_path)])},
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [True, True]


def test_labelling_function_of_the_user_may_use_detectron2(tmp_path: Path) -> None:
    assert run_command(*yard_words(tmp_path), "--layout", "cvat", cwd=tmp_path).returncode == 0
    (tmp_path / "my_labels.py").write_text(
        "import numpy as np\nimport detr_d2\nfrom detectron2.modeling import META_ARCH_REGISTRY\n"
        "assert 'DetrPanoptic' in META_ARCH_REGISTRY\n"
        "def label(pixels):\n    return np.ones(pixels.shape[:2], np.int64), [{'id': 1, 'name': 'sky-other-merged'}]\n"
    )

    done = run_command(
        *("prepare", "--cvat", tmp_path / "yard" / "cvat", "--stuff", "model", "my_labels:label", "--overlap", "last"),
        *("--out", tmp_path / "prepared"),
        cwd=tmp_path,
    )

    assert done.returncode == 0, done.stdout + done.stderr


def test_commands_for_models_and_catalogs_get_all_that_they_need(tmp_path: Path) -> None:
    import torch

    assert run_command(*yard_words(tmp_path), cwd=tmp_path).returncode == 0
    resnet = {"conv1.weight": torch.zeros(64, 3, 7, 7), "bn1.weight": torch.zeros(64)}
    torch.save(resnet, tmp_path / "resnet.pth")

    env = run_command("env", cwd=tmp_path)
    browse = run_command("browse", tmp_path / "yard", "--augmented", "--limit", "1", cwd=tmp_path)
    weights = run_command("weights", tmp_path / "resnet.pth", cwd=tmp_path)
    by_name = run_command("check", "construction_panoptic_val", cwd=tmp_path)

    assert env.returncode == 0 and "detectron2" in env.stdout, env.stderr
    assert browse.returncode == 0 and "yard_train.html" in browse.stdout, browse.stderr
    assert weights.returncode == 0 and "backbone" in weights.stdout, weights.stderr
    assert by_name.returncode == 1 and "construction" in by_name.stdout, by_name.stdout
    assert "Traceback" not in by_name.stderr


def test_backend_that_cannot_be_used_is_one_sentence_where_it_is_needed(tmp_path: Path) -> None:
    wrong = {"DETR_D2_BACKEND": "nonsense"}

    needed = run_command("env", cwd=tmp_path, environment=wrong)
    not_needed = run_command("pq", "--help", cwd=tmp_path, environment=wrong)

    assert_one_sentence(needed, "nonsense", "allowed are")
    assert not_needed.returncode == 0
