"""A training that can't work says why in one sentence, before it writes anything where that can be known."""

from __future__ import annotations

import errno
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image

from detr_d2 import load_config
from detr_d2.config import check_values
from detr_d2.config.values import ALLOWED
from detr_d2.errors import ConfigError, DivergenceError, UserError
from tests.modules import load_module

import detectron2
from detectron2.config import CfgNode

IS_FALLBACK = "detr_d2" in detectron2.__version__
DIVERGING = ("SOLVER.CLIP_GRADIENTS.ENABLED", "False", "SOLVER.BASE_LR", "1e9", "SOLVER.WARMUP_ITERS", "0")
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def command(project_folder: Path, tiny_config: Callable[..., CfgNode], tmp_path: Path) -> Callable[..., list[str]]:
    """The command line of a tiny training of two iterations, with options and KEY VALUE pairs."""

    def make(*words: str, folder: Path = project_folder) -> list[str]:
        cfg = tiny_config("DATASETS.TEST", (), "DATALOADER.NUM_WORKERS", 0)
        file = tmp_path / "config.yaml"
        file.write_text(cfg.dump())
        return [sys.executable, "-W", "ignore", str(folder / "train_net.py"), "--config-file", str(file), *words]

    return make


def environment(project: Path, **more: str) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(project), "OMP_NUM_THREADS": "1"} | more


@pytest.fixture
def train(command: Callable[..., list[str]], project_folder: Path, tmp_path: Path) -> Run:
    """Runs the tiny training; returns the finished process."""

    def run(*words: str, environ: dict[str, str] | None = None, **options: Any) -> subprocess.CompletedProcess[str]:
        env = environment(project_folder, **(environ or {}))
        return subprocess.run(
            command(*words), capture_output=True, text=True, errors="replace", cwd=tmp_path, env=env, **options
        )

    return run


def spoken(stderr: str) -> list[str]:
    """The lines of stderr without torch's own remarks about the machine."""
    return [line for line in stderr.strip().splitlines() if not re.match(r"W\d{4} .*\btorch/", line)]


def assert_refused(result: subprocess.CompletedProcess[str], *expected: str) -> None:
    """One sentence on stderr, exit code 2, no traceback anywhere."""
    assert result.returncode == 2, (result.returncode, result.stdout[-2000:], result.stderr[-2000:])
    lines = spoken(result.stderr)
    assert len(lines) == 1 and lines[0].startswith("error: "), lines
    assert "Traceback" not in result.stderr + result.stdout, result.stderr + result.stdout
    for text in expected:
        assert re.search(text, result.stderr), (text, result.stderr)


