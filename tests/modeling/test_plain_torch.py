"""``modeling/`` is the paper in plain torch: it can be lifted out and used alone."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from detr_d2 import modeling

FOLDER = Path(modeling.__file__).parent
FILES = sorted(FOLDER.glob("*.py"))
ALLOWED = {"torch", "torchvision", "scipy"}


def _imported(file: Path) -> set[str]:
    """The packages that a file imports; its own for relative imports."""
    nodes = list(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    froms = [node for node in nodes if isinstance(node, ast.ImportFrom)]
    assert all(node.level <= 1 for node in froms), "nothing above the folder"
    names |= {node.module or "" for node in froms if node.level == 0}
    return {name.split(".")[0] for name in names} - sys.stdlib_module_names


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_module_imports_torch_and_scipy_alone(file: Path) -> None:
    assert _imported(file) <= ALLOWED


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_module_knows_neither_detectron2_nor_config_keys(file: Path) -> None:
    text = file.read_text(encoding="utf-8")

    assert not re.search(r"detectron", text, re.IGNORECASE)
    assert not re.search(r"\b(MODEL|SOLVER|INPUT|TEST|DATASETS|DATALOADER)\.[A-Z]", text)


ALONE = """
import sys
import torch
from lifted import (AttentionMaps, Detr, HungarianMatcher, MaskHead, PostProcess, SetCriterion, Sizes, Transformer,
                    instance_masks, predict_masks)
from lifted.matcher import query_positions

class Backbone(torch.nn.Module):
    def __init__(self):
        super().__init__()
        shapes = ((3, 4), (8, 2), (8, 2), (8, 2))
        self.stages = torch.nn.ModuleList(torch.nn.Conv2d(width, 8, side, stride=side) for width, side in shapes)
    def forward(self, x):
        features = {}
        for i, stage in enumerate(self.stages):
            features[f"res{i + 2}"] = x = stage(x)
        return features

torch.manual_seed(0)
detr = Detr(Backbone(), 8, Transformer(32, 4, 1, 2, 32), num_classes=3, num_queries=5)
attention, head = AttentionMaps(32, 32, 4), MaskHead(36, (8, 8, 8), 32)
criterion, postprocess = SetCriterion(3, HungarianMatcher()), PostProcess([True, True, False], score_threshold=0.1)
images, padding = torch.randn(1, 3, 64, 96), torch.zeros(1, 64, 96, dtype=torch.bool)
masks = torch.zeros(2, 64, 96, dtype=torch.bool)
masks[0, :32], masks[1, 32:] = True, True
target = {"labels": torch.tensor([0, 2]), "boxes": torch.tensor([[.5, .25, 1, .5], [.5, .75, 1, .5]]), "masks": masks}
outputs = detr(images, padding)
indices = criterion.match(outputs, [target])
logits = predict_masks(attention, head, outputs, *query_positions(indices, images.device))
sums = criterion(outputs, [target], indices, logits)
sum(each.mean for name, each in sums.items() if name.startswith("loss_")).backward()
kept, scores, classes = postprocess.segments(outputs["pred_logits"][0])
logits = predict_masks(attention, head, outputs, torch.zeros_like(kept), kept)
sizes = Sizes((64, 96), (64, 96), (128, 192))
ids, segments = postprocess.panoptic(logits, scores, classes, sizes)
assert ids.shape == (128, 192) and len(segments) > 0 and instance_masks(logits, sizes).shape == (len(kept), 128, 192)
assert head.out_lay.weight.grad.abs().sum() > 0
assert not any(name.startswith(("detr_d2", "detectron2", "fvcore")) for name in sys.modules)
"""


def test_folder_works_alone(tmp_path: Path) -> None:
    """From pixels to losses, gradients and a panoptic map, in a process that knows nothing else of the project."""
    shutil.copytree(FOLDER, tmp_path / "lifted", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "alone.py").write_text(ALONE, encoding="utf-8")

    done = subprocess.run(
        [sys.executable, "-W", "ignore", "alone.py"],
        cwd=tmp_path,
        env={"PYTHONPATH": ""},
        capture_output=True,
        text=True,
    )

    assert (done.returncode, done.stderr) == (0, "")
