"""Products as convolutions: the same numbers as torch's own layers."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from detr_d2.modeling.linear import Attention, Linear


@pytest.mark.parametrize("batch", [1, 2])
def test_linear_equals_torch(batch):
    layer = Linear(16, 24)
    tokens = torch.randn(batch, 5, 16)
    expected = F.linear(tokens, layer.weight, layer.bias)

    with torch.no_grad():
        fast = layer(tokens)

    torch.testing.assert_close(fast, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(layer(tokens), expected, atol=0, rtol=0)


@pytest.mark.parametrize("padded", [False, True])
def test_attention_equals_torch(padded):
    ours = Attention(16, 4, dropout=0.3).eval()
    theirs = nn.MultiheadAttention(16, 4, batch_first=True).eval()
    theirs.load_state_dict(ours.state_dict())
    query, key, value = torch.randn(2, 3, 16), torch.randn(2, 7, 16), torch.randn(2, 7, 16)
    ignored = torch.arange(7) >= torch.tensor([[7], [4]]) if padded else None
    expected, _ = theirs(query, key, value, key_padding_mask=ignored, need_weights=False)

    with torch.no_grad():
        fast = ours.attend(query, key, value, ignored)
    slow = ours.attend(query, key, value, ignored)

    torch.testing.assert_close(fast, expected, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(slow, expected, atol=1e-6, rtol=1e-5)


def test_attention_drops_out_in_training_even_without_gradients():
    attention = Attention(16, 4, dropout=0.5).train()
    tokens = torch.randn(1, 9, 16)

    with torch.no_grad():
        first, second = attention.attend(tokens, tokens, tokens), attention.attend(tokens, tokens, tokens)

    assert not torch.equal(first, second)


def test_other_types_go_the_usual_way():
    layer = copy.deepcopy(Linear(16, 8)).double()
    tokens = torch.randn(1, 5, 16, dtype=torch.float64)

    with torch.no_grad():
        assert torch.equal(layer(tokens), F.linear(tokens, layer.weight, layer.bias))