# --- values of keys ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("SOLVER.IMS_PER_BATCH", "0"),
        ("SOLVER.CHECKPOINT_PERIOD", "0"),
        ("SOLVER.MAX_ITER", "-5"),
        ("SOLVER.MAX_ITER", "0"),
        ("SOLVER.MAX_ITER", "None"),
        ("SOLVER.BASE_LR", "0"),
        ("SOLVER.BASE_LR", "nan"),
        ("SOLVER.BASE_LR", "-1e-4"),
        ("SOLVER.STEPS", "(5, 3)"),
        ("SOLVER.STEPS", "(0,)"),
        ("SOLVER.STEPS", "('x',)"),
        ("SOLVER.WARMUP_METHOD", "quadratic"),
        ("SOLVER.LR_SCHEDULER_NAME", "Step"),
        ("SOLVER.CLIP_GRADIENTS.CLIP_VALUE", "0"),
        ("MODEL.DETR.NUM_QUERIES", "0"),
        ("MODEL.DETR.NHEADS", "7"),
        ("MODEL.DETR.NHEADS", "0"),
        ("MODEL.DETR.HIDDEN_DIM", "-32"),
        ("MODEL.DETR.HIDDEN_DIM", "30"),
        ("MODEL.DETR.DEC_LAYERS", "0"),
        ("MODEL.DETR.DROPOUT", "1.5"),
        ("MODEL.DETR.NO_OBJECT_WEIGHT", "0"),
        ("MODEL.DETR.CLASS_SCORE_THRESHOLDS", "[0.5]"),
        ("MODEL.DETR.CLASS_SCORE_THRESHOLDS", "[2.0]"),
        ("MODEL.PIXEL_STD", "0"),
        ("MODEL.PIXEL_STD", "[0, 1, 1]"),
        ("MODEL.PIXEL_STD", "[58.0]"),
        ("MODEL.PIXEL_MEAN", "['x', 1, 1]"),
        ("MODEL.BACKBONE.NAME", "build_vit"),
        ("MODEL.BACKBONE.FREEZE_AT", "9"),
        ("MODEL.META_ARCHITECTURE", "GeneralizedRCNN"),
        ("MODEL.META_ARCHITECTURE", "Nonsense"),
        ("MODEL.DEVICE", "gpu"),
        ("MODEL.DEVICE", "meta"),
        ("MODEL.DEVICE", "mps:7"),
        ("MODEL.RESNETS.DEPTH", "51"),
        ("MODEL.RESNETS.NORM", "Batch"),
        ("MODEL.RESNETS.NORM", "GN"),
        ("MODEL.RESNETS.OUT_FEATURES", "['res4']"),
        ("MODEL.RESNETS.OUT_FEATURES", "['res5', 'res6']"),
        ("INPUT.MIN_SIZE_TRAIN", "()"),
        ("INPUT.MIN_SIZE_TRAIN", "(0, 480)"),
        ("INPUT.MIN_SIZE_TRAIN", "('a',)"),
        ("INPUT.MAX_SIZE_TEST", "0"),
        ("INPUT.FORMAT", "CMYK"),
        ("INPUT.MIN_SIZE_TRAIN_SAMPLING", "any"),
        ("DATASETS.TRAIN", "()"),
        ("DATASETS.TRAIN", "(1,)"),
        ("DATASETS.REGISTER", "[5]"),
        ("DATALOADER.NUM_WORKERS", "-1"),
        ("DATALOADER.SAMPLER_TRAIN", "Any"),
        ("TEST.EVAL_PERIOD", "-2"),
        ("TEST.EXPECTED_RESULTS", "[['bbox', 'AP']]"),
        ("TEST.SCENES", "-1"),
        ("SEED", "99999999999"),
        ("FLOAT32_PRECISION", "low"),
        ("OUTPUT_DIR", ""),
        ("OUTPUT_DIR", "None"),
    ],
)
def test_a_value_that_makes_no_sense_is_one_sentence(tiny_config, key, value, capsys, project_folder, tmp_path):
    """As train_net.py starts, but in this process: whatever is raised has to be an error of the user's."""
    from detr_d2.errors import run_command
    from detr_d2.training import check_before_start

    file = tmp_path / "config.yaml"
    file.write_text(tiny_config("DATASETS.TEST", ()).dump())

    code = run_command(lambda: check_before_start(load_config(str(file), [key, value]), False, False) and None)

    message = capsys.readouterr().err
    assert code == 2 and key.rpartition(".")[2] in message and message.count("\n") == 1, message
    assert not (tmp_path / "output").exists()


def test_train_net_refuses_values_before_it_writes(train, tmp_path):
    result = train("SOLVER.MAX_ITER", "-5")

    assert_refused(result, r"SOLVER\.MAX_ITER is -5; allowed are whole numbers from 1")
    assert not (tmp_path / "output").exists()


def _leaves(cfg: CfgNode, prefix: str = "") -> dict[str, Any]:
    found = {}
    for name, value in cfg.items():
        found |= _leaves(value, f"{prefix}{name}.") if isinstance(value, CfgNode) else {prefix + name: value}
    return found


def _keys_of_the_project() -> dict[str, Any]:
    """What the fallback, which has the keys that this project uses, and this project have: key and default."""
    unused = ("MODEL.KEYPOINT_ON", "VERSION", "GLOBAL.HACK")
    return {key: value for key, value in _leaves(load_config("")).items() if key not in unused}


@pytest.mark.skipif(not IS_FALLBACK, reason="Detectron2 itself has keys for more models")
def test_every_key_has_its_rule():
    assert set(_keys_of_the_project()) <= set(ALLOWED)


