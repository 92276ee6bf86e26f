"""Commands in folders of odd names, without rights, without space, with little memory."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import detr_d2
from tests.conftest import PROJECT_FOLDER, TINY_MODEL
from tests.prediction.conftest import write_checkpoint

NAMES = ["with space", "ünï çødé 日本", "x" * 200, "-dash", "%41[a]*?", "'quotes\" $HOME"]
#: Of a user that nothing on this machine knows, as in a container.
USER = 54321
#: Such a user may read everything here, as the tests' folders are their user's own, but writes as permissions say.
AS_USER = ("setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups")
AS_USER = (*AS_USER, "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")
#: Runs a command with a disk of 3 MiB in the first argument's place, and copies what is on it to the second.
ON_SMALL_DISK = """
disk=$1 kept=$2; shift 2
mount -t tmpfs -o size=3m tmpfs "$disk" || exit 99
"$@"; code=$?
cp "$disk"/*.pth "$disk"/last_checkpoint "$kept"
exit $code
"""
OWN_MOUNTS = ("unshare", "--user", "--map-root-user", "--mount")


def run(
    folder: Path, *command: object, source: Path = PROJECT_FOLDER, memory: int = 0, **environ: str
) -> subprocess.CompletedProcess[str]:
    """Runs a command in ``folder`` with the package of ``source``, and at most so many bytes of memory."""

    def limit() -> None:
        if memory:
            resource.setrlimit(resource.RLIMIT_AS, (memory, memory))

    usual = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment = usual | {"PYTHONPATH": str(source), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"} | environ
    words = [str(word) for word in command]
    return subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, preexec_fn=limit)


def run_detr_d2(folder: Path, *words: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """``detr-d2`` in a process of its own."""
    return run(folder, sys.executable, "-m", "detr_d2", *words, **options)


def is_one_sentence(done: subprocess.CompletedProcess[str]) -> bool:
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    return done.returncode == 2 and len(errors) == 1 and "Traceback" not in done.stdout + done.stderr


@pytest.fixture(scope="module")
def commands(yard_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Callable[..., list[object]]]:
    """By name, what makes a command that writes into a folder; train_net.py may be another source's."""
    folder = tmp_path_factory.mktemp("environments")
    weights = write_checkpoint(folder, yard_folder, "model", "MODEL.DETR.MASK_ON", True)
    cfg = detr_d2.load_config(str(PROJECT_FOLDER / "configs" / "quickstart" / "detr_yard.yaml"))
    cfg.merge_from_list([*TINY_MODEL, "DATASETS.TEST", (), "DATALOADER.NUM_WORKERS", 0])
    cfg.merge_from_list(["DATASETS.REGISTER", [str(yard_folder / "register.yaml")]])
    (folder / "config.yaml").write_text(cfg.dump())
    labels, pngs = (
        yard_folder / "panoptic_val.json",
        [f"--{side}-folder={yard_folder / 'panoptic'}" for side in ("gt", "pred")],
    )
    photo = sorted((yard_folder / "images").iterdir())[0]
    program = [sys.executable, "-m", "detr_d2"]
    return {
        "check": lambda out: [*program, "check", yard_folder, "--json", out / "faults.json"],
        "pq": lambda out: [*program, "pq", "--gt", labels, "--pred", labels, *pngs, "--json", out / "pq.json"],
        "predict": lambda out: [*program, "predict", weights, photo, "--device", "cpu", "--out", out / "results"],
        "train": lambda out, source=PROJECT_FOLDER: [
            *(sys.executable, "-W", "ignore", source / "train_net.py", "--config-file", folder / "config.yaml"),
            *("OUTPUT_DIR", out / "output"),
        ],
    }


#: What each of them is sure to write.
WRITTEN = {"check": "faults.json", "pq": "pq.json", "predict": "results/drawings", "train": "output/model_final.pth"}


@pytest.mark.parametrize("name", NAMES)
def test_dataset_is_made_and_checked_in_a_folder_of_any_name(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    relative = f"./{name}/yard"

    made = run_detr_d2(tmp_path, "yard", relative, "--train", "1", "--val", "1", "--size", "64x48")
    checked = run_detr_d2(tmp_path, "check", relative, "--json", f"./{name}/faults.json")

    assert (made.returncode, checked.returncode) == (0, 0), made.stderr + checked.stderr
    assert sorted(os.listdir(tmp_path / name)) == ["faults.json", "yard"]


# --- without rights ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def as_user() -> tuple[str, ...]:
    """What a command begins with, so that permissions hold for it."""
    if os.geteuid() != 0:
        return ()
    if shutil.which("setpriv") is None or run(Path("/"), *AS_USER, "true").returncode:
        pytest.skip("the tests are root's, for whom permissions don't hold, and setpriv can't change the user")
    return AS_USER


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """An empty folder that every user may look for, which pytest's are not."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


@pytest.fixture(scope="module")
def read_only_source(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A copy of what is run, without compiled files and without permission to write any."""
    folder = tmp_path_factory.mktemp("installed") / "source"
    for name in ("detr_d2", "configs"):
        shutil.copytree(PROJECT_FOLDER / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(PROJECT_FOLDER / "train_net.py", folder)
    everything = [folder, *folder.rglob("*")]
    for path in everything:
        path.chmod(path.stat().st_mode & ~0o222)
    yield folder
    for path in everything:
        path.chmod(path.stat().st_mode | 0o200)


@pytest.mark.parametrize("name", list(WRITTEN))
def test_user_without_a_home_runs_source_that_is_read_only(
    commands: Any, as_user: tuple[str, ...], read_only_source: Path, open_folder: Path, name: str
) -> None:
    out = open_folder / "out"
    out.mkdir()
    out.chmod(0o777)
    before = sorted(read_only_source.rglob("*"))

    words = commands[name](out, *([read_only_source] if name == "train" else []))
    done = run(out, *as_user, *words, source=read_only_source, HOME="/nonexistent")

    assert done.returncode == 0, done.stderr
    assert (out / WRITTEN[name]).exists()
    assert sorted(read_only_source.rglob("*")) == before and list(open_folder.iterdir()) == [out]


@pytest.mark.parametrize("name", list(WRITTEN))
def test_folder_that_is_read_only_is_named(
    commands: Any, as_user: tuple[str, ...], open_folder: Path, name: str
) -> None:
    out = open_folder / "out"
    out.mkdir(mode=0o555)

    done = run(Path("/"), *as_user, *commands[name](out))

    assert is_one_sentence(done), (done.returncode, done.stderr)
    assert str(out) in done.stderr and list(out.iterdir()) == []


# --- without space ----------------------------------------------------------------------------------------------------


def test_disk_that_becomes_full_costs_no_checkpoint(commands: Any, tmp_path: Path) -> None:
    disk, kept = tmp_path / "disk", tmp_path / "kept"
    for folder in (disk, kept):
        folder.mkdir()
    if shutil.which("unshare") is None or run(tmp_path, *OWN_MOUNTS, "mount", "-t", "tmpfs", "tmpfs", disk).returncode:
        pytest.skip("no disk can be mounted here for a process alone")
    words = commands["train"](tmp_path)
    long = ["OUTPUT_DIR", disk, "SOLVER.MAX_ITER", 100, "SOLVER.CHECKPOINT_PERIOD", 1]

    done = run(tmp_path, *OWN_MOUNTS, "sh", "-c", ON_SMALL_DISK, "sh", disk, kept, *words, *long)

    assert is_one_sentence(done) and f"{disk}/model_" in done.stderr and "No space left" in done.stderr, done.stderr
    newest, *_ = sorted(kept.glob("model_*.pth"), reverse=True)
    assert (kept / "last_checkpoint").read_text() == newest.name
    assert torch.load(newest, weights_only=True)["iteration"] == len(list(kept.glob("model_*.pth"))) - 1


# --- with little memory -----------------------------------------------------------------------------------------------


def test_labels_are_checked_and_prepared_with_little_memory(tmp_path: Path) -> None:
    made = run_detr_d2(
        *(tmp_path, "yard", "exports", "--train", "3", "--val", "1", "--size", "64x48", "--layout", "cvat")
    )

    prepared = run_detr_d2(
        *(tmp_path, "prepare", "--cvat", "exports/cvat", "--out", "made", "--workers", "1"), memory=900 * 2**20
    )

    assert (made.returncode, prepared.returncode) == (0, 0), made.stderr + prepared.stderr


@pytest.fixture(scope="module")
def libraries_bytes() -> int:
    """Address space of a process that has only imported what predicting takes: releases of torch differ by GiB."""
    code = "import detr_d2, detr_d2.prediction, detr_d2.meta_arch; print(open('/proc/self/status').read())"
    done = run(Path("/"), sys.executable, "-c", code)
    return int(done.stdout.split("VmPeak:")[1].split()[0]) * 1024


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="no /proc")
@pytest.mark.parametrize("name", ["predict", "train"])
def test_small_model_needs_little_memory(commands: Any, libraries_bytes: int, tmp_path: Path, name: str) -> None:
    done = run(tmp_path, *commands[name](tmp_path), memory=libraries_bytes + 2**30)

    assert done.returncode == 0, done.stderr
    assert (tmp_path / WRITTEN[name]).exists()
