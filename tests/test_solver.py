"""The optimizer: rates of backbone and rest, frozen parameters, clipping."""

import pytest
import torch
from torch import nn

from detr_d2 import load_config
from detr_d2.config import check_schedule
from detr_d2.errors import ConfigError, DivergenceError
from detr_d2.solver import build_optimizer, parameter_groups

from detectron2.modeling import build_model


class TwoParts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
        self.head = nn.Linear(4, 2)


def _config(*overrides):
    return load_config("", ["SOLVER.BASE_LR", 0.01, "SOLVER.WEIGHT_DECAY_NORM", 0.5, *overrides])


def test_backbone_has_its_own_rate_and_norms_their_own_decay():
    model = TwoParts()

    groups = parameter_groups(_config(), model)

    found = {parameter: (group["lr"], group["weight_decay"]) for group in groups for parameter in group["params"]}
    assert found[model.head.weight] == (0.01, 0.0001)
    assert found[model.backbone[0].weight] == (pytest.approx(0.001), 0.0001)
    assert found[model.backbone[1].weight] == (pytest.approx(0.001), 0.5)
    assert len(found) == len(list(model.parameters()))


def test_biases_have_a_rate_and_a_decay_of_their_own_as_in_detectron2():
    model = TwoParts()
    keys = ("SOLVER.BIAS_LR_FACTOR", 2.0, "SOLVER.WEIGHT_DECAY_BIAS", 0.25)

    groups = parameter_groups(_config(*keys), model)

    found = {parameter: (group["lr"], group["weight_decay"]) for group in groups for parameter in group["params"]}
    assert found[model.head.bias] == (0.02, 0.25) and found[model.head.weight] == (0.01, 0.0001)
    assert found[model.backbone[1].bias] == (pytest.approx(0.002), 0.25)  # a norm's bias is a bias
    assert found[model.backbone[1].weight] == (pytest.approx(0.001), 0.5)


def test_sgd_takes_nesterov_momentum_which_needs_a_momentum(tiny_config):
    keys = ("SOLVER.OPTIMIZER", "SGD", "SOLVER.NESTEROV", True)

    assert build_optimizer(_config(*keys, "SOLVER.MOMENTUM", 0.5), TwoParts()).defaults["nesterov"]
    with pytest.raises(ConfigError, match=r"SOLVER\.MOMENTUM 0"):
        check_schedule(tiny_config(*keys, "SOLVER.MOMENTUM", 0.0), 1)


@pytest.mark.parametrize("feature", ["res5", "res4"])
def test_each_stage_of_a_resnet_learns_slower_than_the_one_behind_it(tiny_config, feature):
    keys = ("SOLVER.BACKBONE_LAYER_DECAY", 0.5, "SOLVER.BACKBONE_MULTIPLIER", 0.1, "SOLVER.BASE_LR", 0.01)
    cfg = tiny_config("MODEL.BACKBONE.FREEZE_AT", 0, "MODEL.DETR.MEMORY_FEATURE", feature, *keys)
    model = build_model(cfg)

    groups = parameter_groups(cfg, model)

    found = {parameter: group["lr"] for group in groups for parameter in group["params"]}
    stages = [name for name in ("res5", "res4", "res3", "res2", "stem") if name <= feature or name == "stem"]
    for i, stage in enumerate(stages):
        rates = {found[each] for each in getattr(model.detr.backbone, stage).parameters() if each.requires_grad}
        assert list(rates) == [pytest.approx(0.001 * 0.5**i)], stage
    assert found[model.detr.class_embed.weight] == 0.01
    assert len(found) == len([each for each in model.parameters() if each.requires_grad])


def test_layer_decay_of_a_resnet_is_refused_for_other_backbones(tiny_config):
    cfg = tiny_config("SOLVER.BACKBONE_LAYER_DECAY", 0.5, "MODEL.BACKBONE.NAME", "build_timm_backbone")

    with pytest.raises(ConfigError, match=r"MODEL\.TIMM\.LAYER_DECAY"):
        check_schedule(cfg, 1)


