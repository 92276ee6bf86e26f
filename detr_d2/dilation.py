"""Dilation of res5 (DC5) as the published networks have it.

Source: Carion et al. 2020, "End-to-End Object Detection with Transformers", section 4, "DC5"; the published weights
were trained with torchvision's ResNet.
"""

from __future__ import annotations

from torch import nn


def use_published_dilation_(backbone: nn.Module) -> None:
    """Give the first block of a dilated ``res5`` no dilation.

    torchvision dilates the convolutions after the stride that dilation replaces, Detectron2 all of res5; names and
    shapes are the same, the numbers aren't.

    Args:
        backbone: a ResNet of bottleneck blocks with Detectron2's names, changed in place; others stay as they are.
    """
    stage = getattr(backbone, "res5", None)
    convolution = None if stage is None else getattr(stage[0], "conv2", None)
    if isinstance(convolution, nn.Conv2d) and convolution.kernel_size == (3, 3):
        convolution.dilation = convolution.padding = (1, 1)
