"""Checkpoints that were torn or changed are named, and a resumed run takes the one before; old ones are removed."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from detr_d2.checkpoint import DetrCheckpointer
from detr_d2.checkpoint.formats import read_content, write_checkpoint
from detr_d2.errors import WeightsError

from detectron2.config import CfgNode
from detectron2.modeling import build_model


@pytest.fixture
def checkpointer(tiny_config: Callable[..., CfgNode], tmp_path: Path) -> DetrCheckpointer:
    """A checkpointer that has saved three iterations, each with its number in one of the weights."""
    saving = DetrCheckpointer(build_model(tiny_config()), str(tmp_path))
    for iteration in (1, 3, 5):
        with torch.no_grad():
            saving.model.detr.class_embed.bias.fill_(iteration)
        saving.save(f"model_{iteration:07d}", iteration=iteration)
    return saving


def change_a_byte(path: Path) -> str:
    """Of the largest entry; returns its name."""
    with zipfile.ZipFile(path) as archive:
        entry = max(archive.infolist(), key=lambda info: info.file_size)
    content = bytearray(path.read_bytes())
    content[entry.header_offset + entry.file_size // 2 + 200] ^= 1
    path.write_bytes(content)
    return entry.filename


def cut_off(path: Path) -> str:
    path.write_bytes(path.read_bytes()[:-1000])
    return "don't end as they should"


def empty(path: Path) -> str:
    path.write_bytes(b"")
    return "is empty"


@pytest.mark.parametrize("damage", [change_a_byte, cut_off, empty])
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(
    checkpointer: DetrCheckpointer, tmp_path: Path, damage: Callable[[Path], str], caplog: pytest.LogCaptureFixture
) -> None:
    what = damage(tmp_path / "model_0000005.pth")

    loaded = checkpointer.resume_or_load("", resume=True)

    assert loaded["iteration"] == 3 and checkpointer.model.detr.class_embed.bias[0] == 3
    assert "model_0000005.pth" in caplog.text and what in caplog.text


def test_nothing_is_used_when_all_are_damaged(checkpointer: DetrCheckpointer, tmp_path: Path) -> None:
    for path in tmp_path.glob("model_*.pth"):
        change_a_byte(path)

    with pytest.raises(WeightsError, match=r"model_0000005\.pth isn't as it was written"):
        checkpointer.resume_or_load("", resume=True)


def test_the_final_checkpoint_has_one_before_it(checkpointer: DetrCheckpointer, tmp_path: Path) -> None:
    checkpointer.save("model_final", iteration=6)
    cut_off(tmp_path / "model_final.pth")

    assert checkpointer.resume_or_load("", resume=True)["iteration"] == 5


def test_checkpoints_of_an_earlier_run_in_the_folder_are_left_aside(
    checkpointer: DetrCheckpointer, tmp_path: Path
) -> None:
    checkpointer.save("model_0000004", iteration=4)
    cut_off(tmp_path / "model_0000004.pth")

    assert checkpointer.resume_or_load("", resume=True)["iteration"] == 3


def test_a_changed_byte_is_found_wherever_weights_are_read(checkpointer: DetrCheckpointer, tmp_path: Path) -> None:
    entry = change_a_byte(tmp_path / "model_0000005.pth")

    with pytest.raises(WeightsError, match=f"its entry {entry} doesn't match its checksum"):
        read_content(str(tmp_path / "model_0000005.pth"))


def test_a_file_without_checksums_is_read(tmp_path: Path) -> None:
    torch.serialization.set_crc32_options(False)
    try:
        write_checkpoint({"model": {"weight": torch.ones(3)}}, tmp_path / "weights.pth")
    finally:
        torch.serialization.set_crc32_options(True)

    assert read_content(str(tmp_path / "weights.pth"))["model"]["weight"].tolist() == [1, 1, 1]


def test_the_newest_checkpoints_are_kept(tiny_config: Callable[..., Any], tmp_path: Path) -> None:
    saving = DetrCheckpointer(build_model(tiny_config()), str(tmp_path), keep=2)

    for name in ("model_best", "model_0000001", "model_0000003", "model_0000005", "model_final"):
        saving.save(name)

    names = {path.name for path in tmp_path.glob("*.pth")}
    assert names == {"model_0000003.pth", "model_0000005.pth", "model_best.pth", "model_final.pth"}
