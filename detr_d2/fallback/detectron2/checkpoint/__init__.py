"""An independently written subset of Detectron2's API; not Detectron2. Checkpoints, and weights of its model zoo."""

from __future__ import annotations

import pickle
from typing import Any

import torch
from fvcore.common.checkpoint import Checkpointer
from torch import nn

from detr_d2.errors import WeightsError

from detectron2.utils import comm
from detectron2.utils.file_io import PathManager

__all__ = ["DetectionCheckpointer"]

_ALLOWED = {"_reconstruct", "_frombuffer", "scalar", "ndarray", "dtype", "OrderedDict", "encode"}


class _ArrayUnpickler(pickle.Unpickler):
    """Reads numpy arrays in plain containers, and runs nothing that a file might bring along."""

    def find_class(self, module: str, name: str) -> Any:
        if name not in _ALLOWED or module.split(".")[0] not in ("numpy", "collections", "_codecs"):
            raise WeightsError(f"The file holds a {module}.{name}; a .pkl file may hold numpy arrays only.")
        return super().find_class(module, name)


class DetectionCheckpointer(Checkpointer):
    """Saves and loads a model and ``checkpointables``, whatever has a state, as ``.pth``; reads the zoo's ``.pkl``.

    Names are matched by their endings where a file says "matching_heuristics", as the zoo's backbones do.
    """

    def __init__(self, model: nn.Module, save_dir: str = "", **checkpointables: Any) -> None:
        checkpointables.setdefault("save_to_disk", comm.is_main_process())
        super().__init__(model, save_dir, **checkpointables)
        self.path_manager = PathManager

    def _load_file(self, filename: str) -> dict[str, Any]:
        if filename.endswith(".pkl"):
            with PathManager.open(filename, "rb") as file:
                loaded = _ArrayUnpickler(file, encoding="latin1").load()
            if "model" not in loaded or "__author__" not in loaded:
                raise WeightsError(f"{filename} isn't of Detectron2's model zoo: it lacks 'model' or '__author__'.")
            return loaded
        loaded = self._torch_load(filename)
        return loaded if "model" in loaded else {"model": loaded}

    def _torch_load(self, f: str) -> dict[str, Any]:
        return torch.load(f, map_location="cpu", weights_only=True)  # type: ignore[no-any-return]

    def _load_model(self, checkpoint: dict[str, Any]) -> Any:
        if checkpoint.get("matching_heuristics", False):
            self._convert_ndarray_to_tensor(checkpoint["model"])
            checkpoint["model"] = self._match_names(checkpoint["model"])
        incompatible = super()._load_model(checkpoint)
        for name in {"pixel_mean", "pixel_std"}.intersection(incompatible.missing_keys):
            incompatible.missing_keys.remove(name)  # old files lack them, and the config has set them
        return incompatible

    def _match_names(self, weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """``weights`` under the model's names: each takes the longest name that is its dotted ending and fits."""
        matched: dict[str, str] = {}
        for name, value in self.model.state_dict().items():
            endings = (name.split(".", start)[-1] for start in range(name.count(".") + 1))
            source = next((ending for ending in endings if ending in weights), None)
            if source is None or value.shape != weights[source].shape:
                continue
            if source in matched:
                raise WeightsError(f"{source} of the checkpoint fits {matched[source]} and {name}; rename it to one.")
            matched[source] = name
        return {matched.get(name, name): value for name, value in weights.items()}
