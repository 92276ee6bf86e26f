"""One image explained: numbers that agree with the model's own result."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from detr_d2.modeling import Sizes
from detr_d2.prediction.explain import explain
from detr_d2.prediction.explain.canvas import panels
from detr_d2.prediction.explain.explaining import Explanation, won_and_lost
from detr_d2.prediction.explain.maps import heat_share, principal_colors, token_at
from detr_d2.prediction.explain.query_figures import collect_boxes, kinds_of, match_result, places_figure

SIZE = (96, 128)


def _explain(model, **options) -> Explanation:
    image = torch.randint(0, 256, (3, *SIZE), dtype=torch.uint8)
    return explain(model, image.float(), image.permute(1, 2, 0).numpy(), **options)


def test_even_heat_is_at_the_chance_level():
    mask = torch.zeros(64, 96, dtype=torch.bool)
    mask[10:30, 5:60] = True

    share = heat_share(torch.ones(4, 6), mask)

    assert share.inside == pytest.approx(mask.float().mean().item())
    assert share.ratio == pytest.approx(1.0)


def test_heat_inside_counts_in_full_and_outside_not_at_all():
    mask = torch.zeros(64, 96, dtype=torch.bool)
    mask[:16, :16] = True
    heat = torch.zeros(4, 6)
    heat[0, 0] = 3

    assert heat_share(heat, mask).inside == 1
    assert heat_share(heat.flip(0), mask).inside == 0
    assert heat_share(torch.zeros(4, 6), mask).inside == 0
    assert heat_share(heat, torch.zeros_like(mask)).ratio is None


def test_objects_smaller_than_a_place_have_a_ceiling():
    mask = torch.zeros(64, 96, dtype=torch.bool)
    mask[:8, :16] = True

    assert heat_share(torch.ones(4, 6), mask).ceiling == pytest.approx(0.5)


def test_tokens_are_counted_row_by_row():
    sizes = Sizes((96, 128), (96, 128), (96, 128))

    assert token_at((0, 0), (3, 4), sizes) == 0
    assert token_at((127.9, 95.9), (3, 4), sizes) == 11
    assert token_at((33, 31), (3, 4), sizes) == 1


def test_like_features_have_like_colors():
    features = torch.randn(16, 4, 5)
    features[:, 2, 3] = features[:, 0, 0]

    colors = principal_colors(features)

    assert colors.shape == (4, 5, 3) and colors.min() >= 0 and colors.max() <= 1
    np.testing.assert_allclose(colors[2, 3], colors[0, 0], atol=1e-5)


def test_explanation_has_the_models_own_result(make_model):
    model = make_model()
    found = _explain(model)

    with torch.no_grad():
        image = torch.as_tensor(found.image).permute(2, 0, 1).float()
        ids, segments = model([{"image": image}])[0]["panoptic_seg"]

    assert found.panoptic is not None and found.above_threshold
    assert (found.panoptic[0] == ids.numpy()).mean() > 0.99  # but for rounding, as acceleration needs no gradients
    assert [segment["category_id"] for segment in found.panoptic[1]] == [s["category_id"] for s in segments]


@pytest.mark.parametrize("aspect", [0.01, 100.0])
def test_figures_of_very_thin_images_stay_moderate(aspect):
    figure, axes = panels(14, aspect, 7)

    assert len(axes) == 14 and max(figure.get_size_inches()) < 15


def test_won_pixels_partition_the_map(make_model):
    found = _explain(make_model())

    fates = won_and_lost(found)

    assert found.panoptic is not None
    assert sum(fate.won for fate in fates) == (found.panoptic[0] > 0).sum()
    assert np.stack([fate.decided for fate in fates]).sum(0).max() == 1
    for fate, query in zip(fates, found.queries):
        assert fate.lost == fate.other.sum() <= fate.mask
        assert not (fate.other & fate.decided).any() and not (fate.other & ~query.region).any()


def test_stuff_of_two_queries_loses_no_pixel_to_itself(make_model):
    model = make_model()
    stuff = next(index for index, category in enumerate(model.categories) if not category.is_thing)
    model.detr.class_embed.bias.data[stuff] = 50.0  # all queries see the same
    found = _explain(model)

    fates = won_and_lost(found)

    assert found.panoptic is not None and len(found.panoptic[1]) == 1
    assert len(found.panoptic[1][0]["queries"]) == len(fates) > 1
    assert sum(fate.won > 0 for fate in fates) > 1
    assert not any(fate.lost for fate in fates)


def test_queries_come_highest_score_first_and_no_more_than_asked_for(make_model):
    found = _explain(make_model(), most=4)

    scores = [query.score for query in found.queries]
    assert len(scores) == 4 and scores == sorted(scores, reverse=True)
    assert found.masks is not None and len(found.masks.logits) == 4


def test_without_a_kept_query_the_best_are_shown_and_it_is_said(make_model):
    found = _explain(make_model("MODEL.DETR.SCORE_THRESHOLD", 1.0))

    assert not found.above_threshold and len(found.queries) == 3
    assert found.panoptic is not None and not found.panoptic[1]
    assert not any(query.segment for query in found.queries) and not any(fate.won for fate in won_and_lost(found))
    assert match_result(found).names == []


def test_layers_differ(make_model):
    model = make_model()
    first, last = (_explain(model, layer=layer).queries[0].attention for layer in (0, 1))

    torch.testing.assert_close(first.sum(), torch.tensor(1.0))
    assert not torch.allclose(first, last)


def test_matching_is_the_criterions(make_model):
    model = make_model()
    found = _explain(model)

    matched = match_result(found)

    assert found.panoptic is not None and len(matched.names) == len(found.panoptic[1])
    assert len(set(matched.query_of.tolist())) == len(matched.names)
    from scipy.optimize import linear_sum_assignment

    np.testing.assert_array_equal(matched.query_of, linear_sum_assignment(matched.costs)[1])


def test_boxes_of_a_folder_are_those_of_the_model(make_model):
    model = make_model()
    images = [255 * torch.rand(3, 64, 96), 255 * torch.rand(3, 96, 64)]

    boxes = collect_boxes(model, images)

    assert boxes.shape == (2, 12, 6)
    with torch.no_grad():
        outputs, _ = model.detect([{"image": images[1]}])
    torch.testing.assert_close(boxes[1, :, :4], outputs["pred_boxes"][0])
    assert boxes[:, :, 5].sum() > 0
    assert "2 images" in places_figure(boxes).alt


def test_kinds_of_boxes_are_those_on_the_image_not_in_the_unit_square():
    shape = 2.0  # twice as high as wide
    boxes = np.array([[0.5, 0.5, w, h, shape, 1] for w, h in ((0.1, 0.1), (0.5, 0.4), (0.9, 0.4))])

    assert kinds_of(boxes).tolist() == ["small", "tall", "wide"]
