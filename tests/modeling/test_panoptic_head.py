"""The panoptic head: masks of chosen queries against the published formula for all queries."""

import pytest
import torch
from torch.nn import functional as F

from detr_d2.modeling.panoptic_head import AttentionMaps, MaskHead, predict_masks, predict_masks_at_once

D, HEADS, QUERIES = 32, 8, 6


@pytest.fixture
def parts():
    torch.manual_seed(0)
    head = MaskHead(D + HEADS, [24, 16, 8], D)
    for parameter in head.parameters():  # group norms that do something, biases that are not 0
        torch.nn.init.normal_(parameter, std=0.3)
    return AttentionMaps(D, D, HEADS), head


def _outputs(batch: int = 2, height: int = 5, width: int = 7) -> dict:
    torch.manual_seed(1)
    padding_mask = torch.zeros(batch, height, width, dtype=torch.bool)
    padding_mask[-1, 3:], padding_mask[-1, :, 5:] = True, True
    return {
        "hidden_states": torch.randn(2, batch, QUERIES, D),
        "memory": torch.randn(batch, D, height, width),
        "projected": torch.randn(batch, D, height, width),
        "padding_mask": padding_mask,
        "features": {
            "res4": torch.randn(batch, 24, 2 * height - 1, 2 * width),
            "res3": torch.randn(batch, 16, 4 * height - 2, 4 * width),
            "res2": torch.randn(batch, 8, 8 * height - 4, 8 * width - 1),
        },
    }


