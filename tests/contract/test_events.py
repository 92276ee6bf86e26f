"""Scalars, their writers and the logger: the same promises on the fallback and on Detectron2."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
import torch

from detectron2.utils.events import CommonMetricPrinter, EventStorage, JSONWriter, TensorboardXWriter, get_event_storage
from detectron2.utils.logger import setup_logger


def read(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_storage_is_current_inside_with_only() -> None:
    with EventStorage(3) as outer:
        with EventStorage(7) as inner:
            assert get_event_storage() is inner and inner.iter == 7
        assert get_event_storage() is outer

    with pytest.raises(AssertionError):
        get_event_storage()


def test_latest_keeps_value_and_iteration() -> None:
    storage = EventStorage(5)
    storage.put_scalars(loss=1.5, accuracy=2)
    storage.put_scalar("late", 3, cur_iter=9)

    assert storage.latest() == {"loss": (1.5, 5), "accuracy": (2.0, 5), "late": (3.0, 9)}
    assert set(storage.histories()) == {"loss", "accuracy", "late"}


def test_smoothed_scalars_are_written_as_the_median_of_the_last_iterations(tmp_path: Path) -> None:
    with EventStorage() as storage:
        for storage.iter in range(30):
            storage.put_scalar("loss", storage.iter)
            storage.put_scalar("lr", storage.iter, smoothing_hint=False)
        writer = JSONWriter(str(tmp_path / "metrics.json"), window_size=10)
        writer.write()
        writer.close()

    assert read(tmp_path / "metrics.json") == [{"iteration": 29, "loss": 24.5, "lr": 29.0}]


def test_smoothing_hint_of_a_scalar_never_changes() -> None:
    storage = EventStorage()
    storage.put_scalar("loss", 1)

    with pytest.raises(AssertionError):
        storage.put_scalar("loss", 1, smoothing_hint=False)


def test_json_writer_appends_what_is_new(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    with EventStorage() as storage:
        writer = JSONWriter(str(path))
        for storage.iter in (0, 1):
            storage.put_scalars(loss=storage.iter + 1, smoothing_hint=False)
            writer.write()
        writer.write()
        writer.close()
        again = JSONWriter(str(path))
        storage.put_scalar("AP", 7.5, smoothing_hint=False, cur_iter=4)
        again.write()
        again.close()

    assert read(path)[:2] == [{"iteration": 0, "loss": 1.0}, {"iteration": 1, "loss": 2.0}]
    assert read(path)[-1] == {"AP": 7.5, "iteration": 4}


def test_printer_shows_remaining_time_losses_and_rate(caplog: pytest.LogCaptureFixture, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    for name in ("detectron2", "detectron2.utils.events"):
        monkeypatch.setattr(logging.getLogger(name), "propagate", True)
    caplog.set_level(logging.INFO)
    with EventStorage() as storage:
        for storage.iter in range(11):
            storage.put_scalars(total_loss=1.25, time=2.0, data_time=0.5)
            storage.put_scalar("lr", 1e-4, smoothing_hint=False)
        CommonMetricPrinter(max_iter=101).write()

        assert storage.latest()["eta_seconds"] == (180.0, 10)
    for part in ("eta: 0:03:00", "iter: 10", "total_loss: 1.25", "time: 2.0000", "data_time: 0.5000", "lr: 0.0001"):
        assert part in caplog.text


def test_tensorboard_events_are_written(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    with EventStorage() as storage:
        storage.put_scalar("loss", 1)
        writer = TensorboardXWriter(str(tmp_path))
        writer.write()
        writer.close()

    assert [path for path in tmp_path.iterdir() if path.name.startswith("events.out.tfevents")]


def test_tensorboard_images_are_written_once(tmp_path: Path) -> None:
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    with EventStorage(7) as storage:
        storage.put_image("scene", torch.full((3, 4, 6), 200, dtype=torch.uint8))
        writer = TensorboardXWriter(str(tmp_path))
        writer.write()
        writer.write()
        writer.close()

    found = events.EventAccumulator(str(tmp_path), {"images": 0})
    found.Reload()
    assert [(image.step, image.width, image.height) for image in found.Images("scene")] == [(7, 6, 4)]


def test_logger_writes_a_file_for_each_rank(tmp_path: Path) -> None:
    main = setup_logger(str(tmp_path / "out"), name="contract_main")
    other = setup_logger(str(tmp_path / "out"), 2, name="contract_other")
    main.info("from the main process")
    other.warning("from another")

    assert main.level == logging.DEBUG and not main.propagate
    assert setup_logger(str(tmp_path / "out"), name="contract_main") is main
    for handler in main.handlers + other.handlers:
        handler.flush()
    assert "contract_main INFO: from the main process" in (tmp_path / "out" / "log.txt").read_text()
    assert "contract_other WARNING: from another" in (tmp_path / "out" / "log.txt.rank2").read_text()
    assert len(main.handlers) == 2 and len(other.handlers) == 1