def test_mask_head_has_its_own_rate():
    model = TwoParts()
    model.mask_head = nn.Linear(2, 2)
    model.bbox_attention = nn.Linear(2, 2)

    groups = parameter_groups(_config("SOLVER.MASK_HEAD_MULTIPLIER", 10.0), model)

    found = {parameter: group["lr"] for group in groups for parameter in group["params"]}
    assert found[model.head.weight] == 0.01
    assert found[model.mask_head.weight] == found[model.bbox_attention.bias] == pytest.approx(0.1)


def test_frozen_parameters_are_left_out():
    model = TwoParts()
    model.backbone.requires_grad_(False)

    optimizer = build_optimizer(_config(), model)

    assert {id(p) for group in optimizer.param_groups for p in group["params"]} == {
        id(p) for p in model.head.parameters()
    }


def test_nothing_to_train_is_refused():
    with pytest.raises(ConfigError, match="FREEZE_DETECTOR"):
        build_optimizer(_config(), TwoParts().requires_grad_(False))


@pytest.mark.parametrize(("name", "cls"), [("ADAMW", torch.optim.AdamW), ("SGD", torch.optim.SGD)])
def test_optimizer_is_the_one_named(name, cls):
    optimizer = build_optimizer(_config("SOLVER.OPTIMIZER", name), TwoParts())

    assert isinstance(optimizer, cls)


def test_full_model_clipping_keeps_the_direction_and_bounds_the_norm():
    model = TwoParts()
    cfg = _config("SOLVER.OPTIMIZER", "SGD", "SOLVER.BASE_LR", 1.0, "SOLVER.BACKBONE_MULTIPLIER", 1.0)
    cfg.merge_from_list(["SOLVER.WEIGHT_DECAY", 0.0, "SOLVER.WEIGHT_DECAY_NORM", 0.0, "SOLVER.MOMENTUM", 0.0])
    cfg.merge_from_list(["SOLVER.CLIP_GRADIENTS.ENABLED", True, "SOLVER.CLIP_GRADIENTS.CLIP_TYPE", "full_model"])
    cfg.SOLVER.CLIP_GRADIENTS.CLIP_VALUE = 0.1
    optimizer = build_optimizer(cfg, model)
    before = torch.cat([p.detach().flatten() for p in model.parameters()])
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter) * 7
    gradient = torch.cat([p.grad.flatten() for p in model.parameters()])

    optimizer.step()

    step = before - torch.cat([p.detach().flatten() for p in model.parameters()])
    torch.testing.assert_close(step, gradient * 0.1 / gradient.norm(), atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("clip", ["full_model", "norm", "value", ""])
@pytest.mark.parametrize("value", [float("nan"), float("inf")], ids=str)
def test_gradients_that_are_not_finite_are_refused_and_change_nothing(clip, value):
    model = TwoParts()
    keys = ("SOLVER.CLIP_GRADIENTS.ENABLED", bool(clip), "SOLVER.CLIP_GRADIENTS.CLIP_TYPE", clip or "norm")
    optimizer = build_optimizer(_config(*keys), model)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    next(model.parameters()).grad.view(-1)[0] = value
    if clip == "value" and value == float("inf"):  # which becomes the largest value allowed
        return optimizer.step()

    with pytest.raises(DivergenceError, match=r"the norm of the gradients is (nan|inf), while the losses are finite"):
        optimizer.step()

    assert all(torch.equal(one, other) for one, other in zip(before, model.parameters(), strict=True))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("SOLVER.OPTIMIZER", "ADAM"), "ADAMW and SGD"),
        (
            ("SOLVER.CLIP_GRADIENTS.ENABLED", True, "SOLVER.CLIP_GRADIENTS.CLIP_TYPE", "all"),
            "full_model, norm and value",
        ),
    ],
)
def test_unknown_names_say_what_is_allowed(overrides, message):
    with pytest.raises(ConfigError, match=message):
        build_optimizer(_config(*overrides), TwoParts())
