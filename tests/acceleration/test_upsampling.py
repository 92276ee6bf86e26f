"""The fast mask head: masks and gradients of the plain one, whatever the sizes of its features are."""

import copy

import pytest
import torch
from torch.nn import functional as F

from detr_d2.acceleration import accelerate_
from detr_d2.acceleration.upsampling import FastMaskHead, upsampled_convolution
from detr_d2.modeling import MaskHead

D, HEADS, MAPS = 32, 8, 5
EVEN, ODD, DILATED = ((10, 14), (20, 28), (40, 56)), ((9, 14), (18, 27), (36, 53)), ((5, 7), (10, 13), (19, 26))


@pytest.fixture
def plain() -> MaskHead:
    head = MaskHead(D + HEADS, [24, 16, 8], D)
    for parameter in head.parameters():  # group norms that do something, biases that are not 0
        torch.nn.init.normal_(parameter, std=0.3)
    return head


def _run(head: MaskHead, sizes: tuple, channels_last: bool) -> torch.Tensor:
    torch.manual_seed(1)
    tensors = [torch.randn(MAPS, HEADS, 5, 7), torch.randn(1, D, 5, 7)]
    tensors += [torch.randn(1, channels, *size) for channels, size in zip((24, 16, 8), sizes, strict=True)]
    if channels_last:
        tensors = [tensor.contiguous(memory_format=torch.channels_last) for tensor in tensors]
    maps, projected, *fpn = tensors
    return head(maps, head.shared_features(projected, fpn))


@pytest.mark.parametrize("sizes", [EVEN, ODD, DILATED])
@pytest.mark.parametrize("channels_last", [False, True])
def test_fast_mask_head_gives_the_masks_and_gradients_of_the_plain_one(plain, sizes, channels_last):
    fast = copy.deepcopy(plain)
    accelerate_(fast)
    results = []

    for head in (plain, fast):
        masks = _run(head, sizes, channels_last)
        masks.square().mean().backward()
        results.append((masks, {name: value.grad for name, value in head.named_parameters()}))

    assert type(fast) is FastMaskHead and type(plain) is MaskHead
    torch.testing.assert_close(results[1], results[0], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("size", [(10, 14), (9, 14), (10, 13), (9, 13), (5, 7), (20, 28), (12, 14)])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_upsampled_convolution_equals_upsampling_then_convolution(size, memory_format):
    x = torch.randn(3, 8, 5, 7).to(memory_format=memory_format)
    weight = torch.randn(4, 8, 3, 3).to(memory_format=memory_format)

    fast = upsampled_convolution(x, weight, size)

    plain = F.conv2d(F.interpolate(x, size=size, mode="nearest"), weight, padding=1)
    torch.testing.assert_close(fast, plain, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("size", [(1, 1), (1, 2), (2, 1), (1, 5), (7, 1)])
def test_upsampled_convolution_of_one_pixel_wide_maps(size):
    x, weight = torch.randn(2, 8, (size[0] + 1) // 2, (size[1] + 1) // 2), torch.randn(4, 8, 3, 3)

    fast = upsampled_convolution(x, weight, size)

    plain = F.conv2d(F.interpolate(x, size=size, mode="nearest"), weight, padding=1)
    torch.testing.assert_close(fast, plain, atol=1e-5, rtol=1e-5)
