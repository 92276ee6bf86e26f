"""Products as convolutions: the numbers of torch's own layers."""

import copy

import pytest
import torch
from torch import nn

from detr_d2.acceleration import accelerate_
from detr_d2.acceleration import linear as fast_linear
from detr_d2.acceleration.linear import ConvolutionAttention, ConvolutionLinear


def _accelerated(module: nn.Module) -> nn.Module:
    fast = copy.deepcopy(module)
    accelerate_(fast, ["linear"])
    return fast


@pytest.fixture
def convolutions(monkeypatch):
    """How many tensors a convolution was asked for."""
    asked: list[int] = []
    convolve = torch.nn.functional.conv2d
    monkeypatch.setattr(fast_linear.F, "conv2d", lambda *args, **kwargs: asked.append(1) or convolve(*args, **kwargs))
    return asked


@pytest.mark.parametrize("batch", [1, 2])
def test_linear_equals_torch(batch, convolutions):
    plain = nn.Linear(16, 24)
    fast, tokens = _accelerated(plain), torch.randn(batch, 5, 16)
    expected = plain(tokens)

    with torch.no_grad():
        found = fast(tokens)
    assert type(fast) is ConvolutionLinear and len(convolutions) == 1

    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(fast(tokens), expected, atol=0, rtol=0)
    assert len(convolutions) == 1, "with gradients it goes the usual way"


@pytest.mark.parametrize("padded", [False, True])
def test_attention_equals_torch(padded, convolutions):
    plain = nn.MultiheadAttention(16, 4, dropout=0.3, batch_first=True).eval()
    fast = _accelerated(plain)
    query, key, value = torch.randn(2, 3, 16), torch.randn(2, 7, 16), torch.randn(2, 7, 16)
    padding = torch.arange(7) >= torch.tensor([[7], [4]]) if padded else None
    expected, _ = plain(query, key, value, key_padding_mask=padding, need_weights=False)

    with torch.no_grad():
        found, _ = fast(query, key, value, key_padding_mask=padding, need_weights=False)
    assert type(fast) is ConvolutionAttention and len(convolutions) == 4
    slow, _ = fast(query, key, value, key_padding_mask=padding, need_weights=False)

    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(slow, expected, atol=0, rtol=0)


def test_attention_weights_are_given_out_as_torch_does():
    plain = nn.MultiheadAttention(16, 4, batch_first=True).eval()
    tokens = torch.randn(1, 5, 16)

    with torch.no_grad():
        found, expected = _accelerated(plain)(tokens, tokens, tokens), plain(tokens, tokens, tokens)

    torch.testing.assert_close(found, expected, atol=0, rtol=0)


def test_attention_drops_out_in_training_even_without_gradients():
    attention = _accelerated(nn.MultiheadAttention(16, 4, dropout=0.5, batch_first=True).train())
    tokens = torch.randn(1, 9, 16)

    with torch.no_grad():
        (first, _), (second, _) = (attention(tokens, tokens, tokens, need_weights=False) for _ in range(2))

    assert not torch.equal(first, second)


def test_other_types_and_shapes_go_the_usual_way(convolutions):
    double, single = nn.Linear(16, 8).double(), nn.Linear(16, 8)
    tokens, rows = torch.randn(1, 5, 16, dtype=torch.float64), torch.randn(2, 1, 5, 16)

    with torch.no_grad():
        assert torch.equal(_accelerated(double)(tokens), double(tokens))
        assert torch.equal(_accelerated(single)(rows), single(rows))

    assert convolutions == []


def test_attention_with_other_options_is_left_alone():
    for options in ({}, {"batch_first": True, "kdim": 8}, {"batch_first": True, "add_zero_attn": True}):
        assert type(_accelerated(nn.MultiheadAttention(16, 4, **options))) is nn.MultiheadAttention
