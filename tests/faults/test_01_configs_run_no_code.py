"""Configs, and the yaml files that configs name, are plain data: nothing in them is ever run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from detr_d2 import get_config_file, load_config
from detr_d2.cli import main as detr_d2_command
from detr_d2.data.registration import register_file
from detr_d2.errors import ConfigError, DatasetError, MissingFileError, UserError, run_command
from tests.special_files import make_special

from detectron2.config import get_cfg


@pytest.fixture
def trap(tmp_path: Path) -> Path:
    """A file that is there once something was run."""
    return tmp_path / "was_run"


@pytest.fixture
def attack(trap: Path) -> str:
    """A yaml value that makes the trap's file where Python tags are obeyed."""
    return f"!!python/object/apply:os.mkdir ['{trap}']"


def write(path: Path, text: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return str(path)


def run(*command: str, folder: Path, project: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "ignore", *command],
        capture_output=True,
        text=True,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(project)},
    )


def test_a_training_config_runs_nothing(tmp_path, trap, attack, project_folder):
    file = write(tmp_path / "config.yaml", f"MODEL:\n  DEVICE: {attack}\n")

    result = run(str(project_folder / "train_net.py"), "--config-file", file, folder=tmp_path, project=project_folder)

    assert result.returncode == 2 and not trap.exists()
    assert "config.yaml, line 2" in result.stderr and "python/object/apply:os.mkdir" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_config_of_browse_runs_nothing(tmp_path, trap, attack, capsys):
    file = write(tmp_path / "config.yaml", f"MODEL:\n  DEVICE: {attack}\n")

    words = ["browse", "yard_train", "--out", str(tmp_path / "page"), "--config-file", file]
    code = run_command(lambda: detr_d2_command(words))

    assert code == 2 and not trap.exists()
    assert "config.yaml, line 2" in capsys.readouterr().err


@pytest.mark.parametrize(
    "base", ["base.yaml", "deep/base.yaml", "~/base.yaml", "[fine.yaml, base.yaml]", "middle.yaml"]
)
def test_a_base_runs_nothing(tmp_path, trap, attack, base, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path / "fine.yaml", "SEED: 1\n")
    write(tmp_path / "middle.yaml", "_BASE_: deep/base.yaml\n")
    for folder in (tmp_path, tmp_path / "deep"):
        write(folder / "base.yaml", f"SEED: 2\nMODEL:\n  DEVICE: {attack}\n")
    file = write(tmp_path / "config.yaml", f"_BASE_: {base}\n")

    with pytest.raises(ConfigError, match=r"base\.yaml, line 3"):
        load_config(file)

    assert not trap.exists()


@pytest.mark.parametrize(
    "tag",
    [
        "!!python/object/new:os.system [echo]",
        "!!python/name:os.system",
        "!!python/module:os",
        "!!python/tuple [1, 2]",
        "!something else",
    ],
)
def test_tags_are_refused_with_their_line_and_a_way_out(tmp_path, tag):
    file = write(tmp_path / "config.yaml", f"SEED: 1\n\nOUTPUT_DIR: {tag}\n")

    with pytest.raises(ConfigError, match=r"config\.yaml, line 3.*[Ww]rite"):
        load_config(file)


def test_a_config_object_read_by_the_users_own_script_runs_nothing(tmp_path, trap, attack):
    import detectron2

    if "detr_d2" not in detectron2.__version__:
        pytest.skip("what Detectron2's own merge_from_file reads is Detectron2's; load_config is ours")
    file = write(tmp_path / "config.yaml", f"OUTPUT_DIR: {attack}\n")

    with pytest.raises(ConfigError, match=r"config\.yaml, line 1"):
        get_cfg().merge_from_file(file)
    with pytest.raises(ConfigError, match=r"config\.yaml, line 1"):
        get_cfg().merge_from_file(file, allow_unsafe=True)

    assert not trap.exists()


def test_a_register_file_runs_nothing(tmp_path, trap, attack):
    file = write(tmp_path / "register.yaml", f"- name: {attack}\n  images: here\n")

    with pytest.raises(DatasetError, match=r"register\.yaml, line 1"):
        register_file(file, "DATASETS.REGISTER[0]")

    assert not trap.exists()


