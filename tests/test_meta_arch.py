"""The meta-architecture: batched inputs to losses, to instances and to panoptic maps."""

from __future__ import annotations

import pytest
import torch

from detr_d2.data import DetrPanopticDatasetMapper
from detr_d2.errors import ConfigError
from detr_d2.meta_arch import DetrPanoptic

from detectron2.data import DatasetCatalog
from detectron2.modeling import META_ARCH_REGISTRY, build_model
from detectron2.utils.events import EventStorage

MASKS = ("MODEL.DETR.MASK_ON", True)


def _batch(cfg, is_train=True, count=2):
    mapper = DetrPanopticDatasetMapper(cfg, is_train=is_train)
    return [mapper(item) for item in DatasetCatalog.get("yard_train")[:count]]


def _sure_model(cfg) -> DetrPanoptic:
    """An untrained model whose class head sees a brick stack at every query, so that there are results."""
    model = build_model(cfg).eval()
    with torch.no_grad():
        model.detr.class_embed.weight.normal_(std=0.1)
        model.detr.class_embed.bias[0] = 6.0
    return model


def test_meta_arch_is_registered():
    assert META_ARCH_REGISTRY.get("DetrPanoptic") is DetrPanoptic


def test_boxes_model_returns_weighted_losses_and_logs_unweighted_ones(tiny_config):
    cfg = tiny_config()
    model = build_model(cfg)

    with EventStorage() as storage:
        losses = model.train()(_batch(cfg))

    assert set(losses) == {f"loss_{kind}{layer}" for kind in ("ce", "bbox", "giou") for layer in ("", "_0")}
    latest = {name: value for name, (value, _) in storage.latest().items()}
    assert losses["loss_bbox"].item() == pytest.approx(5 * latest["unweighted/bbox"], rel=1e-5)
    assert losses["loss_giou_0"].item() == pytest.approx(2 * latest["unweighted/giou_0"], rel=1e-5)
    assert {"class_error", "cardinality_error"} <= set(latest)


def test_joint_model_trains_every_parameter(tiny_config):
    cfg = tiny_config(*MASKS)
    model = build_model(cfg).train()

    sum(model(_batch(cfg)).values()).backward()

    missing = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert missing == []


