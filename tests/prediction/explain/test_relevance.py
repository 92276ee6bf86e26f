"""Relevance through all layers: the paper's equations, and what has to hold for any model."""

from __future__ import annotations

import torch
from torch import Tensor

from detr_d2.prediction.explain import record, relevance
from detr_d2.prediction.explain.maps import head_mean, over_memory, through_encoder


def _normalised(matrix: Tensor) -> Tensor:
    """Equations 8 and 9, on whole matrices."""
    added = matrix - torch.eye(len(matrix), dtype=matrix.dtype)
    return added / added.sum(1, keepdim=True) + torch.eye(len(matrix), dtype=matrix.dtype)


def test_rows_equal_the_equations_on_whole_matrices():
    queries, tokens, layers = 4, 6, 3
    encoder = [torch.rand(tokens, tokens, dtype=torch.float64) for _ in range(layers)]
    own = [torch.rand(queries, queries, dtype=torch.float64) for _ in range(layers)]
    cross = [torch.rand(queries, tokens, dtype=torch.float64) for _ in range(layers)]
    among_tokens = torch.eye(tokens, dtype=torch.float64)
    for layer in encoder:
        among_tokens = among_tokens + layer @ among_tokens
    among_queries = torch.eye(queries, dtype=torch.float64)
    expected = torch.zeros(queries, tokens, dtype=torch.float64)
    for among, over in zip(own, cross):
        among_queries = among_queries + among @ among_queries
        expected = expected + among @ expected
        expected = expected + _normalised(among_queries).T @ over @ _normalised(among_tokens)

    found = [through_encoder(row, encoder) for row in over_memory(own, cross)]

    torch.testing.assert_close(torch.stack(found), expected)


def test_attention_too_weak_for_a_float_beside_one_still_counts():
    encoder = [1e-12 * torch.rand(5, 5)]
    row = torch.rand(5)

    found = through_encoder(row, encoder)

    torch.testing.assert_close(found, row + row / encoder[0].sum(1) @ encoder[0])


def test_without_encoder_layers_a_row_stays_as_it_is():
    row = torch.rand(5)

    assert torch.equal(through_encoder(row, []), row)


def test_heads_that_lower_the_logit_count_nothing():
    attention = torch.rand(3, 2, 4)

    found = head_mean(attention, torch.stack([torch.ones(2, 4), -torch.ones(2, 4), torch.zeros(2, 4)]))

    torch.testing.assert_close(found, attention[0] / 3)


def test_relevance_is_of_the_image_alone(recorded):
    padding = recorded.outputs["padding_mask"]

    for image in range(2):
        found = relevance(recorded, image, query=2, category=1)

        assert found.shape == recorded.grid and bool(found.isfinite().all())
        assert found.min() >= 0 and found.sum() > 0
        assert not found[padding[image]].any()


def test_relevance_depends_on_query_and_class(recorded):
    one, other_query, other_class = (relevance(recorded, 0, *pair) for pair in ((2, 1), (3, 1), (2, 4)))

    assert not torch.allclose(one / one.sum(), other_query / other_query.sum())
    assert not torch.allclose(one / one.sum(), other_class / other_class.sum())


def test_permuted_queries_have_permuted_relevance(make_model, batch):
    model = make_model()
    before = record(model, batch)
    order = torch.randperm(model.detr.query_embed.num_embeddings)
    with torch.no_grad():
        model.detr.query_embed.weight.copy_(model.detr.query_embed.weight[order])

    after = record(model, batch)

    for query in (0, 3):
        expected = relevance(before, 1, int(order[query]), 2)
        torch.testing.assert_close(relevance(after, 1, query, 2), expected, atol=1e-5, rtol=1e-3)
