"""An independently written subset of Detectron2's API; not Detectron2."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor


class ImageList:
    """Pictures of several sizes in one tensor, padded at the right and at the bottom.

    Args:
        tensor: (N, ..., H, W).
        image_sizes: (height, width) of each picture without padding.
    """

    def __init__(self, tensor: Tensor, image_sizes: list[tuple[int, int]]) -> None:
        self.tensor = tensor
        self.image_sizes = image_sizes

    def __len__(self) -> int:
        return len(self.image_sizes)

    def __getitem__(self, index: int) -> Tensor:
        """(..., height, width): one picture without its padding."""
        height, width = self.image_sizes[index]
        return self.tensor[index, ..., :height, :width]

    @staticmethod
    def from_tensors(tensors: Sequence[Tensor], size_divisibility: int = 0, pad_value: float = 0.0) -> ImageList:
        """Pad pictures to one size and stack them.

        Args:
            tensors: (..., Hi, Wi) each, equal in all but the last two dimensions, else an AssertionError.
            size_divisibility: if over 1, height and width become multiples of it.
            pad_value: what the padding holds.
        """
        assert len(tensors) > 0, "there are no pictures"
        assert all(tensor.shape[:-2] == tensors[0].shape[:-2] for tensor in tensors), [t.shape for t in tensors]
        image_sizes = [(tensor.shape[-2], tensor.shape[-1]) for tensor in tensors]
        stride = max(1, size_divisibility)
        padded = [-(-max(sizes) // stride) * stride for sizes in zip(*image_sizes)]
        batch = tensors[0].new_full((len(tensors), *tensors[0].shape[:-2], *padded), pad_value)
        for row, tensor in zip(batch, tensors):
            row[..., : tensor.shape[-2], : tensor.shape[-1]].copy_(tensor)
        return ImageList(batch, image_sizes)
