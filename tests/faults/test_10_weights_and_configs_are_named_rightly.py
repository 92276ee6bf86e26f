"""Files of weights and what lies beside them: what is wrong is said of the right file, and with the right reason."""

from __future__ import annotations

import io
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import save_file

from detr_d2.checkpoint import DetrCheckpointer, load_model, read_weights
from detr_d2.cli import main as detr_d2_command
from detr_d2.errors import DatasetError, MissingFileError, UserError, WeightsError, run_command

from detectron2.modeling import build_model

BOM = b"\xef\xbb\xbf"


class Evil:
    """Pickled, it wants to make a folder through the shell."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.system, (f"mkdir {self.path}",)


def _torch_file(content: Any, **options: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream, **options)
    return stream.getvalue()


def _zip_of(name: str, content: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(name, content)
    return stream.getvalue()


# --- what a pickle wants ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "form",
    [
        lambda evil: _torch_file({"model": {"a": torch.ones(2)}, "extra": evil}),
        lambda evil: _torch_file({"model": evil}, pickle_protocol=4),
        lambda evil: _torch_file({"model": evil}, _use_new_zipfile_serialization=False),
        lambda evil: pickle.dumps({"model": evil}),
        lambda evil: pickle.dumps({"model": evil}, protocol=0),
        lambda evil: _zip_of("archive/data.pkl", pickle.dumps({"model": evil}, protocol=2)),
    ],
    ids=["zip", "zip of protocol 4", "old torch", "pickle", "pickle of protocol 0", "zip by hand"],
)
def test_a_pickle_that_wants_a_command_says_which(tmp_path, form):
    trap = tmp_path / "was_run"
    (tmp_path / "model.pth").write_bytes(form(Evil(trap)))

    with pytest.raises(WeightsError) as caught:
        read_weights(str(tmp_path / "model.pth"))

    message = str(caught.value)
    assert not trap.exists()
    assert re.search(r"model\.pth needs pickle: it holds (posix|nt)\.system, and", message), message
    assert "truncated" not in message and "\n" not in message


def test_a_pickled_model_names_its_classes(tmp_path):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "model.pth")

    with pytest.raises(WeightsError, match=r"needs pickle: it holds torch\.nn\.modules\.linear\.Linear"):
        read_weights(str(tmp_path / "model.pth"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (_zip_of("photo.jpg", b"x"), r"is a zip, but no checkpoint: it has photo\.jpg in it"),
        (_torch_file({"model": {"a": torch.ones(1000)}})[:-300], "truncated or damaged"),
        (_zip_of("archive/data.pkl", b"\x80\x02}q\x00.")[:-3], "truncated or damaged"),
        (_zip_of("archive/data.pkl", b"garbage"), "is a damaged checkpoint"),
    ],
    ids=["no checkpoint", "cut", "cut by little", "garbage"],
)
def test_other_zips_are_told_apart(tmp_path, content, message):
    (tmp_path / "model.pth").write_bytes(content)

    with pytest.raises(WeightsError, match=rf"model\.pth.*{message}|model\.pth {message}"):
        read_weights(str(tmp_path / "model.pth"))


# --- what our own checkpoints say of themselves -----------------------------------------------------------------------


@pytest.fixture
def own_checkpoint(tiny_config, tmp_path) -> Callable[[Callable[[dict[str, Any]], None]], str]:
    """A checkpoint of a tiny model whose record has been changed."""

    def make(change: Callable[[dict[str, Any]], None]) -> str:
        DetrCheckpointer(build_model(tiny_config()), str(tmp_path)).save("model")
        content = torch.load(tmp_path / "model.pth", weights_only=True)
        change(content["detr_d2"])
        torch.save(content, tmp_path / "model.pth")
        return str(tmp_path / "model.pth")

    return make


def _set(record: dict[str, Any], number: int, key: str, value: Any) -> None:
    record["categories"][number][key] = value


@pytest.mark.parametrize(
    "change",
    [
        lambda record: record.update(categories="all"),
        lambda record: record.update(categories={"a": 1}),
        lambda record: record.update(categories=[1, 2]),
        lambda record: record["categories"][1].pop("name"),
        lambda record: _set(record, 1, "color", 5),
        lambda record: _set(record, 1, "color", [1, 2]),
        lambda record: _set(record, 1, "color", ["a", "b", "c"]),
        lambda record: _set(record, 1, "name", None),
        lambda record: _set(record, 1, "isthing", "yes"),
        lambda record: _set(record, 1, "id", [1]),
    ],
)
def test_a_damaged_list_of_categories_names_the_file(own_checkpoint, tiny_config, change):
    path = own_checkpoint(change)

    for use in (lambda: load_model(path), lambda: DetrCheckpointer(build_model(tiny_config())).load(path)):
        with pytest.raises(WeightsError, match=r"model\.pth: the list of categories in it is damaged"):
            use()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("MODEL.DETR.NHEADS", 7),
        ("MODEL.DETR.NHEADS", "many"),
        ("MODEL.DETR.ENC_LAYERS", None),
        ("MODEL.PIXEL_MEAN", 5),
        ("MODEL.PIXEL_MEAN", ["a", "b", "c"]),
        ("MODEL.PIXEL_STD", [0, 0, 0]),
        ("MODEL.RESNETS.DEPTH", 51),
        ("MODEL.RESNETS.OUT_FEATURES", [1]),
        ("MODEL.META_ARCHITECTURE", "os"),
        ("MODEL.BACKBONE.NAME", "os"),
        ("INPUT.FORMAT", 3),
        ("MODEL.DETR.CLASS_SCORE_THRESHOLDS", [0.5]),
    ],
)
def test_a_damaged_config_in_a_checkpoint_is_one_sentence(own_checkpoint, key, value):
    path = own_checkpoint(lambda record: record["config"].update({key: value}))

    try:
        load_model(path)
    except UserError as error:
        assert "\n" not in str(error)
    else:  # what the shapes of the weights say wins over the record
        assert key in ("MODEL.DETR.ENC_LAYERS", "MODEL.RESNETS.DEPTH")


# --- folders of Hugging Face ------------------------------------------------------------------------------------------


def _sharded(folder: Path, index: Any) -> str:
    folder.mkdir(exist_ok=True)
    save_file({"class_labels_classifier.weight": torch.ones(3, 4)}, folder / "a.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return str(folder)


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ([], "holds a list"),
        (5, "holds a int"),
        ({}, "no 'weight_map'"),
        ({"weight_map": None}, "no 'weight_map'"),
        ({"weight_map": []}, "no 'weight_map'"),
        ({"weight_map": ["a.safetensors"]}, "no 'weight_map'"),
        ({"weight_map": {"a": 5}}, "no 'weight_map'"),
        ({"weight_map": {"a": ["a.safetensors"]}}, "no 'weight_map'"),
        ({"weight_map": {"a": "../outside.safetensors"}}, r"names '\.\./outside\.safetensors'"),
        ({"weight_map": {"a": "/etc/passwd"}}, "names '/etc/passwd'"),
        ({"weight_map": {"a": "https://example.com/a.safetensors"}}, "names 'https://example"),
        ({"weight_map": {"a": "model.safetensors.index.json"}}, "names 'model.safetensors.index.json'"),
        ({"weight_map": {"a": "model.pth"}}, r"names 'model\.pth'"),
        ({"weight_map": {"a": ""}}, "names ''"),
        ({"weight_map": {"a": "b.safetensors"}}, r"names b\.safetensors, which isn't there"),
    ],
)
def test_an_index_of_odd_shape_is_one_sentence(tmp_path, index, message):
    save_file({"a": torch.ones(1)}, tmp_path / "outside.safetensors")
    folder = _sharded(tmp_path / "model", index)

    with pytest.raises((WeightsError, MissingFileError), match=message) as caught:
        read_weights(folder)

    assert "model.safetensors.index.json" in str(caught.value)


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json"])
@pytest.mark.parametrize(
    "content",
    [
        b"[1]",
        b"not JSON",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"backbone_config": [1], "id2label": [1], "image_mean": 5, "image_std": 5}',
        b'{"id2label": {"a": {}}, "image_mean": ["x"], "image_std": ["x"]}',
        b'{"id2label": {"1": "a"}, "encoder_attention_heads": "eight", "image_mean": {"a": 1}, "image_std": {"a": 1}}',
    ],
)
def test_files_beside_the_weights_of_odd_shape_are_named(tmp_path, name, content):
    save_file({"class_labels_classifier.weight": torch.ones(3, 4)}, tmp_path / "model.safetensors")
    (tmp_path / name).write_bytes(content)

    try:
        read_weights(str(tmp_path))
    except WeightsError as error:
        assert "config.json" in str(error) and "\n" not in str(error)


def test_files_beside_the_weights_may_begin_with_a_byte_order_mark(tmp_path):
    save_file({"class_labels_classifier.weight": torch.ones(3, 4)}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_bytes(BOM + b'{"model_type": "detr", "id2label": {"0": "cat", "1": "dog"}}')

    assert read_weights(str(tmp_path)).labels == ["cat", "dog"]


@pytest.mark.parametrize("shape", [(), (0,), (3, 0)])
def test_tensors_without_a_value_are_refused(tmp_path, shape):
    torch.save(
        {"model": {"class_embed.weight": torch.ones(shape), "class_embed.bias": torch.ones(3)}}, tmp_path / "a.pth"
    )

    with pytest.raises(WeightsError, match=r"a\.pth: class_embed\.weight is of shape"):
        read_weights(str(tmp_path / "a.pth"))


# --- special files ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["model.pth", "model.pkl", "folder/model.safetensors", "folder/a.safetensors"])
def test_a_pipe_as_weights_is_refused(tmp_path, name):
    pipe = tmp_path / name
    pipe.parent.mkdir(exist_ok=True)
    os.mkfifo(pipe)
    named = pipe
    if name.startswith("folder"):
        named = pipe.parent
        index = {"weight_map": {"a": "a.safetensors"}}
        (named / "model.safetensors.index.json").write_text(json.dumps(index))

    with pytest.raises(UserError, match="named pipe"):
        read_weights(str(named))


def test_a_device_as_weights_is_refused(tmp_path):
    (tmp_path / "model.pth").symlink_to("/dev/zero")

    with pytest.raises(UserError, match="device"):
        read_weights(str(tmp_path / "model.pth"))


# --- byte-order marks in datasets -------------------------------------------------------------------------------------


@pytest.fixture
def marked_yard(yard_folder: Path, tmp_path: Path) -> Path:
    """The yard, as marked_train and marked_val, with a byte-order mark before each JSON and yaml."""
    folder = Path(shutil.copytree(yard_folder, tmp_path / "marked"))
    register = folder / "register.yaml"
    register.write_text(register.read_text().replace("name: yard_", f"name: {tmp_path.name}_"))
    for path in [*folder.glob("*.json"), *folder.glob("*.yaml")]:
        path.write_bytes(BOM + path.read_bytes())
    return folder


def test_a_marked_dataset_trains_and_is_evaluated(marked_yard, tiny_config, tmp_path, project_folder):
    file = tmp_path / "config.yaml"
    cfg = tiny_config("DATASETS.REGISTER", [str(marked_yard / "register.yaml")], "SOLVER.MAX_ITER", 1)
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = (f"{tmp_path.name}_train",), (f"{tmp_path.name}_val",)
    file.write_bytes(BOM + cfg.dump().encode())
    command = [sys.executable, "-W", "ignore", str(project_folder / "train_net.py"), "--config-file", str(file)]

    result = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(project_folder)}
    )

    assert result.returncode == 0, result.stderr
    assert "bbox/AP" in json.loads((tmp_path / "output" / "evaluations.jsonl").read_text())


def test_every_reader_of_json_takes_a_mark(marked_yard, tmp_path):
    json_file = str(marked_yard / "panoptic_val.json")
    pngs = yaml.safe_load((marked_yard / "register.yaml").read_text("utf-8-sig"))[1]["panoptic_root"]
    pngs = str(marked_yard / pngs)
    for words in (
        ["check", str(marked_yard), "--quick"],
        ["browse", str(marked_yard / "register.yaml"), "--out", str(tmp_path / "pages"), "--limit", "1"],
        ["pq", "--gt", json_file, "--pred", json_file, "--gt-folder", pngs, "--pred-folder", pngs],
    ):
        code = run_command(lambda words=words: detr_d2_command(words))
        assert code == 0, words


@pytest.mark.parametrize(
    ("content", "message"), [(b"\xff\xfe{\x00}\x00", "isn't JSON"), (b"[" * 100_000, "nested too deeply")]
)
def test_other_texts_are_refused(tmp_path, content, message):
    from detr_d2.labels.rules.json_files import read_json

    (tmp_path / "a.json").write_bytes(content)

    with pytest.raises(DatasetError, match=rf"a\.json isn't JSON.*|{message}"):
        read_json(str(tmp_path / "a.json"))


def test_a_pipe_as_json_is_refused(tmp_path):
    from detr_d2.labels.rules.json_files import read_json

    os.mkfifo(tmp_path / "a.json")

    with pytest.raises(UserError, match="named pipe"):
        read_json(str(tmp_path / "a.json"))
