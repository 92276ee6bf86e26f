"""Detectron2's and Caffe2's ``.pkl`` files, read without running anything that they may bring along."""

from __future__ import annotations

import pickle
from typing import Any

from detr_d2.errors import WeightsError
from detr_d2.files import open_regular

_ALLOWED = {
    *((f"numpy.{core}.multiarray", name) for core in ("core", "_core") for name in ("_reconstruct", "scalar")),
    *((f"numpy.{core}.numeric", "_frombuffer") for core in ("core", "_core")),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("collections", "OrderedDict"),
    ("_codecs", "encode"),
}
"""What numpy arrays in plain containers are made of."""


class _ArrayUnpickler(pickle.Unpickler):
    """Builds numpy arrays and plain containers; everything else is refused before it is looked up."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise WeightsError(f"it holds {module}.{name}, and a .pkl file may hold numpy arrays only")
        return super().find_class(module, name)


def read_arrays(path: str) -> dict[str, Any]:
    """The dict that a ``.pkl`` file holds.

    Raises:
        WeightsError: it holds something else than numpy arrays in plain containers, or is damaged.
    """
    try:
        with open_regular(path) as file:
            content = _ArrayUnpickler(file, encoding="latin1").load()
    except WeightsError as error:
        raise WeightsError(
            f"{path} needs pickle: {error}. Convert it where you trust it: load it there, and save its tensors with "
            'torch.save({"model": tensors}, "weights.pth").'
        ) from error
    except Exception as error:  # a damaged pickle raises anything
        raise WeightsError(
            f"{path} is truncated, or no pickle of weights ({type(error).__name__}). Copy it again."
        ) from error
    if not isinstance(content, dict):
        raise WeightsError(f"{path} holds a {type(content).__name__}; weights are a dict. Use another file.")
    return content