def test_frozen_detector_trains_the_mask_head_only_and_stays_as_it_is(tiny_config):
    cfg = tiny_config(*MASKS, "MODEL.DETR.FREEZE_DETECTOR", True, "MODEL.DETR.DROPOUT", 0.5)
    model = build_model(cfg).train()
    before = {name: value.clone() for name, value in model.detr.state_dict().items()}

    with EventStorage() as storage:
        losses = model(_batch(cfg))
    sum(losses.values()).backward()

    assert set(losses) == {"loss_mask", "loss_dice"}
    assert "unweighted/ce" in storage.latest()
    trained = {name.split(".")[0] for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert trained == {"bbox_attention", "mask_head"}
    assert all(torch.equal(value, before[name]) for name, value in model.detr.state_dict().items())
    assert model.training and not any(module.training for module in model.detr.modules())


def test_mask_ids_are_learnt_where_they_have_a_weight(tiny_config):
    cfg = tiny_config(*MASKS, "MODEL.DETR.FREEZE_DETECTOR", True, "MODEL.DETR.MASK_ID_WEIGHT", 2.0)

    losses = build_model(cfg).train()(_batch(cfg))

    assert set(losses) == {"loss_mask", "loss_dice", "loss_maskid"} and losses["loss_maskid"] > 0


def test_masks_are_compared_at_points_in_training_and_at_all_pixels_in_validation(tiny_config):
    cfg = tiny_config(*MASKS, "MODEL.DETR.FREEZE_DETECTOR", True, "MODEL.DETR.MASK_POINTS", 10)
    model, batch = build_model(cfg).train(), _batch(cfg)
    whole = build_model(tiny_config(*MASKS, "MODEL.DETR.FREEZE_DETECTOR", True))
    whole.load_state_dict(model.state_dict())

    losses = model(batch)
    sum(losses.values()).backward()

    assert all(each.grad.isfinite().all() for each in model.mask_head.parameters())
    assert losses["loss_mask"] != whole.train()(batch)["loss_mask"]
    found, wanted = model.eval().validate(batch)[1], whole.eval().validate(batch)[1]
    assert found["loss_mask"].mean == wanted["loss_mask"].mean > 0


def test_inference_returns_instances_and_a_panoptic_map_of_the_original_size(tiny_config):
    cfg = tiny_config(*MASKS, "MODEL.DETR.SCORE_THRESHOLD", 0.3)
    inputs = _batch(cfg, is_train=False)
    inputs[0] |= {"height": 300, "width": 411}

    with torch.no_grad():
        first, second = _sure_model(cfg)(inputs)

    for result, (height, width) in ((first, (300, 411)), (second, (128, 160))):
        panoptic, segments = result["panoptic_seg"]
        assert panoptic.shape == (height, width) and panoptic.dtype == torch.int32
        assert {s["id"]: s["area"] for s in segments} == {
            int(i): int((panoptic == i).sum()) for i in panoptic.unique() if i
        }
        instances = result["instances"]
        assert instances.image_size == (height, width) and len(instances) > 0
        assert instances.pred_masks.shape == (len(instances), height, width)
        assert instances.scores.tolist() == sorted(instances.scores.tolist(), reverse=True)
        boxes = instances.pred_boxes.tensor
        assert boxes.min() >= 0 and (boxes[:, [0, 2]] <= width).all() and (boxes[:, [1, 3]] <= height).all()


def test_instances_are_things_only(tiny_config):
    cfg = tiny_config()

    with torch.no_grad():
        results = _sure_model(cfg)(_batch(cfg, is_train=False))

    model = build_model(cfg)
    assert all(bool(model.postprocess.is_thing[result["instances"].pred_classes].all()) for result in results)
    assert all("panoptic_seg" not in result for result in results)


def test_an_image_gets_the_same_result_alone_and_in_a_batch(tiny_config):
    cfg = tiny_config(*MASKS, "MODEL.DETR.SCORE_THRESHOLD", 0.3)
    model = _sure_model(cfg)
    inputs = _batch(cfg, is_train=False)

    with torch.no_grad():
        [alone], together = model([inputs[1]]), model(inputs)[1]

    torch.testing.assert_close(
        together["instances"].pred_boxes.tensor, alone["instances"].pred_boxes.tensor, atol=1e-2, rtol=1e-4
    )
    assert torch.equal(together["instances"].pred_classes, alone["instances"].pred_classes)


def test_parts_can_be_switched_off(tiny_config):
    cfg = tiny_config(*MASKS, "MODEL.DETR.INSTANCE_ON", False)
    with torch.no_grad():
        assert set(build_model(cfg).eval()(_batch(cfg, is_train=False))[0]) == {"panoptic_seg"}

    cfg = tiny_config(*MASKS, "MODEL.DETR.PANOPTIC_ON", False)
    with torch.no_grad():
        assert set(build_model(cfg).eval()(_batch(cfg, is_train=False))[0]) == {"instances"}


def test_parameter_names_follow_the_published_checkpoints(tiny_config):
    names = set(build_model(tiny_config(*MASKS)).state_dict())

    assert {name.split(".")[0] for name in names} == {"detr", "bbox_attention", "mask_head"}
    assert {
        "detr.class_embed.weight",
        "detr.transformer.encoder.layers.0.self_attn.in_proj_weight",
        "detr.backbone.res2.0.conv1.norm.running_mean",
        "mask_head.adapter1.weight",
        "bbox_attention.q_linear.weight",
    } <= names


def test_number_of_classes_comes_from_the_dataset(tiny_config):
    model = build_model(tiny_config())

    assert model.detr.class_embed.out_features == 10 + 1
    assert [category.name for category in model.categories[-4:]] == ["sky", "ground", "building", "plant"]


def test_model_without_datasets_is_refused(tiny_config):
    with pytest.raises(ConfigError, match=r"DATASETS\.TRAIN"):
        build_model(tiny_config("DATASETS.TRAIN", "()", "DATASETS.TEST", "()"))


def test_datasets_of_other_categories_are_refused(tiny_config):
    with pytest.raises(ConfigError, match="construction_panoptic_val"):
        build_model(tiny_config("DATASETS.TEST", "('construction_panoptic_val',)"))


def test_freezing_without_masks_is_refused(tiny_config):
    with pytest.raises(ValueError, match="leaves nothing to train"):
        build_model(tiny_config("MODEL.DETR.FREEZE_DETECTOR", True))


def test_bfloat16_autocast_trains_with_fp32_losses(tiny_config):
    cfg = tiny_config(*MASKS)
    model = build_model(cfg).train()

    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = model(_batch(cfg))
    sum(losses.values()).backward()

    assert all(value.dtype == torch.float32 and value.isfinite() for value in losses.values())


@pytest.mark.parametrize("frozen", [False, True])
def test_a_batch_without_objects_gives_every_parameter_a_gradient(tiny_config, frozen):
    """Several processes wait for each other's gradients, those of a process without objects included."""
    model = build_model(tiny_config(*MASKS, "MODEL.DETR.FREEZE_DETECTOR", frozen)).train()
    batch = [item | {"instances": item["instances"][:0]} for item in _batch(tiny_config(*MASKS))]

    losses = model(batch)
    torch.stack(list(losses.values())).sum().backward()

    assert losses["loss_mask"] == 0 and losses["loss_dice"] == 0
    assert not [name for name, each in model.named_parameters() if each.requires_grad and each.grad is None]
