"""detr-d2 plan: what it counts, what it warns of, and that what it prints can be run."""

from __future__ import annotations

import json
import math
import os
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from detr_d2.cli import main
from detr_d2.config import load_config
from detr_d2.data.registration import register_file, write_register
from detr_d2.errors import ConfigError, DatasetError
from detr_d2.plan.measuring import Measured, Point, measure
from detr_d2.plan.planning import make_plan
from detr_d2.plan.stages import draft, find_start
from detr_d2.plan.survey import survey
from detr_d2.training.setup import check_before_start

from detectron2.config import CfgNode

TinyConfig = Callable[..., CfgNode]
R50 = "detr_panoptic_R50.yaml"


@pytest.fixture
def plan(capsys: pytest.CaptureFixture[str]) -> Callable[..., dict[str, Any]]:
    """Runs ``detr-d2 plan --json`` and returns what it says."""

    def run(*words: object) -> dict[str, Any]:
        at = words.index("--opts") if "--opts" in words else len(words)
        assert main(["plan", *map(str, words[:at]), "--json", *map(str, words[at:])]) == 0
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    return run


@pytest.fixture
def tiny_file(tiny_config: TinyConfig, tmp_path: Path) -> Path:
    """The tiny config as a yaml."""
    path = tmp_path / "tiny.yaml"
    path.write_text(tiny_config().dump(), encoding="utf-8")
    return path