def _plain_masks(attention: AttentionMaps, head: MaskHead, outputs: dict) -> torch.Tensor:
    """Every query of every image, each computed in full: (B, Q, H, W)."""
    batch, _, height, width = outputs["memory"].shape
    masks = []
    for b in range(batch):
        queries = attention.q_linear(outputs["hidden_states"][-1, b]).view(QUERIES, HEADS, D // HEADS)
        keys = attention.k_linear(outputs["memory"][b].flatten(1).T).view(-1, HEADS, D // HEADS)
        scores = torch.einsum("qnc,pnc->qnp", queries, keys) / (D // HEADS) ** 0.5
        scores = scores.masked_fill(outputs["padding_mask"][b].flatten(), float("-inf"))
        maps = scores.flatten(1).softmax(1).view(QUERIES, HEADS, height, width)
        x = torch.cat([outputs["projected"][b].expand(QUERIES, -1, -1, -1), maps], dim=1)
        x = F.relu(head.gn1(head.lay1(x)))
        x = F.relu(head.gn2(head.lay2(x)))
        steps = [
            ("res4", head.adapter1, head.lay3, head.gn3),
            ("res3", head.adapter2, head.lay4, head.gn4),
            ("res2", head.adapter3, head.lay5, head.gn5),
        ]
        for name, adapter, layer, norm in steps:
            feature = adapter(outputs["features"][name][b][None])
            x = F.relu(norm(layer(feature + F.interpolate(x, size=feature.shape[-2:], mode="nearest"))))
        masks.append(head.out_lay(x)[:, 0])
    return torch.stack(masks)


def test_mask_head_parameters_are_the_published_ones():
    head = MaskHead(264, [1024, 512, 256], 256)

    shapes = {name: tuple(value.shape) for name, value in head.state_dict().items() if name.endswith("weight")}

    assert shapes == {
        **{"lay1.weight": (264, 264, 3, 3), "lay2.weight": (128, 264, 3, 3), "lay3.weight": (64, 128, 3, 3)},
        **{"lay4.weight": (32, 64, 3, 3), "lay5.weight": (16, 32, 3, 3), "out_lay.weight": (1, 16, 3, 3)},
        **{"gn1.weight": (264,), "gn2.weight": (128,), "gn3.weight": (64,), "gn4.weight": (32,), "gn5.weight": (16,)},
        **{"adapter1.weight": (128, 1024, 1, 1), "adapter2.weight": (64, 512, 1, 1)},
        "adapter3.weight": (32, 256, 1, 1),
    }
    assert head.gn1.num_groups == head.gn5.num_groups == 8
    assert set(AttentionMaps(256, 256, 8).state_dict()) == {
        f"{linear}.{kind}" for linear in ("q_linear", "k_linear") for kind in ("weight", "bias")
    }


def test_chosen_masks_equal_the_plain_computation(parts):
    outputs = _outputs()
    batch_index, query_index = torch.tensor([0, 1, 1, 0, 1]), torch.tensor([3, 0, 5, 0, 2])

    masks = predict_masks(*parts, outputs, batch_index, query_index)

    plain = _plain_masks(*parts, outputs)[batch_index, query_index]
    torch.testing.assert_close(masks, plain, atol=1e-4, rtol=1e-4)


def test_chunks_do_not_change_masks(parts):
    outputs = _outputs()
    batch_index, query_index = torch.tensor([0, 1, 1, 0, 1]), torch.tensor([3, 0, 5, 0, 2])

    together = predict_masks(*parts, outputs, batch_index, query_index)
    one_by_one = predict_masks(*parts, outputs, batch_index, query_index, max_bytes=1)

    torch.testing.assert_close(one_by_one, together, atol=1e-5, rtol=1e-5)


def test_masks_at_once_equal_those_by_image(parts):
    outputs = _outputs()
    batch_index, query_index = torch.tensor([0, 0, 1, 1, 1]), torch.tensor([3, 0, 5, 0, 2])

    at_once = predict_masks_at_once(*parts, outputs, batch_index, query_index)

    torch.testing.assert_close(at_once, predict_masks(*parts, outputs, batch_index, query_index), atol=1e-5, rtol=1e-5)


def test_recomputing_changes_neither_masks_nor_gradients(parts):
    attention, head = parts
    index = (torch.tensor([0, 1, 1, 0, 1]), torch.tensor([3, 0, 5, 0, 2]))
    results = []
    for options in ({}, {"max_bytes": 1, "recompute": True}):
        masks = predict_masks(attention, head, _outputs(), *index, **options)
        head.zero_grad()
        masks.square().mean().backward()
        results.append((masks, {name: value.grad.clone() for name, value in head.named_parameters()}))

    torch.testing.assert_close(results[0], results[1], atol=1e-5, rtol=1e-4)


def test_masks_of_a_dilated_backbone_equal_the_plain_computation(parts):
    outputs = _outputs()
    outputs["features"]["res4"] = torch.randn(2, 24, 5, 7)
    outputs["features"]["res3"] = torch.randn(2, 16, 10, 13)
    outputs["features"]["res2"] = torch.randn(2, 8, 19, 26)
    batch_index, query_index = torch.tensor([1, 0]), torch.tensor([4, 1])

    masks = predict_masks(*parts, outputs, batch_index, query_index)

    plain = _plain_masks(*parts, outputs)[batch_index, query_index]
    torch.testing.assert_close(masks, plain, atol=1e-4, rtol=1e-4)


def test_no_query_gives_no_mask(parts):
    none = torch.zeros(0, dtype=torch.int64)

    assert predict_masks(*parts, _outputs(), none, none).shape == (0, 36, 55)


def test_attention_maps_sum_to_one_and_ignore_padding(parts):
    outputs = _outputs()
    attention, _ = parts
    batch_index = torch.tensor([0, 1, 1])
    keys = attention.project_memory(outputs["memory"])[batch_index]

    maps = attention(torch.randn(3, D), keys, outputs["padding_mask"][batch_index])

    torch.testing.assert_close(maps.flatten(1).sum(1), torch.ones(3))
    assert maps[1:].movedim(1, -1)[:, outputs["padding_mask"][1]].abs().max() == 0


def test_every_parameter_gets_a_gradient(parts):
    index = torch.tensor([0, 1])

    predict_masks(*parts, _outputs(), index, index).square().mean().backward()

    for part in parts:
        for name, parameter in part.named_parameters():
            if name != "k_linear.bias":  # adds the same to every place of a head: nearly nothing after the softmax
                assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_width_that_cannot_be_halved_is_refused():
    with pytest.raises(ValueError, match="multiple of 16"):
        MaskHead(24, [8, 8, 8], 20)


def test_attention_gain_scales_the_first_weights_over_the_maps_only() -> None:
    torch.manual_seed(0)
    plain = MaskHead(32 + 4, (16, 8, 8), 32)
    torch.manual_seed(0)
    louder = MaskHead(32 + 4, (16, 8, 8), 32, attention_gain=100.0)

    torch.testing.assert_close(louder.lay1.weight[:, :32], plain.lay1.weight[:, :32])
    torch.testing.assert_close(louder.lay1.weight[:, 32:], 100 * plain.lay1.weight[:, 32:])
    assert all(torch.equal(louder.state_dict()[n], w) for n, w in plain.state_dict().items() if n != "lay1.weight")