@pytest.mark.parametrize("key", sorted(ALLOWED))
def test_every_rule_takes_the_default_and_refuses_what_is_of_another_kind(key):
    cfg = load_config("")
    default = _leaves(cfg)[key]
    parent: Any = cfg
    for part in key.split(".")[:-1]:
        parent = parent[part]
    leaf = key.rpartition(".")[2]

    check_values(cfg)
    wrong: list[Any] = [object(), {"a": 1}, float("nan"), [None]]
    wrong += [] if default is None or "BIAS" in key or key.endswith("NORM") else [None]
    wrong += [] if isinstance(default, str) else ["nonsense"]
    for value in wrong:
        dict.__setitem__(parent, leaf, value)
        with pytest.raises(ConfigError, match=re.escape(key)):
            check_values(cfg)


def test_an_evaluation_of_nothing_is_refused(tiny_config):
    from detr_d2.training import check_before_start

    with pytest.raises(ConfigError, match=r"DATASETS\.TEST is empty"):
        check_before_start(tiny_config("DATASETS.TEST", ()), eval_only=True, resume=False)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("SOLVER.STEPS", "(1, 2)"), "SOLVER.STEPS"),
        (("SOLVER.AMP.ENABLED", "True"), "SOLVER.AMP.ENABLED"),
        (("SOLVER.REFERENCE_WORLD_SIZE", "3"), "SOLVER.REFERENCE_WORLD_SIZE is 3"),
        (("SOLVER.RESCALE_INTERVAL", "True", "SOLVER.WARMUP_ITERS", "5"), "WARMUP_ITERS"),
        (("SOLVER.LR_SCHEDULER_NAME", "WarmupCosineLR", "SOLVER.BASE_LR_END", "1.0"), "BASE_LR_END"),
        (("MODEL.DETR.FREEZE_DETECTOR", "True"), "FREEZE_DETECTOR"),
        (("MODEL.DETR.MASK_ON", "True", "MODEL.DETR.HIDDEN_DIM", "24"), "HIDDEN_DIM is 24"),
        (("MODEL.DETR.MASK_ON", "True", "MODEL.RESNETS.OUT_FEATURES", "['res5']"), "OUT_FEATURES"),
        (("MODEL.DETR.COST_CLASS", "0", "MODEL.DETR.COST_L1", "0", "MODEL.DETR.COST_GIOU", "0"), "COST_CLASS"),
        (("MODEL.DETR.CLASS_WEIGHT", "0", "MODEL.DETR.L1_WEIGHT", "0", "MODEL.DETR.GIOU_WEIGHT", "0"), "CLASS_WEIGHT"),
        (("MODEL.RESNETS.DEPTH", "18"), "RES2_OUT_CHANNELS"),
        (("INPUT.MIN_SIZE_TRAIN_SAMPLING", "range"), "MIN_SIZE_TRAIN"),
        (("INPUT.CROP.ENABLED", "True", "INPUT.CROP.SIZE", "[2.0, 2.0]"), "INPUT.CROP.SIZE"),
        (("INPUT.CROP.ENABLED", "True", "INPUT.CROP.TYPE", "absolute"), "INPUT.CROP.SIZE"),
    ],
)
def test_keys_that_do_not_go_together_are_one_sentence(tiny_config, words, message, tmp_path):
    from detr_d2.training import check_before_start

    file = tmp_path / "config.yaml"
    file.write_text(tiny_config("DATASETS.TEST", (), "INPUT.MIN_SIZE_TRAIN", (96,)).dump())

    with pytest.raises(UserError, match=message):
        check_before_start(load_config(str(file), list(words)), False, False)


def test_ricap_passes_what_is_looked_at_before_the_start(tiny_config):
    from detr_d2.training import check_before_start

    check_before_start(tiny_config("INPUT.RICAP.ENABLED", True, "MODEL.DETR.MASK_ON", True), False, False)


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


# --- the numbers go wild ----------------------------------------------------------------------------------------------


def test_a_diverging_training_names_iteration_losses_and_images(train):
    result = train(*DIVERGING, "SOLVER.MAX_ITER", "6")

    assert_refused(result, r"diverged at iteration \d", "loss_ce", r"yard_train_\d+\.\w+", r"SOLVER\.BASE_LR")


