"""An independently written subset of Detectron2's API; not Detectron2."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor


class ImageList:
    """Images of several sizes in one tensor, padded at the right and at the bottom.

    Args:
        tensor: (N, ..., H, W).
        image_sizes: (height, width) of each image without padding.
    """

    def __init__(self, tensor: Tensor, image_sizes: list[tuple[int, int]]) -> None:
        self.tensor = tensor
        self.image_sizes = image_sizes

    def __len__(self) -> int:
        return len(self.image_sizes)

    @staticmethod
    def from_tensors(tensors: Sequence[Tensor]) -> ImageList:
        """Pad images (..., Hi, Wi) with zeros to one size and stack them.

        Raises:
            AssertionError: there are none, or they differ in more than the last two dimensions.
        """
        assert len(tensors) > 0, "there are no images"
        assert all(tensor.shape[:-2] == tensors[0].shape[:-2] for tensor in tensors), [t.shape for t in tensors]
        image_sizes = [(tensor.shape[-2], tensor.shape[-1]) for tensor in tensors]
        padded = [max(sizes) for sizes in zip(*image_sizes)]
        batch = tensors[0].new_zeros(len(tensors), *tensors[0].shape[:-2], *padded)
        for row, tensor in zip(batch, tensors):
            row[..., : tensor.shape[-2], : tensor.shape[-1]].copy_(tensor)
        return ImageList(batch, image_sizes)
