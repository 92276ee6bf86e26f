"""The transformer: published parameter names, padding, permutations of queries."""

import pytest
import torch

from detr_d2.modeling.transformer import Transformer


def _small(**options) -> Transformer:
    torch.manual_seed(0)
    defaults = {"d_model": 16, "nhead": 4, "num_encoder_layers": 2, "num_decoder_layers": 3, "dim_feedforward": 32}
    return Transformer(**(defaults | options)).eval()


def _run(model: Transformer, source: torch.Tensor, padding_mask: torch.Tensor, queries: torch.Tensor):
    torch.manual_seed(1)
    position = torch.randn(source.shape[0], model.d_model, 12, 12)[..., : source.shape[2], : source.shape[3]]
    return model(source, padding_mask, queries, position)


def test_transformer_parameters_are_the_published_ones():
    names = set(Transformer().state_dict())

    layer = {
        "self_attn.in_proj_weight": (768, 256),
        "self_attn.out_proj.bias": (256,),
        "multihead_attn.in_proj_bias": (768,),
        "linear1.weight": (2048, 256),
        "linear2.weight": (256, 2048),
        "norm3.weight": (256,),
    }
    shapes = {name: tuple(value.shape) for name, value in Transformer().state_dict().items()}
    for name, shape in layer.items():
        assert shapes[f"transformer.decoder.layers.5.{name}".removeprefix("transformer.")] == shape
    # 12 tensors in an encoder layer, 18 in a decoder layer, and the decoder's norm.
    assert len(names) == 6 * 12 + 6 * 18 + 2


@pytest.mark.parametrize("normalize_before", [False, True])
def test_padding_never_changes_hidden_states(normalize_before):
    model = _small(normalize_before=normalize_before)
    source, queries = torch.randn(1, 16, 5, 4), torch.randn(6, 16)
    padded = torch.randn(1, 16, 8, 7)
    padded[:, :, :5, :4] = source
    padding_mask = torch.ones(1, 8, 7, dtype=torch.bool)
    padding_mask[:, :5, :4] = False

    hidden, memory = _run(model, source, torch.zeros(1, 5, 4, dtype=torch.bool), queries)
    hidden_padded, memory_padded = _run(model, padded, padding_mask, queries)

    torch.testing.assert_close(hidden_padded, hidden)
    torch.testing.assert_close(memory_padded[:, :, :5, :4], memory)


def test_permuting_queries_permutes_hidden_states():
    model = _small()
    source, queries = torch.randn(2, 16, 3, 4), torch.randn(6, 16)
    mask = torch.zeros(2, 3, 4, dtype=torch.bool)
    order = torch.randperm(6)

    hidden, _ = _run(model, source, mask, queries)
    permuted, _ = _run(model, source, mask, queries[order])

    assert hidden.shape == (3, 2, 6, 16)
    torch.testing.assert_close(permuted, hidden[:, :, order])


@pytest.mark.parametrize(("options", "message"), [({"nhead": 3}, "nhead=3"), ({"num_decoder_layers": 0}, "at least 1")])
def test_impossible_transformer_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        _small(**options)