def test_a_loss_that_is_not_finite_is_named():
    from detr_d2.modeling.criterion import Sum
    from detr_d2.training_step import agree_on_counts

    from detectron2.utils.events import EventStorage

    losses = {"loss_ce": 1.0, "loss_bbox": float("nan"), "loss_giou": 1e39, "loss_dice_0": -1e39, "class_error": 1e39}
    sums = {name: Sum(torch.tensor(value), 2.0) for name, value in losses.items()}
    with EventStorage(7), pytest.raises(DivergenceError) as caught:
        images = [{"file_name": "a.jpg"}, {"file_name": "b.jpg"}, {}]
        agree_on_counts(sums, ("loss_ce", "loss_bbox", "loss_giou"), "", images, torch.device("cpu"))

    message = str(caught.value)
    assert "iteration 7: loss_bbox is nan, loss_giou is inf. " in message
    assert "a.jpg, b.jpg" in message


def test_weights_that_are_not_finite_are_not_saved(tiny_config, tmp_path):
    from detr_d2.checkpoint import DetrCheckpointer

    from detectron2.modeling import build_model

    model = build_model(tiny_config())
    checkpointer = DetrCheckpointer(model, str(tmp_path))
    checkpointer.save("model_final")
    before = (tmp_path / "model_final.pth").read_bytes()
    with torch.no_grad():
        model.detr.class_embed.bias[0] = float("nan")

    with pytest.raises(DivergenceError, match=r"class_embed\.bias.*model_final\.pth isn't written"):
        checkpointer.save("model_final")

    assert (tmp_path / "model_final.pth").read_bytes() == before


def test_weights_of_nan_are_refused_where_they_are_loaded(tiny_config, tmp_path, train):
    from detr_d2.checkpoint import DetrCheckpointer

    from detectron2.modeling import build_model

    DetrCheckpointer(build_model(tiny_config()), str(tmp_path)).save("model")
    content = torch.load(tmp_path / "model.pth", weights_only=True)
    content["model"]["detr.class_embed.bias"][0] = float("nan")
    torch.save(content, tmp_path / "model.pth")

    assert_refused(
        train("MODEL.WEIGHTS", str(tmp_path / "model.pth")), r"model\.pth: 1 tensors.*class_embed\.bias.*NaN"
    )


# --- where to go on from ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x80\x02\xff\x00binary", "last_checkpoint doesn't hold the name of a checkpoint"),
        (b"", "last_checkpoint doesn't hold the name of a checkpoint"),
        (b"x" * 10_000, "last_checkpoint doesn't hold the name of a checkpoint"),
        (b"model_0000099.pth", r"last_checkpoint names model_0000099\.pth, which isn't there.*model_0000001\.pth"),
    ],
    ids=["binary", "empty", "long", "stale"],
)
def test_a_last_checkpoint_of_no_use_is_named(train, tmp_path, content, message):
    (tmp_path / "output").mkdir()
    (tmp_path / "output" / "model_0000001.pth").write_bytes(b"")
    (tmp_path / "output" / "last_checkpoint").write_bytes(content)

    result = train("--resume")

    assert_refused(result, message, "--resume")
    assert "MODEL.WEIGHTS" not in result.stderr
    assert not (tmp_path / "output" / "log.txt").exists()


def test_a_last_checkpoint_of_another_training_is_one_sentence(train, tiny_config, tmp_path):
    first = train()
    assert first.returncode == 0, first.stderr
    content = torch.load(tmp_path / "output" / "model_final.pth", weights_only=True)
    content["trainer"]["iteration"] = "many"
    del content["trainer"]["_trainer"]["optimizer"]["param_groups"]
    torch.save(content, tmp_path / "output" / "model_final.pth")

    result = train("--resume", "SOLVER.MAX_ITER", "4")

    assert_refused(result, r"model_final\.pth: the state of the training in it can't be taken up", "without --resume")


def test_missing_weights_are_noticed_before_anything_is_made(train, tmp_path):
    result = train("MODEL.WEIGHTS", "no/such.pth")

    assert_refused(result, r"no/such\.pth")
    assert not (tmp_path / "output").exists()


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
    from detr_d2.data.registration_config import register_file

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


# --- the disk is full -------------------------------------------------------------------------------------------------


def _files_of_at_most(size: int) -> Callable[[], None]:
    """For a process that starts: files can't become larger, which the system refuses as it does on a full disk."""

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return limit


