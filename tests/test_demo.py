"""demo.py and its predictor, with a tiny model of random weights and two made-up scenes."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import detr_d2.meta_arch  # noqa: F401  registers the model
from detr_d2.checkpoint import DetrCheckpointer
from detr_d2.config import check_device, load_config
from detr_d2.data import register_from_config
from detr_d2.errors import ConfigError, MissingFileError, WeightsError, run_command
from detr_d2.prediction import DetrPredictor
from detr_d2.prediction.images import read_image
from detr_d2.yard import write_yard
from tests.modules import load_module

from detectron2.config import CfgNode
from detectron2.modeling import build_model

TINY = {
    "MODEL.DETR.HIDDEN_DIM": 32,
    "MODEL.DETR.NHEADS": 4,
    "MODEL.DETR.DIM_FEEDFORWARD": 32,
    "MODEL.DETR.ENC_LAYERS": 1,
    "MODEL.DETR.DEC_LAYERS": 2,
    "MODEL.DETR.NUM_QUERIES": 5,
    "MODEL.RESNETS.DEPTH": 18,
    "MODEL.RESNETS.RES2_OUT_CHANNELS": 64,
    "MODEL.RESNETS.STEM_OUT_CHANNELS": 64,
    "MODEL.RESNETS.RES5_DILATION": 1,
    "MODEL.DEVICE": "cpu",
    "MODEL.DETR.MASK_ON": True,
}


class Trial:
    """A dataset, weights, and the command line that uses both."""

    def __init__(self, folder: Path, project_folder: Path) -> None:
        self.config_file = str(project_folder / "configs" / "quickstart" / "detr_yard.yaml")
        yard = folder / "yard"
        write_yard(str(yard), train=2, val=2, width=96, height=80, seed=0)
        self.pictures = sorted((yard / "images").glob("*val*"))
        self.opts = [str(part) for pair in TINY.items() for part in pair]
        # A name of its own for each test session's dataset: those of register.yaml may be taken by another test.
        (yard / "register.yaml").write_text(
            (yard / "register.yaml").read_text().replace("yard_", "demo_yard_"), encoding="utf-8"
        )
        self.opts += ["DATASETS.REGISTER", f"['{yard / 'register.yaml'}']"]
        self.opts += ["DATASETS.TRAIN", "('demo_yard_train',)", "DATASETS.TEST", "('demo_yard_val',)"]
        self.weights = self.save("panoptic")

    def config(self, *opts: str) -> CfgNode:
        cfg = load_config(self.config_file, [*self.opts, *opts])
        register_from_config(cfg)
        return cfg

    def save(self, name: str, *opts: str) -> str:
        torch.manual_seed(0)
        folder = self.pictures[0].parent.parent
        DetrCheckpointer(build_model(self.config(*opts)), str(folder)).save(name)
        return str(folder / f"{name}.pth")


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory, project_folder: Path) -> Trial:
    return Trial(tmp_path_factory.mktemp("demo"), project_folder)


@pytest.fixture(scope="module")
def demo(project_folder: Path) -> ModuleType:
    return load_module(project_folder / "demo.py")


def run(
    demo: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    trial: Trial,
    inputs: list[Any],
    output: Path,
    *more: str,
    weights: str | None = None,
    threshold: str = "0.01",
) -> int:
    arguments = ["demo.py", "--config-file", trial.config_file, "--input", *map(str, inputs), "--output", str(output)]
    arguments += ["--confidence-threshold", threshold, "--opts", *trial.opts]
    arguments += ["MODEL.WEIGHTS", trial.weights if weights is None else weights, *more]
    monkeypatch.setattr(sys, "argv", arguments)
    return run_command(demo.main)


def test_demo_draws_every_image(
    demo: ModuleType, monkeypatch: pytest.MonkeyPatch, trial: Trial, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run(demo, monkeypatch, trial, trial.pictures, tmp_path / "out")

    assert code == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [path.name for path in trial.pictures]
    for image in trial.pictures:
        drawn = Image.open(tmp_path / "out" / image.name)
        assert drawn.size == (480, 400), "enlarged by a whole factor, so that names can be read"
        plain = Image.open(image).resize(drawn.size)
        assert np.abs(np.asarray(drawn, dtype=int) - np.asarray(plain, dtype=int)).mean() > 5
    assert f"2 of 2 images drawn: {tmp_path / 'out'}" in capsys.readouterr().out


def test_demo_needs_no_config_and_no_dataset_beside_the_weights(
    demo: ModuleType, monkeypatch: pytest.MonkeyPatch, trial: Trial, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures = ["--input", str(trial.pictures[0]), "--output", str(tmp_path / "out")]
    monkeypatch.setattr(
        sys, "argv", ["demo.py", "--weights", trial.weights, *pictures, "--opts", "MODEL.DEVICE", "cpu"]
    )

    assert run_command(demo.main) == 0

    assert (tmp_path / "out" / trial.pictures[0].name).is_file()
    monkeypatch.setattr(sys, "argv", ["demo.py", *pictures])
    assert run_command(demo.main) == 2
    assert "Give --weights FILE, or --config-file FILE" in capsys.readouterr().err


def test_demo_draws_what_can_be_read_and_names_the_rest(
    demo: ModuleType, monkeypatch: pytest.MonkeyPatch, trial: Trial, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "cut.jpg").write_bytes(trial.pictures[0].read_bytes()[:900])
    inputs = [tmp_path / "cut.jpg", tmp_path / "gone.jpg", trial.pictures[0]]

    code = run(demo, monkeypatch, trial, inputs, tmp_path / "out")

    captured = capsys.readouterr()
    assert code == 2
    assert [path.name for path in (tmp_path / "out").iterdir()] == [trial.pictures[0].name]
    assert "cut.jpg: can't be read as an image" in captured.err
    assert "gone.jpg: there is no such file" in captured.err
    assert "1 of 2 images drawn" in captured.out


def test_demo_draws_boxes_of_a_model_without_masks(
    demo: ModuleType, monkeypatch: pytest.MonkeyPatch, trial: Trial, tmp_path: Path
) -> None:
    weights = trial.save("boxes", "MODEL.DETR.MASK_ON", "False")

    code = run(
        demo,
        monkeypatch,
        trial,
        trial.pictures[:1],
        tmp_path / "boxes.png",
        "MODEL.DETR.MASK_ON",
        "False",
        weights=weights,
    )

    assert code == 0
    assert Image.open(tmp_path / "boxes.png").size == (480, 400)


@pytest.mark.parametrize(
    ("opts", "message"),
    [
        (["MODEL.WEIGHTS", "nosuch.pth"], "nosuch.pth"),
        (["MODEL.WEIGHTS", ""], "MODEL.WEIGHTS is empty"),
        (["MODEL.DEVICE", "cuda:99"], "MODEL.DEVICE"),
        (["MODEL.DETR.MASKON", "True"], "MODEL.DETR.MASK_ON"),
    ],
)
def test_demo_says_what_the_user_can_mend_and_writes_nothing(
    demo: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    trial: Trial,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    opts: list[str],
    message: str,
) -> None:
    code = run(demo, monkeypatch, trial, trial.pictures, tmp_path / "out", *opts)

    error = capsys.readouterr().err
    assert code == 2
    assert message in error
    assert "Traceback" not in error
    assert not (tmp_path / "out").exists()


def test_demo_without_any_image_says_so(
    demo: ModuleType, monkeypatch: pytest.MonkeyPatch, trial: Trial, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run(demo, monkeypatch, trial, [tmp_path / "*.jpg"], tmp_path / "out")

    assert code == 2
    assert "names no image" in capsys.readouterr().err


@pytest.mark.parametrize("value", ["1.5", "-0.1", "many"])
def test_demo_refuses_a_threshold_that_is_no_probability(
    demo: ModuleType, capsys: pytest.CaptureFixture[str], value: str
) -> None:
    with pytest.raises(SystemExit):
        demo.get_parser().parse_args(
            ["--config-file", "c", "--input", "i", "--output", "o", f"--confidence-threshold={value}"]
        )

    assert "isn't a number between 0 and 1" in capsys.readouterr().err


def test_demo_threshold_counts_for_every_class(trial: Trial, demo: ModuleType) -> None:
    opts = [*trial.opts, "MODEL.DETR.CLASS_SCORE_THRESHOLDS", str([0.3] * 10)]
    words = ["--config-file", trial.config_file, "--input", "i", "--output", "o", "--confidence-threshold", "0.9"]

    cfg = demo.setup_cfg(demo.get_parser().parse_args([*words, "--opts", *opts]))

    assert cfg.MODEL.DETR.SCORE_THRESHOLD == 0.9
    assert cfg.MODEL.DETR.CLASS_SCORE_THRESHOLDS == [], "or those of a sweep would go before it"


def test_demo_draws_a_video(
    demo: ModuleType, monkeypatch: pytest.MonkeyPatch, trial: Trial, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    av = pytest.importorskip("av", reason="PyAV isn't installed: pip install 'detr_d2[video]'")
    with av.open(str(tmp_path / "site.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 80, "yuv420p"
        for _ in range(2):
            frame = av.VideoFrame.from_image(Image.open(trial.pictures[0]))
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    words = ["--weights", trial.weights, "--video-input", str(tmp_path / "site.mp4"), "--output", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", ["demo.py", *words, "--opts", "MODEL.DEVICE", "cpu"])

    assert run_command(demo.main) == 0

    assert [path.name for path in (tmp_path / "out").iterdir()] == ["site.mp4"]
    assert "2 frames drawn" in capsys.readouterr().out


def test_demo_help_has_an_example(demo: ModuleType) -> None:
    assert "python demo.py --config-file" in demo.get_parser().format_help()


def test_predictor_returns_results_of_the_images_own_size(trial: Trial) -> None:
    predictor = DetrPredictor(trial.config("MODEL.WEIGHTS", trial.weights))

    result = predictor(read_image(trial.pictures[0])[:, :, ::-1])

    assert result["panoptic_seg"][0].shape == (80, 96)


def test_predictor_takes_a_stage_2_config_as_it_is(trial: Trial) -> None:
    frozen = DetrPredictor(trial.config("MODEL.WEIGHTS", trial.weights, "MODEL.DETR.FREEZE_DETECTOR", "True"))
    joint = DetrPredictor(trial.config("MODEL.WEIGHTS", trial.weights))

    image = read_image(trial.pictures[0])[:, :, ::-1]
    torch.testing.assert_close(frozen(image)["panoptic_seg"][0], joint(image)["panoptic_seg"][0])


def test_predictor_refuses_weights_that_leave_parts_random(trial: Trial) -> None:
    boxes = trial.save("boxes_only", "MODEL.DETR.MASK_ON", "False")

    with pytest.raises(WeightsError, match="seems to be of stage 1"):
        DetrPredictor(trial.config("MODEL.WEIGHTS", boxes))
    with pytest.raises(WeightsError, match=r"Set MODEL\.DETR\.HIDDEN_DIM 32"):
        DetrPredictor(trial.config("MODEL.WEIGHTS", trial.weights, "MODEL.DETR.HIDDEN_DIM", "16"))


def test_predictor_refuses_weights_that_are_none(trial: Trial, tmp_path: Path) -> None:
    (tmp_path / "photo.pth").write_bytes(trial.pictures[0].read_bytes())

    with pytest.raises(WeightsError, match=r"photo\.pth"):
        DetrPredictor(trial.config("MODEL.WEIGHTS", str(tmp_path / "photo.pth")))
    with pytest.raises(MissingFileError, match=r"gone\.pth"):
        DetrPredictor(trial.config("MODEL.WEIGHTS", str(tmp_path / "gone.pth")))


@pytest.mark.parametrize("device", ["gpu", "cuda:99"])
def test_device_that_is_not_there_is_refused(device: str) -> None:
    cfg = load_config("", ["MODEL.DEVICE", device])

    with pytest.raises(ConfigError, match=f"The device '{device}'"):
        check_device(cfg)


def test_gpu_that_is_absent_has_a_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    with pytest.raises(ConfigError, match=r"Choose cpu"):
        check_device(load_config("", ["MODEL.DEVICE", "cuda"]))