def test_a_file_of_classes_runs_nothing(tmp_path, trap, attack, capsys):
    exports = tmp_path / "exports"
    exports.mkdir()
    write(exports / "a.json", '{"images": [], "annotations": [], "categories": [{"id": 1, "name": "brick"}]}')
    file = write(tmp_path / "classes.yaml", f"brick: {attack}\n")

    words = ["prepare", "--cvat", str(exports), "--out", str(tmp_path / "out"), "--classes", file]
    code = run_command(lambda: detr_d2_command(words))

    assert code == 2 and not trap.exists()
    assert "classes.yaml" in capsys.readouterr().err


def test_key_value_pairs_run_nothing(trap):
    value = f"__import__('os').mkdir('{trap}')"
    cfg = load_config("", ["OUTPUT_DIR", value])

    assert value == cfg.OUTPUT_DIR and not trap.exists()
    with pytest.raises(ConfigError):
        load_config("", ["MODEL.PIXEL_MEAN", value])


def test_a_config_inside_a_checkpoint_runs_nothing_and_sets_only_what_builds_a_model(tmp_path, trap, tiny_config):
    from detr_d2.checkpoint import DetrCheckpointer, config_of, read_weights

    from detectron2.modeling import build_model

    DetrCheckpointer(build_model(tiny_config()), str(tmp_path)).save("model")
    content = torch.load(tmp_path / "model.pth", weights_only=True)
    attack = f"!!python/object/apply:os.mkdir ['{trap}']"
    content["detr_d2"]["config"] |= {
        "MODEL.BACKBONE.NAME": attack,
        "OUTPUT_DIR": "/elsewhere",
        "DATASETS.REGISTER": ["/elsewhere/register.yaml"],
    }
    torch.save(content, tmp_path / "model.pth")

    cfg = config_of(read_weights(str(tmp_path / "model.pth")))

    assert not trap.exists()
    assert cfg.OUTPUT_DIR != "/elsewhere" and list(cfg.DATASETS.REGISTER) == []


def test_the_config_of_a_run_runs_nothing(trap, attack):
    from detr_d2.evaluation.report.run_config import training_segments

    assert training_segments(f"DATASETS:\n  TRAIN: {attack}\n", []) is None
    assert not trap.exists()


@pytest.mark.parametrize("ring", [("a",), ("a", "b"), ("a", "b", "c")])
def test_a_ring_of_bases_is_named(tmp_path, ring):
    for name, base in zip(ring, (*ring[1:], ring[0])):
        write(tmp_path / f"{name}.yaml", f"_BASE_: {base}.yaml\n")

    with pytest.raises(ConfigError) as caught:
        load_config(str(tmp_path / "a.yaml"))

    message = str(caught.value)
    assert "ring" in message and " -> ".join(f"{tmp_path / name}.yaml" for name in (*ring, "a")) in message


def test_a_ring_through_a_link_and_a_list_is_found(tmp_path):
    write(tmp_path / "fine.yaml", "SEED: 1\n")
    write(tmp_path / "a.yaml", "_BASE_: [fine.yaml, link.yaml]\n")
    (tmp_path / "link.yaml").symlink_to("a.yaml")

    with pytest.raises(ConfigError, match="ring"):
        load_config(str(tmp_path / "a.yaml"))


def test_a_base_may_be_named_twice(tmp_path):
    write(tmp_path / "base.yaml", "SEED: 5\nSOLVER: {GAMMA: 0.5}\n")
    for name in ("left", "right"):
        write(tmp_path / f"{name}.yaml", f"_BASE_: base.yaml\nOUTPUT_DIR: {name}\n")
    write(tmp_path / "config.yaml", "_BASE_: [left.yaml, right.yaml]\nSOLVER: {MAX_ITER: 7}\n")

    cfg = load_config(str(tmp_path / "config.yaml"))

    assert (cfg.SEED, cfg.OUTPUT_DIR, cfg.SOLVER.GAMMA, cfg.SOLVER.MAX_ITER) == (5, "right", 0.5, 7)