@pytest.mark.parametrize("size", [1_000, 20_000, 100_000])
def test_a_disk_that_is_full_is_one_sentence(train, tmp_path, size):
    result = train("SOLVER.CHECKPOINT_PERIOD", "1", preexec_fn=_files_of_at_most(size))

    assert_refused(result, "File too large", "output")
    assert not list((tmp_path / "output").glob("*.pth")) and not list((tmp_path / "output").glob(".*"))


def test_a_thread_that_finds_the_disk_full_leaves_it_to_the_others(tmp_path, monkeypatch):
    import threading

    from detr_d2.training import naming_output_folder

    shown: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", shown.append)

    def write() -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match=f"No space left on device: '{tmp_path}'"), naming_output_folder(str(tmp_path)):
        thread = threading.Thread(target=write)
        thread.start()
        thread.join()
        write()

    assert shown == [] and threading.excepthook == shown.append


def test_a_full_disk_costs_no_checkpoint_that_was_there(tiny_config, tmp_path, monkeypatch):
    from detr_d2 import files
    from detr_d2.checkpoint import DetrCheckpointer

    from detectron2.modeling import build_model

    checkpointer = DetrCheckpointer(build_model(tiny_config()), str(tmp_path))
    checkpointer.save("model_final")
    before = (tmp_path / "model_final.pth").read_bytes()

    class Full:
        """A file on a disk that is full after some bytes."""

        def __init__(self, file: Any) -> None:
            self.file, self.left = file, 1000

        def write(self, data: Any) -> int:
            self.left -= len(bytes(data))
            if self.left < 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            return int(self.file.write(data))

        def __getattr__(self, name: str) -> Any:
            return getattr(self.file, name)

        def __enter__(self) -> Full:
            return self

        def __exit__(self, *exc: object) -> None:
            self.file.close()

    monkeypatch.setattr(files, "open", lambda *words: Full(open(*words)), raising=False)  # noqa: SIM115

    with pytest.raises(OSError, match=r"No space left on device: .*model_final\.pth"):
        checkpointer.save("model_final")

    monkeypatch.undo()
    assert (tmp_path / "model_final.pth").read_bytes() == before
    assert (tmp_path / "last_checkpoint").read_text() == "model_final.pth"
    assert sorted(path.name for path in tmp_path.glob("*model*")) == ["model_final.pth"]


# --- memory -----------------------------------------------------------------------------------------------------------


def test_memory_that_does_not_do_is_one_sentence():
    from detr_d2.training import explaining_exhaustion

    with (
        pytest.raises(ConfigError, match=r"memory ran out: DefaultCPUAllocator.*IMS_PER_BATCH"),
        explaining_exhaustion(),
    ):
        torch.empty(2**55)
    with pytest.raises(RuntimeError, match="something else"), explaining_exhaustion():
        raise RuntimeError("something else")


class Dying(torch.utils.data.Dataset):
    """A dataset whose worker is killed, as by a machine without memory."""

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> int:
        os.kill(os.getpid(), signal.SIGKILL)
        return index


def test_a_worker_that_is_killed_is_one_sentence():
    from detr_d2.training import explaining_exhaustion

    with pytest.raises(ConfigError, match=r"a data-loader worker was lost.*NUM_WORKERS"), explaining_exhaustion():
        list(torch.utils.data.DataLoader(Dying(), num_workers=1))


# --- interruption -----------------------------------------------------------------------------------------------------


def _interrupt(
    command: list[str], env: dict[str, str], folder: Path, ready: Callable[[str], bool], whole_group: bool
) -> tuple[int, str, str]:
    """Starts a training, sends SIGINT once its output shows that it is ready; exit code, stdout and stderr."""
    out, err = folder / "out.txt", folder / "err.txt"
    with open(out, "wb") as stdout, open(err, "wb") as stderr:
        process = subprocess.Popen(command, stdout=stdout, stderr=stderr, cwd=folder, env=env, start_new_session=True)
        deadline = time.monotonic() + 240
        while not ready(out.read_text(errors="replace")):
            if process.poll() is not None or time.monotonic() > deadline:
                break
            time.sleep(0.05)
        if whole_group:
            os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        else:
            process.send_signal(signal.SIGINT)
        try:
            code = process.wait(60)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    return code, out.read_text(errors="replace"), err.read_text(errors="replace")


LONG = ("SOLVER.MAX_ITER", "100000", "SOLVER.CHECKPOINT_PERIOD", "3")


