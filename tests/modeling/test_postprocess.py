"""The panoptic map: it partitions the image, and its segments say what is in it."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from detr_d2.modeling.postprocess import PostProcess, Sizes, instance_queries, kept_queries, panoptic_map

IS_THING = torch.tensor([True, True, False, False])


def _map(logits, classes, scores=None, output_size=None, min_area=4):
    height, width = logits.shape[-2] * 4, logits.shape[-1] * 4
    classes = torch.tensor(classes, dtype=torch.int64)
    scores = torch.full((len(classes),), 0.9) if scores is None else torch.tensor(scores)
    size = (height, width)
    return panoptic_map(logits, scores, classes, IS_THING, Sizes(size, size, output_size or size), min_area)


def _halves() -> torch.Tensor:
    """Three masks: left half, right half, and a speck in the corner that wins its place."""
    logits = torch.full((3, 8, 8), -5.0)
    logits[0, :, :4], logits[1, :, 4:] = 5.0, 5.0
    return logits


def test_kept_queries_are_above_the_threshold_and_not_no_object():
    probability = torch.tensor([[0.9, 0.05, 0.05], [0.5, 0.4, 0.1], [0.05, 0.05, 0.9], [0.04, 0.95, 0.01]])

    images, kept, scores, classes = kept_queries(probability.log()[None], 0.85)

    assert images.tolist() == [0, 0] and kept.tolist() == [0, 3] and classes.tolist() == [0, 1]
    torch.testing.assert_close(scores, torch.tensor([0.9, 0.95]))


def test_stuff_of_one_class_is_one_segment_and_things_are_not_merged():
    logits = _halves()[:2]

    _, stuff = _map(logits, [2, 2], scores=[0.9, 0.95])
    _, things = _map(logits, [1, 1])

    assert [(s["category_id"], s["isthing"], s["area"]) for s in stuff] == [(2, False, 32 * 32)]
    assert stuff[0]["score"] == pytest.approx(0.95)
    assert [s["area"] for s in things] == [16 * 32, 16 * 32]


def test_two_small_pieces_of_stuff_survive_together():
    logits = torch.full((3, 8, 8), -5.0)
    logits[0] = 0.0
    logits[1, 0, 0], logits[2, 7, 7] = 5.0, 5.0
    area = next(s["area"] for s in _map(logits, [0, 2, 2], min_area=1)[1] if not s["isthing"])

    _, together = _map(logits, [0, 2, 2], min_area=area)
    _, apart = _map(logits, [0, 1, 1], min_area=area)

    assert [s["area"] for s in together if s["category_id"] == 2] == [area]
    assert [s["category_id"] for s in apart] == [0]


def test_small_segment_is_dropped_and_its_pixels_go_to_the_next_best():
    logits = _halves()
    logits[2, 0, 0] = 9.0

    kept, with_speck = _map(logits, [0, 1, 1], min_area=1)
    dropped, without = _map(logits, [0, 1, 1], min_area=200)

    assert len(with_speck) == 3 and len(without) == 2
    assert kept[0, 0] == 3 and dropped[0, 0] == 1


def test_mostly_covered_mask_is_dropped_by_the_overlap_threshold():
    logits = torch.full((2, 8, 8), -5.0)
    logits[0, :, :6], logits[1, :, :8] = 5.0, 3.0  # of the second's mask, a quarter is seen

    def classes_seen(threshold):
        labels, sizes = torch.tensor([0, 0]), Sizes((8, 8), (8, 8), (8, 8))
        found = panoptic_map(logits, torch.ones(2), labels, IS_THING, sizes, min_area=1, overlap_threshold=threshold)
        return [s["area"] for s in found[1]]

    assert classes_seen(0.0) == [48, 16] == classes_seen(0.25)
    assert classes_seen(0.26) == [64]


def test_of_masks_that_cut_a_thing_up_the_one_with_the_highest_score_stays():
    logits = torch.full((3, 8, 8), 3.0)
    logits[1] = 4.0
    logits[0, ::3], logits[1, 1::3], logits[2, 2::3] = 5.0, 5.0, 5.0  # each is seen in about a third of its rows

    sizes = Sizes((8, 8), (8, 8), (8, 8))
    scores, labels = torch.tensor([0.8, 0.9, 0.7]), torch.tensor([0, 0, 0])
    segments = panoptic_map(logits, scores, labels, IS_THING, sizes, min_area=1, overlap_threshold=0.5)[1]

    assert [(s["area"], round(s["score"], 4)) for s in segments] == [(64, 0.9)]


def test_stuff_of_one_class_does_not_cover_itself():
    logits = torch.full((2, 8, 8), -5.0)
    stuff = (~IS_THING).nonzero()[0].item()
    logits[0, :, :6], logits[1] = 5.0, 3.0

    sizes = Sizes((8, 8), (8, 8), (8, 8))
    labels = torch.tensor([stuff, stuff])
    segments = panoptic_map(logits, torch.ones(2), labels, IS_THING, sizes, min_area=1, overlap_threshold=0.9)[1]

    assert [s["area"] for s in segments] == [64]


def test_kept_queries_have_a_threshold_for_each_class():
    probability = torch.tensor([[0.7, 0.2, 0.1], [0.2, 0.7, 0.1], [0.1, 0.1, 0.8]])

    _, kept, _, classes = kept_queries(probability.log()[None], torch.tensor([0.6, 0.75]))

    assert kept.tolist() == [0] and classes.tolist() == [0]


def test_kept_queries_of_a_batch_are_those_of_its_images():
    logits = torch.randn(3, 20, 4) * 2

    batch, kept, scores, classes = kept_queries(logits, 0.6)

    assert len(set(batch.tolist())) == 3
    for i in range(3):
        _, own_kept, own_scores, own_classes = kept_queries(logits[i, None], 0.6)
        assert kept[batch == i].tolist() == own_kept.tolist()
        assert classes[batch == i].tolist() == own_classes.tolist()
        torch.testing.assert_close(scores[batch == i], own_scores)


def test_instances_are_things_with_the_highest_score_first_whatever_no_object_has():
    probability = torch.tensor([[0.5, 0.1, 0.2, 0.2, 0.0], [0.1, 0.1, 0.7, 0.1, 0.0], [0.1, 0.3, 0.0, 0.0, 0.6]])

    queries, scores, classes = instance_queries(probability.log(), IS_THING, 0.25)

    assert queries.tolist() == [0, 2] and classes.tolist() == [0, 1]
    torch.testing.assert_close(scores, torch.tensor([0.5, 0.3]))


def test_postprocess_applies_its_own_thresholds():
    probability = torch.tensor([[0.9, 0.05, 0.03, 0.01, 0.01], [0.1, 0.75, 0.05, 0.05, 0.05]])
    one = PostProcess(IS_THING.tolist(), score_threshold=0.8, instance_score_threshold=0.95)
    each = PostProcess(IS_THING.tolist(), 0.8, class_score_thresholds=[0.95, 0.7, 0.5, 0.5])

    assert one.segments(probability.log())[0].tolist() == [0] and one.instances(probability.log())[0].tolist() == []
    assert each.segments(probability.log())[0].tolist() == [1]
    assert each.instances(probability.log())[0].tolist() == [0, 1]
    torch.testing.assert_close(one.score_thresholds(), torch.full((4,), 0.8))
    torch.testing.assert_close(each.score_thresholds(), torch.tensor([0.95, 0.7, 0.5, 0.5]))
    with pytest.raises(ValueError, match="class_score_thresholds has 2 numbers for 4 classes"):
        PostProcess(IS_THING.tolist(), class_score_thresholds=[0.5, 0.5])


def test_small_and_hidden_segments_are_dropped_by_the_postprocess_as_by_the_function():
    logits, sizes = torch.randn(5, 6, 5), Sizes((24, 20), (23, 20), (46, 40))
    scores, classes = torch.rand(5), torch.tensor([0, 1, 2, 2, 3])
    postprocess = PostProcess(IS_THING.tolist(), overlap_threshold=0.4, min_segment_area=30)

    ids, segments = postprocess.panoptic(logits, scores, classes, sizes)

    expected = panoptic_map(logits, scores, classes, IS_THING, sizes, 30, 0.4)
    assert torch.equal(ids, expected[0]) and segments == expected[1]
    assert len(segments) < len(panoptic_map(logits, scores, classes, IS_THING, sizes, 0, 0.0)[1])


def test_map_of_nothing_is_void():
    panoptic, segments = _map(torch.zeros(0, 8, 8), [], output_size=(5, 9))

    assert panoptic.shape == (5, 9) and panoptic.dtype == torch.int32
    assert not panoptic.any() and segments == []


def test_all_segments_too_small_is_void():
    panoptic, segments = _map(_halves(), [0, 1, 1], min_area=10**6)

    assert not panoptic.any() and segments == []


def test_padding_is_cut_off_before_the_map_is_resized():
    logits = torch.full((2, 8, 8), -5.0)
    logits[0, :4, :4], logits[1, 4:], logits[1, :, 4:] = 5.0, 5.0, 5.0  # the second lives in the padding

    sizes = Sizes(padded=(32, 32), image=(15, 15), output=(30, 45))
    panoptic, segments = panoptic_map(logits, torch.ones(2), torch.tensor([0, 1]), IS_THING, sizes, min_area=1)

    assert panoptic.shape == (30, 45) and [s["category_id"] for s in segments] == [0]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 7), st.integers(1, 30), st.tuples(st.integers(1, 40), st.integers(1, 40)))
def test_ids_partition_the_image_and_agree_with_the_segments(seed, count, min_area, output_size):
    torch.manual_seed(seed)
    logits, classes = torch.randn(count, 6, 5) * 3, torch.randint(len(IS_THING), (count,)).tolist()

    panoptic, segments = _map(logits, classes, output_size=output_size, min_area=min_area)

    assert panoptic.shape == output_size
    areas = {int(i): int((panoptic == i).sum()) for i in panoptic.unique() if i != 0}
    assert areas == {s["id"]: s["area"] for s in segments}
    assert [s["id"] for s in segments] == list(range(1, len(segments) + 1))
    assert all(s["area"] >= min_area for s in segments)
    stuff = [s["category_id"] for s in segments if not s["isthing"]]
    assert len(stuff) == len(set(stuff))
    assert not segments or bool((panoptic > 0).all())
