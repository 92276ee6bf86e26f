"""A training that can't begin says why in one sentence, before it writes anything."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import yaml
from PIL import Image

from detr_d2.errors import UserError
from tests.faults.training import assert_refused

# --- OUTPUT_DIR -------------------------------------------------------------------------------------------------------


def test_a_file_where_the_output_folder_is_meant(train, tmp_path):
    (tmp_path / "taken").write_text("kept")

    for folder in ("taken", "taken/below"):
        assert_refused(train("OUTPUT_DIR", str(tmp_path / folder)), "OUTPUT_DIR is .*taken.* is a file")
    assert (tmp_path / "taken").read_text() == "kept"


def test_an_output_folder_of_too_long_a_name(train, tmp_path):
    assert_refused(train("OUTPUT_DIR", str(tmp_path / ("x" * 300))), "File name too long.*shorter path")


@pytest.mark.skipif(not Path("/proc/version").exists(), reason="needs a file system that nobody may write to")
def test_an_output_folder_that_cannot_be_written(train):
    result = train("OUTPUT_DIR", "/proc/detr_d2_output")

    assert result.returncode == 2 and result.stderr.count("\n") == 1 and "/proc" in result.stderr


@pytest.mark.parametrize("name", ["metrics.json", "log.txt", "log.txt.rank1", "running.lock", "config.yaml"])
def test_a_link_that_leads_out_of_the_output_folder_is_refused(tmp_path, name):
    from detr_d2.training.output_folder import check_output_folder

    kept, folder = tmp_path / "kept", tmp_path / "run of a stranger"
    kept.write_text("kept")
    folder.mkdir()
    (folder / name).symlink_to(kept)

    with pytest.raises(UserError, match=f"{name} in it is a link to .*kept.* Remove the link"):
        check_output_folder(str(folder))


def test_a_pipe_among_the_files_of_the_output_folder_is_refused(tmp_path):
    from detr_d2.training.output_folder import check_output_folder

    os.mkfifo(tmp_path / "metrics.json")

    with pytest.raises(UserError, match=r"metrics\.json is a named pipe"):
        check_output_folder(str(tmp_path))


def test_a_training_leaves_alone_what_its_output_folder_links_to(train, tmp_path):
    (tmp_path / "kept").write_text("kept")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "running.lock").symlink_to(tmp_path / "kept")

    assert_refused(train("OUTPUT_DIR", str(tmp_path / "run")), "running.lock in it is a link")
    assert (tmp_path / "kept").read_text() == "kept"
    assert os.listdir(tmp_path / "run") == ["running.lock"]


# --- register.yaml ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 3000, "nested"),
        ("- &a [*a]", "nested"),
        ("- other.yaml", "entry 0 is 'other.yaml'; such a file holds datasets"),
        ("- register.yaml", "names no other files"),
        ("- {name: 2020-99-99, images: x}", "register.yaml"),
        ("- {name: 2020-01-01, images: x}", "quotes"),
        ("- {? [1] : 2}", "register.yaml"),
        ("- 5", "mapping"),
        ("{name: x}", "list"),
        ("- {name: [a], images: x, instances_json: y}", "text"),
        ("- {name: x, images: x, panoptic_json: y}", "both or neither"),
    ],
)
def test_a_register_file_of_odd_shape_is_one_sentence(tmp_path, text, message):
    from detr_d2.data.registration import register_file

    file = tmp_path / "register.yaml"
    file.write_text(text)
    (tmp_path / "other.yaml").write_text("- register.yaml")

    with pytest.raises(UserError, match=message):
        register_file(str(file), "DATASETS.REGISTER[0]")


@pytest.mark.parametrize("name", ["config", "register", "json", "weights", "last_checkpoint"])
def test_pipes_are_refused_and_nothing_waits_for_them(train, tiny_config, yard_folder, tmp_path, name):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    words: tuple[str, ...] = ()
    if name == "config":
        words = ("--config-file", str(pipe))
    elif name == "register":
        words = ("DATASETS.REGISTER", f"['{pipe}']")
    elif name == "json":
        register = tmp_path / "register.yaml"
        register.write_text(
            yaml.safe_dump([{"name": "piped", "images": str(yard_folder), "instances_json": str(pipe)}])
        )
        words = ("DATASETS.REGISTER", f"['{register}']", "DATASETS.TRAIN", "('piped',)")
    elif name == "weights":
        words = ("MODEL.WEIGHTS", str(pipe))
    else:
        (tmp_path / "output").mkdir()
        pipe.rename(tmp_path / "output" / "last_checkpoint")
        words = ("--resume",)

    assert_refused(train(*words, timeout=120), "named pipe|isn't a file")


# --- images -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def broken_yard(yard_folder: Path, tmp_path: Path) -> Path:
    """A copy of the yard, to be broken."""
    return Path(shutil.copytree(yard_folder, tmp_path / "yard"))


@pytest.mark.parametrize("workers", ["0", "2"])
@pytest.mark.parametrize("kind", ["png", "image"])
def test_an_image_of_another_size_names_the_file_and_both_sizes(train, broken_yard, workers, kind):
    folder = broken_yard / ("panoptic" if kind == "png" else "images")
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            Image.open(path).resize((33, 44), Image.Resampling.NEAREST).save(path)

    result = train(
        *("DATASETS.REGISTER", f"['{broken_yard / 'register.yaml'}']", "DATASETS.CHECK", "off"),
        *("DATALOADER.NUM_WORKERS", workers),
    )

    assert_refused(result, r"yard_train_\d+\.\w+", "33x44", "160x128")


@pytest.mark.parametrize("workers", ["0", "2"])
def test_an_image_that_is_cut_off_is_one_sentence(train, broken_yard, workers):
    for path in (broken_yard / "images").iterdir():
        path.write_bytes(path.read_bytes()[:-500])

    result = train(
        *("DATASETS.REGISTER", f"['{broken_yard / 'register.yaml'}']", "DATASETS.CHECK", "off"),
        *("DATALOADER.NUM_WORKERS", workers),
    )

    assert_refused(result, r"yard_train_\d+.* can't be read")


# --- several processes ------------------------------------------------------------------------------------------------


TORCHRUN = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1", "MASTER_ADDR": "127.0.0.1"}


@pytest.mark.parametrize(
    ("environ", "words", "expected"),
    [
        (TORCHRUN, (), "WORLD_SIZE is 2.*MASTER_PORT.*--num-gpus 2"),
        (TORCHRUN | {"MASTER_PORT": "1", "RANK": "one"}, (), "RANK=one"),
        (TORCHRUN | {"MASTER_PORT": "1", "LOCAL_WORLD_SIZE": "3"}, (), "LOCAL_WORLD_SIZE 3"),
        (TORCHRUN | {"MASTER_PORT": "1"}, ("--num-gpus", "4"), "--num-gpus is 4.*torchrun has started 2"),
        (TORCHRUN | {"MASTER_PORT": "1"}, ("SOLVER.IMS_PER_BATCH", "3"), "IMS_PER_BATCH is 3"),
        ({"SLURM_STEP_NUM_TASKS": "4"}, (), "srun has started 4 processes.*torchrun"),
    ],
)
def test_launched_processes_that_cannot_be_joined_are_refused(train, tmp_path, environ, words, expected):
    assert_refused(train(*words, environ=environ), expected)
    assert not (tmp_path / "output").exists()


def test_torchrun_of_one_process_is_as_without(train):
    assert train(environ={"WORLD_SIZE": "1", "RANK": "0"}).returncode == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--num-gpus", "0"), "--num-gpus is 0"),
        (("--num-gpus", "-3"), "--num-gpus is -3"),
        (("--num-machines", "2", "--machine-rank", "2"), "--machine-rank 2"),
        (("--num-gpus", "2", "--dist-url", "nonsense"), "--dist-url is nonsense"),
        (("--num-gpus", "2", "--dist-url", "tcp://here:port"), "--dist-url is tcp://here:port"),
        (("--num-gpus", "2", "--dist-url", "auto", "SOLVER.IMS_PER_BATCH", "3"), "IMS_PER_BATCH is 3"),
    ],
)
def test_processes_that_cannot_be_are_refused(train, words, message):
    assert_refused(train(*words), message)
