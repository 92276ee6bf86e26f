"""What is recorded is the model's own: its attention, its results; padding gets nothing."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from detr_d2.modeling import predict_masks
from detr_d2.prediction.explain import record, record_masks
from detr_d2.prediction.explain.maps import attention_of, relative
from detr_d2.prediction.explain.recording import attend, forward_steps, recorded_attention


@pytest.fixture
def attention() -> nn.MultiheadAttention:
    return nn.MultiheadAttention(32, 4, batch_first=True).eval()


def test_attend_equals_the_layer_with_need_weights(attention):
    query, key, value = torch.randn(2, 5, 32), torch.randn(2, 7, 32), torch.randn(2, 7, 32)
    padding = torch.zeros(2, 7, dtype=torch.bool)
    padding[1, 4:] = True

    weights, attended = attend(attention, query, key, value, padding)

    theirs = attention(query, key, value, key_padding_mask=padding, average_attn_weights=False)
    torch.testing.assert_close(attended, theirs[0])
    torch.testing.assert_close(weights, theirs[1])


@pytest.mark.parametrize("kind", ["encoder", "decoder_self", "decoder_cross"])
def test_recorded_attention_is_what_the_layer_gives_for_its_own_inputs(kind, make_model, batch):
    model = make_model()
    transformer = model.detr.transformer
    layers = {
        "encoder": [layer.self_attn for layer in transformer.encoder.layers],
        "decoder_self": [layer.self_attn for layer in transformer.decoder.layers],
        "decoder_cross": [layer.multihead_attn for layer in transformer.decoder.layers],
    }[kind]
    given: dict[nn.Module, tuple] = {}
    for layer in layers:
        layer.register_forward_hook(lambda m, a, k, o: given.update({m: (a, k)}), with_kwargs=True)

    recording = record(model, batch)

    for layer, weights in zip(layers, getattr(recording, kind), strict=True):
        args, options = given[layer]
        wanted = {**options, "need_weights": True, "average_attn_weights": False}
        theirs = layer(*(part.detach() for part in args), **wanted)[1]
        torch.testing.assert_close(weights.detach(), theirs, atol=1e-5, rtol=1e-4)


def test_attention_sums_to_one_off_padding_and_is_zero_on_it(recorded):
    padding = recorded.outputs["padding_mask"].flatten(1)
    assert padding.any(1).all() and not padding.all(1).any()

    for weights in [*recorded.encoder, *recorded.decoder_cross]:
        for i in range(2):
            off, on = weights[i][..., ~padding[i]], weights[i][..., padding[i]]
            torch.testing.assert_close(off.sum(-1), torch.ones_like(off.sum(-1)))
            assert not on.any()
    for weights in recorded.decoder_self:
        torch.testing.assert_close(weights.sum(-1), torch.ones_like(weights.sum(-1)))


def test_recording_changes_neither_results_nor_model(make_model, batch):
    model = make_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    learning = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    with torch.no_grad():
        expected, _ = model.detect(batch)

    recording = record(model, batch)

    for name in ("pred_logits", "pred_boxes", "memory"):
        torch.testing.assert_close(recording.outputs[name].detach(), expected[name], atol=1e-4, rtol=1e-4)
    assert [name for name, parameter in model.named_parameters() if parameter.requires_grad] == learning
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())


def test_hooks_go_when_the_model_fails(make_model):
    model = make_model()

    with pytest.raises(RuntimeError), recorded_attention(model):
        raise RuntimeError("out of memory")

    assert not any(module._forward_hooks for module in model.modules())


def test_a_model_in_training_is_refused(make_model, batch):
    with pytest.raises(ValueError, match=r"model\.eval"):
        record(make_model().train(), batch)


def test_mask_steps_are_those_of_the_masks_shown(make_model, batch):
    model = make_model("MODEL.DETR.MASK_CHUNK_BYTES", 1)
    with torch.no_grad():
        outputs, _ = model.detect(batch)
    queries = torch.tensor([4, 1, 7])

    masks = record_masks(model, outputs, 1, queries)

    plain = predict_masks(model.bbox_attention, model.mask_head, outputs, torch.ones_like(queries), queries)
    torch.testing.assert_close(masks.logits, plain)
    torch.testing.assert_close(model.mask_head.out_lay(masks.steps[-1])[:, 0], masks.logits, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(masks.attention.flatten(1).sum(1), torch.ones(3))
    assert not masks.attention[:, :, outputs["padding_mask"][1]].any()


def test_attention_of_a_query_is_the_decoders_without_running_the_rest_again(make_model, batch):
    model = make_model()
    recording = record(model, batch)

    found = attention_of(model, recording.outputs, 5, recording.sizes[1]._replace(output=(30, 60)), image=1)

    assert found.shape == (30, 60) and found.max() == 1 and found.min() >= 0
    same_size = attention_of(model, recording.outputs, 5, recording.sizes[0], image=0)
    assert same_size.shape == (96, 64)
    coarse = recording.decoder_cross[-1][0, :, 5].mean(0).detach().view(recording.grid)
    large = torch.nn.functional.interpolate(coarse[None, None], recording.sizes[0].padded, mode="bilinear")[0, 0]
    torch.testing.assert_close(torch.from_numpy(same_size), torch.from_numpy(relative(large[:96, :64])))


def test_attention_of_several_queries_is_their_sum(make_model, batch):
    model = make_model()
    with torch.no_grad():
        outputs, sizes = model.detect(batch)

    once, twice = (attention_of(model, outputs, queries, sizes[0]) for queries in ([3], [3, 3]))

    torch.testing.assert_close(torch.from_numpy(once), torch.from_numpy(twice))


@pytest.mark.slow
def test_steps_have_the_shapes_that_the_published_model_has_for_this_batch(tiny_config):
    """Recorded from an independent program: an image batch 2×3×873×1060, 250 classes."""
    import detr_d2
    from detr_d2.data import Category
    from detr_d2.data.registration import DatasetEntry, register_entry

    from detectron2.modeling import build_model

    names = tuple(Category(i + 1, f"class {i}", i % 2 == 0, (0, 0, 0)) for i in range(250))
    register_entry(DatasetEntry("of_250_classes", "", "", "", "", categories=names))
    cfg = copy.deepcopy(detr_d2.load_config("configs/detr_panoptic_R50.yaml"))
    cfg.merge_from_list(
        ["MODEL.WEIGHTS", "", "MODEL.DEVICE", "cpu", "DATASETS.TRAIN", (), "DATASETS.TEST", ("of_250_classes",)]
    )
    model = build_model(cfg).eval()
    with torch.no_grad():
        recording = record(model, [{"image": torch.rand(3, 873, 800)}, {"image": torch.rand(3, 600, 1060)}])
        masks = record_masks(model, recording.outputs, 0, torch.tensor([0]))

    shapes = {step.name: step.shape for step in forward_steps(model, recording, masks)}

    assert shapes["images"] == (2, 3, 873, 1060)
    assert shapes["res2"] == (2, 256, 219, 265)
    assert shapes["res3"] == (2, 512, 110, 133)
    assert shapes["res4"] == (2, 1024, 55, 67)
    assert shapes["res5"] == (2, 2048, 28, 34)
    assert shapes["pred_logits"] == (2, 100, 251)
    assert shapes["attention maps"] == (2, 100, 8, 28, 34)
    assert shapes["pred_masks"] == (2, 100, 219, 265)