def test_bases_that_double_at_every_level_are_read_once_each(tmp_path):
    write(tmp_path / "0.yaml", "SEED: 5\n")
    for level in range(1, 40):
        write(tmp_path / f"{level}.yaml", f"_BASE_: [{level - 1}.yaml, {level - 1}.yaml]\n")

    assert load_config(str(tmp_path / "39.yaml")).SEED == 5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("_BASE_: absent.yaml", r"absent\.yaml isn't there"),
        ("_BASE_: 5", r"config\.yaml.*_BASE_ is 5"),
        ("_BASE_: [1]", r"config\.yaml.*_BASE_ is \[1\]"),
        ("_BASE_: ''", r"is a folder"),
        ("- MODEL", r"config\.yaml.*a list"),
        ("MODEL", r"config\.yaml.*'MODEL'"),
        ("1: 2", r"config\.yaml.*1"),
        ("MODEL: {1: 2}", r"config\.yaml.*1"),
        ("MODEL: &a {DETR: *a}", r"config\.yaml.*nested"),
        ("SEED: " + "[" * 5000, r"config\.yaml.*nested"),
        ("SEED: 2020-99-99", r"config\.yaml"),
        ("SEED: 2020-01-01", r"config\.yaml.*2020"),
        ("{[1]: 2}", r"config\.yaml, line 1"),
        ("SEED: \x00", r"config\.yaml"),
        ("VERSION: 1\nSEED: 1", "v1"),
        ("VERSION: new\nSEED: 1", "VERSION"),
        ("MODEL:\n\tDEVICE: cpu", r"config\.yaml, line 2"),
    ],
)
def test_files_that_are_no_configs_are_one_clear_message(tmp_path, text, message):
    file = write(tmp_path / "config.yaml", text)

    with pytest.raises(UserError, match=message):
        load_config(file)


def test_a_file_of_doubling_aliases_is_refused(tmp_path):
    lines = ["A0: &a0 {x: 1}"] + [f"A{i}: &a{i} {{x: *a{i - 1}, y: *a{i - 1}}}" for i in range(1, 40)]
    file = write(tmp_path / "config.yaml", "\n".join(lines))

    with pytest.raises(ConfigError, match=r"config\.yaml.*values"):
        load_config(file)


def test_files_that_are_no_text_are_refused(tmp_path):
    (tmp_path / "config.yaml").write_bytes(b"\x80\x02\xff\xfe")
    (tmp_path / "large.yaml").write_bytes(b"#" * 5_000_000)

    with pytest.raises(ConfigError, match=r"config\.yaml.*UTF-8"):
        load_config(str(tmp_path / "config.yaml"))
    with pytest.raises(ConfigError, match=r"large\.yaml.*5\.0 MB"):
        load_config(str(tmp_path / "large.yaml"))


@pytest.mark.parametrize("kind", ["pipe", "folder", "device"])
def test_special_files_are_refused(tmp_path, kind):
    make_special(tmp_path / "config.yaml", kind)
    write(tmp_path / "child.yaml", "_BASE_: config.yaml\n")

    for name in ("config.yaml", "child.yaml"):
        with pytest.raises(UserError, match=kind):
            load_config(str(tmp_path / name))


def test_a_config_with_a_byte_order_mark_is_read(tmp_path):
    (tmp_path / "config.yaml").write_bytes(b"\xef\xbb\xbfSEED: 3\n")

    assert load_config(str(tmp_path / "config.yaml")).SEED == 3


def test_an_absent_config_is_looked_for_in_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    with pytest.raises(MissingFileError, match=str(tmp_path)):
        load_config("absent.yaml")


def test_the_projects_own_configs_still_inherit():
    cfg = load_config(get_config_file("detr_panoptic_DC5_R101.yaml"))

    assert cfg.MODEL.RESNETS.DEPTH == 101 and cfg.MODEL.DETR.MASK_ON and cfg.SOLVER.CLIP_GRADIENTS.CLIP_VALUE == 0.1
    assert "_BASE_" not in cfg