@pytest.mark.parametrize("workers", ["0", "2"])
def test_an_interrupted_training_says_how_to_go_on(command, project_folder, tmp_path, workers):
    words = command(*LONG, "DATALOADER.NUM_WORKERS", workers)

    code, _, err = _interrupt(words, environment(project_folder), tmp_path, lambda text: "0000005.pth" in text, True)

    assert code == 130 and "Traceback" not in err, err
    assert re.search(r"^stopped: .*--resume.*output/model_\d+\.pth", err, re.MULTILINE), err
    heard, _ = spoken(err)
    assert heard.startswith("Ctrl-C: the training saves and stops after this iteration")


def test_an_interruption_before_the_training_says_so(command, project_folder, tmp_path):
    """A signal that comes later, as the machine is busy, has a checkpoint written."""
    (tmp_path / "output").mkdir()
    (tmp_path / "output" / "last_checkpoint").write_text("model_of_long_ago.pth")
    words = command(*LONG[:2], "SOLVER.CHECKPOINT_PERIOD", "99999")

    code, _, err = _interrupt(
        words, environment(project_folder), tmp_path, lambda text: "Environment info" in text, True
    )

    assert code == 130 and "Traceback" not in err, err
    assert "before the first checkpoint" in err or ("goes on from" in err and "of_long_ago" not in err), err


@pytest.mark.parametrize("whole_group", [True, False], ids=["terminal", "only the first process"])
def test_interrupted_processes_end_together_and_silently(command, project_folder, tmp_path, whole_group):
    words = command("--num-gpus", "2", "--dist-url", "auto", *LONG, "DATALOADER.NUM_WORKERS", "1")

    code, _, err = _interrupt(
        words, environment(project_folder), tmp_path, lambda text: "0000005.pth" in text, whole_group
    )

    assert code == 130 and "Traceback" not in err, err
    assert re.search(r"^stopped: .*--resume.*output/model_\d+\.pth", err, re.MULTILINE), err
    with pytest.raises(ProcessLookupError):
        for _ in range(100):
            time.sleep(0.1)
            os.killpg(_group_of(tmp_path), 0)


def _group_of(folder: Path) -> int:
    """A process that was started in the folder and still runs."""
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdecimal() and os.readlink(entry / "cwd") == str(folder):
                return os.getpgid(int(entry.name))
        except OSError:
            continue
    raise ProcessLookupError


def test_an_interruption_waits_for_the_checkpoint_that_is_being_written(tmp_path, monkeypatch):
    from detr_d2.checkpoint import formats

    def save(content: Any, file: Any) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        file.write(b"whole")

    monkeypatch.setattr(formats.torch, "save", save)

    with pytest.raises(KeyboardInterrupt):
        formats.write_checkpoint({}, tmp_path / "model.pth")

    assert (tmp_path / "model.pth").read_bytes() == b"whole"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


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


# --- metrics.json -----------------------------------------------------------------------------------------------------


def test_metrics_are_strict_json(project_folder, tiny_config, tmp_path, monkeypatch):
    """What there is nothing to judge of is left out; evaluations.jsonl has null for it."""
    from detr_d2.data import register_from_config

    module = load_module(project_folder / "train_net.py")
    cfg = tiny_config("SOLVER.MAX_ITER", 2, "TEST.EVAL_PERIOD", 1, "TEST.SCENES", 0)
    register_from_config(cfg)
    results = {"panoptic_seg": {"PQ": float("nan"), "SQ": 3.0}, "bbox": {"AP": float("inf")}}
    monkeypatch.setattr(module.Trainer, "test", classmethod(lambda cls, cfg, model: results))

    module.Trainer(cfg).train()

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} isn't JSON")

    lines = (tmp_path / "output" / "metrics.json").read_text().splitlines()
    written = [json.loads(line, parse_constant=refuse) for line in lines]
    assert any(line.get("panoptic_seg/SQ") == 3.0 for line in written)
    assert not any("panoptic_seg/PQ" in line or "bbox/AP" in line for line in written)
    evaluations = (tmp_path / "output" / "evaluations.jsonl").read_text().splitlines()
    assert json.loads(evaluations[0], parse_constant=refuse)["panoptic_seg/PQ"] is None