@pytest.fixture
def copied_yard(yard_folder: Path, tmp_path: Path) -> Path:
    """Copies of the yard's labels under other names, to be changed; images are those of the yard."""
    folder = tmp_path / "mine"
    folder.mkdir()
    for name in ("panoptic_train.json", "panoptic_val.json"):
        (folder / name).write_bytes((yard_folder / name).read_bytes())
    for name in ("images", "panoptic"):
        os.symlink(yard_folder / name, folder / name)
    write_register(folder, f"plan_{tmp_path.name}", ("train", "val"))
    text = (folder / "register.yaml").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if "instances" not in line]
    (folder / "register.yaml").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def rewrite(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Changes the labels to train on."""
    path = folder / "panoptic_train.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")


def parsed(command: str) -> tuple[CfgNode, bool]:
    """A printed command's config, as train_net.py loads it, and whether it only evaluates."""
    words = shlex.split(command)
    assert words[:3] == ["python", "train_net.py", "--config-file"]
    only_evaluates = words[4] == "--eval-only"
    return load_config(words[3], words[5 if only_evaluates else 4 :]), only_evaluates


def test_images_and_classes_are_counted(plan: Callable[..., Any], yard_folder: Path) -> None:
    content = json.loads((yard_folder / "panoptic_train.json").read_text(encoding="utf-8"))
    segments = [segment for each in content["annotations"] for segment in each["segments_info"]]

    found = plan(yard_folder, "--no-measure")["dataset"]

    assert (found["name"], found["validation"], found["images"]) == ("yard_train", "yard_val", 6)
    assert found["widths"] == [160, 160, 160] and found["heights"] == [128, 128, 128]
    assert sum(each["segments"] for each in found["classes"]) == len(segments)
    assert found["most_segments"] == max(len(each["segments_info"]) for each in content["annotations"])
    assert [each["name"] for each in found["classes"] if each["images"] == 6]


@pytest.mark.parametrize("form", ["folder", "yaml", "name", "json"])
def test_dataset_is_found_by_each_form_of_the_argument(form: str, plan: Callable[..., Any], yard_folder: Path) -> None:
    register = yard_folder / "register.yaml"
    forms: dict[str, tuple[object, ...]] = {
        "folder": (yard_folder,),
        "yaml": (register,),
        "name": ("yard_train", "--register", register),
        "json": (yard_folder / "panoptic_train.json",),
    }

    found = plan(*forms[form], "--no-measure")

    assert found["dataset"]["images"] == 6
    cfg, _ = parsed(found["commands"][next(iter(found["commands"]))])
    entry = cfg.DATASETS.REGISTER[0]
    assert entry == str(register) if form != "json" else entry["panoptic_json"].endswith("panoptic_train.json")


@pytest.mark.parametrize("config", ["", "quickstart/detr_yard.yaml", "quickstart/detr_panoptic_yard.yaml"])
def test_printed_commands_are_configs_that_train(
    config: str,
    plan: Callable[..., Any],
    yard_folder: Path,
    project_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(project_folder)
    chosen = ["--config-file", project_folder / "configs" / config] if config else []

    found = plan(yard_folder, "--no-measure", *chosen)

    titles = list(found["commands"])
    assert [title.split(":")[0] for title in titles] == ["stage 1", "stage 2", "evaluation", "thresholds"]
    first, second, evaluation = (parsed(found["commands"][title]) for title in titles[:3])
    assert not first[1] and not second[1] and evaluation[1]
    assert os.path.join(first[0].OUTPUT_DIR, "model_final.pth") == second[0].MODEL.WEIGHTS
    assert os.path.join(second[0].OUTPUT_DIR, "model_final.pth") == evaluation[0].MODEL.WEIGHTS
    masks = load_config(str(project_folder / "configs" / ((config and "quickstart/detr_panoptic_yard.yaml") or R50)))
    assert second[0].MODEL.DETR.MASK_ON
    assert second[0].MODEL.DETR.FREEZE_DETECTOR == masks.MODEL.DETR.FREEZE_DETECTOR
    assert first[0].MODEL.DETR.NUM_QUERIES == second[0].MODEL.DETR.NUM_QUERIES
    for cfg, only_evaluates in (first, second):
        cfg.MODEL.WEIGHTS, cfg.MODEL.DETR.FREEZE_DETECTOR, cfg.OUTPUT_DIR = "", False, str(tmp_path / "out")
        assert check_before_start(cfg, only_evaluates, False) is not None


def test_published_weights_train_all_together_first_so_that_their_mask_head_stays(
    plan: Callable[..., Any], yard_folder: Path
) -> None:
    found = plan(yard_folder, "--no-measure")

    cfg, _ = parsed(found["commands"]["stage 1: boxes, classes and masks together"])
    assert cfg.MODEL.WEIGHTS == "detr-r50-panoptic" and cfg.MODEL.DETR.NUM_QUERIES == 100
    assert cfg.MODEL.DETR.MASK_ON and not cfg.MODEL.DETR.FREEZE_DETECTOR
    assert cfg.INPUT.MIN_SIZE_TEST == 256  # small images aren't blown up to 800 pixels


def test_training_from_scratch_on_few_photos_is_warned_of(
    plan: Callable[..., Any], yard_folder: Path, project_folder: Path
) -> None:
    small = plan(yard_folder, "--no-measure", "--config-file", project_folder / "configs/quickstart/detr_yard.yaml")
    large = plan(yard_folder, "--no-measure", "--opts", "MODEL.WEIGHTS", "")

    assert any("starts from scratch" in text and "detr-r50-panoptic" in text for text in small["warnings"])
    assert any("--opts MODEL.WEIGHTS detr-r50-panoptic" in text for text in large["warnings"])
    assert not any("from scratch" in text for text in plan(yard_folder, "--no-measure")["warnings"])


def test_classes_with_few_and_without_examples_are_named(plan: Callable[..., Any], copied_yard: Path) -> None:
    def without_pipes(content: dict[str, Any]) -> None:
        pipe = next(each["id"] for each in content["categories"] if each["name"] == "pipe")
        cone = next(each["id"] for each in content["categories"] if each["name"] == "cone")
        for annotation in content["annotations"]:
            for segment in annotation["segments_info"]:
                segment["category_id"] = cone if segment["category_id"] == pipe else segment["category_id"]

    rewrite(copied_yard, without_pipes)

    found = plan(copied_yard, "--no-measure")

    assert found["dataset"]["absent"] == ["pipe"]
    assert any("shows pipe" in text and "can't be learnt" in text for text in found["warnings"])
    assert any("Few examples" in text and "cone (" in text for text in found["warnings"])


def test_more_queries_are_planned_where_an_image_is_fuller(plan: Callable[..., Any], copied_yard: Path) -> None:
    def many_drums(content: dict[str, Any]) -> None:
        first = content["annotations"][0]["segments_info"]
        first += [{**first[0], "id": 10_000 + number} for number in range(120 - len(first))]

    rewrite(copied_yard, many_drums)

    found = plan(copied_yard, "--no-measure")

    assert found["dataset"]["most_segments"] == 120
    assert all(stage["changes"]["MODEL.DETR.NUM_QUERIES"] == "180" for stage in found["stages"])
    limited = plan(copied_yard, "--no-measure", "--opts", "MODEL.DETR.NUM_QUERIES", "50")
    assert any("120 segments, and 50 queries" in text for text in limited["warnings"])


def test_keys_of_the_command_line_stay_as_they_were_given(plan: Callable[..., Any], yard_folder: Path) -> None:
    given = {"SOLVER.CHECKPOINT_KEEP": "5", "SOLVER.STEPS": "(7, 9)", "TEST.EVAL_PERIOD": "4", "OUTPUT_DIR": "mine"}

    found = plan(yard_folder, "--no-measure", "--opts", *(word for pair in given.items() for word in pair))

    for number, stage in enumerate(found["stages"], 1):
        assert stage["changes"] | given | {"OUTPUT_DIR": f"mine/stage{number}"} == stage["changes"]
    assert found["stages"][1]["changes"]["MODEL.WEIGHTS"] == "mine/stage1/model_final.pth"


def test_dataset_without_labels_is_refused(copied_yard: Path) -> None:
    def empty(content: dict[str, Any]) -> None:
        content["annotations"] = []

    rewrite(copied_yard, empty)

    with pytest.raises(DatasetError):
        main(["plan", str(copied_yard), "--no-measure"])


def test_dataset_of_boxes_has_one_stage(plan: Callable[..., Any], yard_folder: Path) -> None:
    found = plan(yard_folder / "instances_train.json", "--no-measure")

    assert [stage["title"] for stage in found["stages"]] == ["boxes"]
    cfg, _ = parsed(next(iter(found["commands"].values())))
    assert not cfg.MODEL.DETR.MASK_ON
    assert any("boxes of things" in text for text in found["warnings"])


def test_steps_are_measured_and_fill_the_minutes(plan: Callable[..., Any], yard_folder: Path, tiny_file: Path) -> None:
    words = [yard_folder, "--config-file", tiny_file, "--seconds", 1, "--minutes", 0.1]

    found = plan(*words, "--opts", "SOLVER.IMS_PER_BATCH", 2, "SOLVER.MAX_ITER", 1_000_000)

    assert len(found["stages"]) == 2
    for stage in found["stages"]:
        assert stage["step_seconds"] > 0 and stage["memory"] > 0 and stage["measured_batch"] in (1, 2)
        assert 2 <= stage["iterations"] < 1_000_000
    assert found["seconds"] < 12 or any(stage["iterations"] == 2 for stage in found["stages"])


def test_batches_are_halved_until_the_memory_holds_them(
    yard_folder: Path, project_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register_file(str(yard_folder / "register.yaml"), "test")
    found, _ = survey("yard_train", "yard_val")
    start = find_start(str(project_folder / "configs/quickstart/detr_yard.yaml"))
    stages, recipe = draft(start, found, [], {"SOLVER.IMS_PER_BATCH": "8"})
    measured = Measured((Point(1, 10_000, 1.0, 150), Point(2, 20_000, 2.0, 250)), ((100, 100),), 0, 0, 50, 1.0, 0, True)
    monkeypatch.setattr("detr_d2.plan.planning.free_memory", lambda device: 700)

    plan = make_plan(found, stages, recipe, [], lambda stage, batch: measured, None)

    assert [each.batch for each in plan.stages] == [4, 4]  # 8 would need 850, and 560 are to be used
    cfg, wanted = plan.stages[0].stage.config(), stages[0].config()
    assert cfg.SOLVER.IMS_PER_BATCH == 4 and cfg.SOLVER.BASE_LR < wanted.SOLVER.BASE_LR
    assert cfg.SOLVER.MAX_ITER == 2 * wanted.SOLVER.MAX_ITER
    assert sum("batches of 4 instead of 8" in text for text in plan.warnings) == 2


def test_minutes_hold_for_iterations_and_evaluations_together(yard_folder: Path, project_folder: Path) -> None:
    register_file(str(yard_folder / "register.yaml"), "test")
    found, _ = survey("yard_train", "yard_val")
    stages, recipe = draft(find_start(str(project_folder / "configs/quickstart/detr_yard.yaml")), found, [], {})
    measured = Measured((Point(8, 80_000, 0.5, 150),), ((100, 100),), 0, 60.0, 50, 1.0, 0, True)

    plan = make_plan(found, stages, recipe, [], lambda stage, batch: measured, 30)

    assert plan.seconds is not None and 0.9 * 30 * 60 < plan.seconds <= 30 * 60
    for each in plan.stages:
        period = each.stage.config().TEST.EVAL_PERIOD
        assert 1 <= math.ceil(each.iterations / period) <= each.evaluations < 10


def test_images_for_which_the_memory_is_too_small_are_said(
    tiny_config: TinyConfig, yard_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Greedy:
        def zero_grad(self) -> None:
            raise MemoryError

    register_file(str(yard_folder / "register.yaml"), "test")
    _, records = survey("yard_train")
    monkeypatch.setattr("detr_d2.plan.measuring.build_optimizer", lambda cfg, model: Greedy())

    with pytest.raises(ConfigError, match=r"not even one image of up to 256 pixels a side.*MAX_SIZE_TRAIN 128"):
        measure(tiny_config(), records, 2, 1.0, "boxes")


def test_config_of_another_model_is_refused(yard_folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    other.write_text("MODEL: {META_ARCHITECTURE: PanopticFPN}\n", encoding="utf-8")

    with pytest.raises(ConfigError, match="this project's is DetrPanoptic"):
        main(["plan", str(yard_folder), "--config-file", str(other), "--no-measure"])


def test_minutes_need_measuring(yard_folder: Path) -> None:
    with pytest.raises(ConfigError, match="leave out --no-measure"):
        main(["plan", str(yard_folder), "--minutes", "5", "--no-measure"])


def test_text_has_tables_and_commands(yard_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", str(yard_folder), "--no-measure"]) == 0

    text = capsys.readouterr().out
    assert "yard_train: 6 images" in text and "brick_stack" in text and "not measured" in text
    assert "# stage 1" in text and "detr-d2 sweep" in text
    command = text[text.index("python train_net.py") : text.index("# stage 2")]
    cfg, _ = parsed(command.replace("\\\n", ""))  # as a shell joins lines
    assert cfg.DATASETS.TRAIN == ("yard_train",)


def test_what_is_between_two_batches_is_on_their_line() -> None:
    sizes = ((100, 100), (100, 100))
    points = (Point(1, 10_000, 1.0, 1000), Point(4, 40_000, 2.5, 4000))
    measured = Measured(points, sizes, 0.1, 0.5, 500, 1.0, 0, True)

    assert measured.seconds(2) == pytest.approx(1.5 + 0.2)
    assert measured.memory(8) == 8000
    alone = Measured(points[:1], sizes, 0.0, 0.5, 500, 1.0, 0, True)
    assert alone.seconds(3) == pytest.approx(3.0) and alone.memory(3) == 2000
