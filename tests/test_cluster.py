"""``--engine ray``: the same results as on this machine, also where a worker is ended in the middle."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from detr_d2 import Predictor, cli
from detr_d2 import parallel as cluster
from detr_d2.errors import DatasetError, run_command
from detr_d2.journal import JournalFile
from detr_d2.prediction.image_files import find_inputs
from detr_d2.prediction.running import WholeImages, predict_all, predict_on_cluster
from detr_d2.prediction.writers import WRITERS
from detr_d2.yard import write_yard_exports
from tests.prediction.conftest import write_checkpoint

needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="Ray Data isn't installed: pip install 'detr_d2[ray]'"
)
KINDS = list(WRITERS)


@pytest.fixture(scope="module")
def two_workers() -> Iterator[None]:
    """A cluster of this machine with two processors, whose workers have one thread, as this process has meanwhile."""
    ray, threads = cluster.import_ray(), torch.get_num_threads()
    torch.set_num_threads(1)
    patched = pytest.MonkeyPatch()
    patched.setenv("RAY_worker_niceness", "0")  # or the workers wait for whatever else runs on the machine
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()
    patched.undo()
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, yard_folder: Path) -> Path:
    """The file of a tiny panoptic model."""
    return write_checkpoint(tmp_path_factory.mktemp("model"), yard_folder, "panoptic", "MODEL.DETR.MASK_ON", True)


@pytest.fixture
def photos(yard_folder: Path, tmp_path: Path) -> Path:
    """A folder of nine photos, and a file that is none."""
    folder = tmp_path / "photos"
    shutil.copytree(yard_folder / "images", folder)
    (folder / "broken.jpg").write_text("no photo")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    """What is in each file of a folder."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@needs_ray
@pytest.mark.usefixtures("two_workers")
def test_predictions_on_a_cluster_are_those_of_this_machine(
    checkpoint: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = []
    for engine in ("local", "ray"):
        words = [str(checkpoint), str(photos), "--out", str(tmp_path / engine), "--device", "cpu", "--write", "all"]
        assert run_command(lambda words=words, engine=engine: cli.main(["predict", *words, "--engine", engine])) == 2
        said.append(capsys.readouterr())

    assert contents(tmp_path / "ray") == contents(tmp_path / "local")
    assert said[1].err == said[0].err
    assert said[1].out == said[0].out.replace("/local has", "/ray has")


def _ended_once(build: Callable[[], WholeImages], marker: Path, name: str) -> WholeImages:
    """An engine whose process is ended, the first time it is to predict an image of this name."""
    engine = build()
    predict = engine.predict

    def predict_or_end(images: list[Any]) -> list[Any]:
        if any(image.name == name for image in images) and not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return predict(images)

    engine.predict = predict_or_end  # type: ignore[method-assign]
    return engine


def _whole_images(checkpoint: Path) -> WholeImages:
    return WholeImages(Predictor(checkpoint, device="cpu"))


@needs_ray
@pytest.mark.usefixtures("two_workers")
def test_nothing_is_lost_or_twice_where_a_worker_is_killed(checkpoint: Path, photos: Path, tmp_path: Path) -> None:
    images, marker = find_inputs([str(photos)]).images, tmp_path / "killed"
    engine = _whole_images(checkpoint)
    predict_all(engine, images, tmp_path / "local", KINDS)

    build = partial(_ended_once, partial(_whole_images, checkpoint), marker, images[5].name)
    on_cluster = partial(predict_on_cluster, build, workers=2)
    outcome = predict_all(engine, images, tmp_path / "ray", KINDS, predict=on_cluster)

    assert marker.exists()
    assert (outcome.done, outcome.skipped) == (9, 1)
    assert contents(tmp_path / "ray") == contents(tmp_path / "local")
    with JournalFile(tmp_path / "ray" / "journal.jsonl") as journal:
        stems = [json.loads(line)[1]["stem"] for _, line in journal.lines()]
    assert stems == sorted(stems) and len(set(stems)) == 9


@needs_ray
@pytest.mark.usefixtures("two_workers")
def test_datasets_prepared_on_a_cluster_are_those_of_this_machine(tmp_path: Path) -> None:
    yard = write_yard_exports(tmp_path / "exports", images=10)
    sources = ["--cvat", str(yard / "cvat"), "--stuff", "masks", str(yard / "stuff"), "--overlap", "last"]

    for engine in ("local", "ray"):
        out = ["--out", str(tmp_path / engine / "yard")]
        assert cli.main(["prepare", *sources, *out, "--engine", engine, "--workers", "2"]) == 0

    made, expected = contents(tmp_path / "ray" / "yard"), contents(tmp_path / "local" / "yard")
    assert made.keys() == expected.keys()
    timed = {"report.html", "report.json"}  # which say how long it took
    assert {name: made[name] for name in made.keys() - timed} == {name: expected[name] for name in made.keys() - timed}


def _refuse(tasks: list[int]) -> list[int]:
    raise DatasetError(f"{tasks[0]} can't be")


@needs_ray
@pytest.mark.usefixtures("two_workers")
def test_errors_of_users_come_from_workers_as_they_are() -> None:
    with pytest.raises(DatasetError, match=r"^3 can't be$"):
        list(cluster.on_cluster(lambda: _refuse, [3], workers=1))


@needs_ray
@pytest.mark.usefixtures("two_workers")
def test_more_workers_than_processors_are_refused() -> None:
    with pytest.raises(cluster.StoppedError, match="3 workers take a processor each, and the cluster has 2"):
        list(cluster.on_cluster(lambda: _refuse, [3], workers=3))


def test_missing_ray_is_named_with_its_extra(
    checkpoint: Path, photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)

    code = run_command(lambda: cli.main(["predict", str(checkpoint), str(photos), "--engine", "ray"]))

    assert code == 2
    assert "pip install 'detr_d2[ray]'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [(["--workers", "2"], "give --engine ray"), (["--engine", "ray", "--rank"], "images only")],
)
def test_what_a_cluster_is_not_for_is_refused(
    checkpoint: Path, photos: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(lambda: cli.main(["predict", str(checkpoint), str(photos), *words])) == 2
    assert message in capsys.readouterr().err
