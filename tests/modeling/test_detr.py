"""DETR: published names, shapes, padding, gradients."""

import torch
from torch import nn

from detr_d2.modeling import Detr, Transformer


class TinyBackbone(nn.Module):
    """Four stages of one convolution each, strides 4 to 32."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 4, stride=4)
        self.stages = nn.ModuleList(nn.Conv2d(width, width, 2, stride=2) for _ in range(3))

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        features = {"res2": self.stem(x).relu()}
        for i, stage in enumerate(self.stages):
            features[f"res{i + 3}"] = stage(features[f"res{i + 2}"]).relu()
        return features


def _detr(**options) -> Detr:
    torch.manual_seed(0)
    transformer = Transformer(16, 4, 1, 3, 32, dropout=0.0)
    return Detr(TinyBackbone(), 8, transformer, num_classes=5, num_queries=7, **options)


def test_detr_heads_have_published_names_and_shapes():
    detr = Detr(TinyBackbone(), 2048, Transformer(), num_classes=250)

    shapes = {name: tuple(value.shape) for name, value in detr.state_dict().items() if "backbone" not in name}

    expected = {
        "class_embed.weight": (251, 256),
        "bbox_embed.layers.0.weight": (256, 256),
        "bbox_embed.layers.2.weight": (4, 256),
        "query_embed.weight": (100, 256),
        "input_proj.weight": (256, 2048, 1, 1),
    }
    assert {name: shapes[name] for name in expected} == expected


def test_detr_gives_the_shapes_it_promises():
    outputs = _detr()(torch.randn(2, 3, 64, 96), torch.zeros(2, 64, 96, dtype=torch.bool))

    assert outputs["pred_logits"].shape == (2, 7, 6) and outputs["pred_boxes"].shape == (2, 7, 4)
    assert [aux["pred_logits"].shape for aux in outputs["aux_outputs"]] == [(2, 7, 6)] * 2
    assert outputs["hidden_states"].shape == (3, 2, 7, 16) and outputs["memory"].shape == (2, 16, 2, 3)
    assert outputs["pred_boxes"].min() >= 0 and outputs["pred_boxes"].max() <= 1


def test_detr_without_deep_supervision_has_no_aux_outputs():
    outputs = _detr(aux_loss=False)(torch.randn(1, 3, 64, 64), torch.zeros(1, 64, 64, dtype=torch.bool))

    assert outputs["aux_outputs"] == []


def test_padding_changes_no_prediction():
    detr = _detr().eval()
    image = torch.randn(1, 3, 64, 64)
    padded, mask = torch.zeros(1, 3, 128, 96), torch.ones(1, 128, 96, dtype=torch.bool)
    padded[:, :, :64, :64], mask[:, :64, :64] = image, False

    alone = detr(image, torch.zeros(1, 64, 64, dtype=torch.bool))
    inside = detr(padded, mask)

    for name in ("pred_logits", "pred_boxes"):
        torch.testing.assert_close(inside[name], alone[name], atol=1e-5, rtol=1e-5)


def test_every_trainable_parameter_gets_a_gradient():
    detr = _detr()
    outputs = detr(torch.randn(2, 3, 64, 96), torch.zeros(2, 64, 96, dtype=torch.bool))

    every = [outputs, *outputs["aux_outputs"]]
    sum(out["pred_logits"].square().mean() + out["pred_boxes"].square().mean() for out in every).backward()

    assert [name for name, parameter in detr.named_parameters() if parameter.grad is None] == []
