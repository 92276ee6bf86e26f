"""The mask losses' formulas, torchvision's among them, and the points at which masks are compared."""

import torch
from torch.nn import functional as F
from torchvision.ops import sigmoid_focal_loss as torchvision_focal

from detr_d2.modeling.mask_losses import (
    at_points,
    dice_loss,
    mask_id_loss,
    masks_at_points,
    sigmoid_focal_loss,
    uncertain_points,
    undecided_points,
)


def test_focal_loss_equals_torchvision():
    logits, wanted = torch.randn(3, 50) * 4, (torch.rand(3, 50) > 0.5).float()

    ours = sigmoid_focal_loss(logits, wanted)

    torch.testing.assert_close(ours, torchvision_focal(logits, wanted, alpha=0.25, gamma=2).mean(1))


def test_dice_loss_is_zero_for_the_mask_itself_and_near_one_for_its_opposite():
    wanted = (torch.rand(2, 400) > 0.5).float()

    right, wrong = dice_loss(wanted * 80 - 40, wanted), dice_loss(40 - wanted * 80, wanted)

    assert right.abs().max() < 1e-5 and wrong.min() > 0.99


def test_mask_id_loss_is_the_cross_entropy_of_each_labelled_pixel():
    torch.manual_seed(0)
    logits, owner = torch.randn(3, 8, 12), torch.randint(-1, 3, (8, 12))
    masks = torch.stack([owner == number for number in range(3)])

    found = mask_id_loss(logits, masks)

    torch.testing.assert_close(found, F.cross_entropy(logits[None], owner[None], ignore_index=-1))
    assert mask_id_loss(logits, masks & False) == 0


def test_points_at_pixels_centres_hold_what_pixels_of_the_enlarged_masks_hold():
    torch.manual_seed(0)
    logits, masks = torch.randn(3, 4, 5), torch.rand(6, 12, 13) > 0.5
    order, height, width = torch.tensor([4, 0, 5]), 16, 20  # more than the masks have: the batch's other images
    y, x = torch.meshgrid((torch.arange(height) + 0.5) / height, (torch.arange(width) + 0.5) / width, indexing="ij")
    points = torch.stack([x, y], dim=-1).flatten(0, 1)[None]

    values, wanted = at_points(logits, points), masks_at_points(masks, order, points, (height, width))

    enlarged = F.interpolate(logits[:, None], size=(height, width), mode="bilinear", align_corners=False)
    torch.testing.assert_close(values, enlarged[:, 0].flatten(1))
    padded = F.pad(masks[order], (0, width - 13, 0, height - 12))
    assert torch.equal(wanted, padded.flatten(1))
    each = points.expand(3, -1, -1)
    assert torch.equal(at_points(logits, each), values)
    assert torch.equal(masks_at_points(masks, order, each, (height, width)), wanted)


def test_three_quarters_of_the_points_lie_near_the_masks_border():
    torch.manual_seed(0)
    ramp = torch.linspace(-10, 10, 64).expand(2, 48, 64)  # 0 in the middle, from left to right
    logits = ramp * torch.tensor([1.0, -1.0])[:, None, None]

    points = uncertain_points(logits, 1000)

    near = ((points[..., 0] - 0.5).abs() < 0.15).float().mean(1)
    assert points.shape == (2, 1000, 2) and points.min() >= 0 and points.max() <= 1
    assert (near > 0.75).all() and (near < 0.9).all()


def test_points_of_all_masks_lie_where_two_of_them_meet():
    torch.manual_seed(0)
    ramp = torch.linspace(-10, 10, 64).expand(48, 64)
    logits = torch.stack([ramp + 20, 20 - ramp, torch.full_like(ramp, 5)])  # all sure of themselves

    points = undecided_points(logits, 1000)

    near = ((points[..., 0] - 0.5).abs() < 0.15).float().mean()
    assert points.shape == (1, 1000, 2) and 0.75 < near < 0.9
    assert undecided_points(logits[:1], 7).shape == (1, 7, 2)
