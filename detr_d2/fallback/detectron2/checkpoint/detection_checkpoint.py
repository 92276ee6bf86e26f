"""An independently written subset of Detectron2's API; not Detectron2. Checkpoints, and weights of its model zoo."""

from __future__ import annotations

import pickle
from typing import Any
from urllib.parse import parse_qs, urlparse

import torch
from fvcore.common.checkpoint import Checkpointer
from torch import nn

from detectron2.utils import comm
from detectron2.utils.file_io import PathManager

_NUMPY_MODULES = ("numpy", "numpy.core.multiarray", "numpy._core.multiarray", "numpy._core.numeric")
_ALLOWED = {(module, name) for module in _NUMPY_MODULES for name in ("_reconstruct", "scalar", "ndarray", "dtype")}
_ALLOWED |= {("numpy._core.numeric", "_frombuffer"), ("numpy.core.numeric", "_frombuffer")}
_ALLOWED |= {("collections", "OrderedDict"), ("_codecs", "encode")}


class _ArrayUnpickler(pickle.Unpickler):
    """Reads numpy arrays in plain containers, and runs nothing that a file might bring along."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(
                f"the file holds a '{module}.{name}'; allowed are numpy arrays. Use weights from a source you trust."
            )
        return super().find_class(module, name)


class DetectionCheckpointer(Checkpointer):
    """Saves and loads a model and other things with a state, as ``.pth``; also reads the model zoo's ``.pkl``.

    A file's names are matched by their endings where it asks for it ("matching_heuristics", or the same in the path:
    ``weights.pth?matching_heuristics=True``), so that a backbone's weights find their place in a whole model.

    Args:
        save_dir: where ``save`` writes and where ``last_checkpoint`` is looked for.
        save_to_disk: default: only in the main process.
        checkpointables: by name, what has ``state_dict`` and ``load_state_dict``.
    """

    def __init__(
        self, model: nn.Module, save_dir: str = "", *, save_to_disk: bool | None = None, **checkpointables: Any
    ) -> None:
        to_disk = comm.is_main_process() if save_to_disk is None else save_to_disk
        super().__init__(model, save_dir, save_to_disk=to_disk, **checkpointables)
        self.path_manager = PathManager
        self._match_endings = False

    def load(self, path: str, checkpointables: list[str] | None = None) -> dict[str, Any]:
        """Load the weights at ``path`` ("" loads nothing) and the named checkpointables (default: all the file has).

        Returns:
            What else the file holds, such as "iteration".
        """
        url = urlparse(path or "")
        query = parse_qs(url.query)
        self._match_endings = query.pop("matching_heuristics", []) == ["True"]
        if query:
            raise ValueError(
                f"'{path}' asks for {sorted(query)}; the only thing to ask for is matching_heuristics=True."
            )
        return super().load(url._replace(query="").geturl() if url.query else path, checkpointables)

    def _load_file(self, filename: str) -> dict[str, Any]:
        if filename.endswith(".pkl"):
            with PathManager.open(filename, "rb") as file:
                loaded = _ArrayUnpickler(file, encoding="latin1").load()
            if "model" not in loaded or "__author__" not in loaded:
                raise ValueError(f"{filename} isn't of Detectron2's model zoo.")
            return loaded
        loaded = torch.load(filename, map_location="cpu", weights_only=True)
        loaded = loaded if "model" in loaded else {"model": loaded}
        return {**loaded, "matching_heuristics": True} if self._match_endings else loaded

    def _load_model(self, checkpoint: dict[str, Any]) -> Any:
        if checkpoint.get("matching_heuristics", False):
            self._convert_ndarray_to_tensor(checkpoint["model"])
            checkpoint["model"] = self._match_names(checkpoint["model"])
        incompatible = super()._load_model(checkpoint)
        # Old files lack these two; the config has set them.
        own = dict(self.model.named_buffers(recurse=False))
        normalisation = [name for name in ("pixel_mean", "pixel_std") if name in own]
        incompatible.missing_keys[:] = [name for name in incompatible.missing_keys if name not in normalisation]
        return incompatible

    def _match_names(self, weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """``weights`` under the model's names: each takes the longest name that equals it or its dotted ending."""
        matched: dict[str, str] = {}
        for name, value in sorted(self.model.state_dict().items()):
            parts = name.split(".")
            endings = (".".join(parts[start:]) for start in range(len(parts)))
            source = next((ending for ending in endings if ending in weights), None)
            if source is None:
                continue
            if value.shape != weights[source].shape:
                shapes = f"{tuple(weights[source].shape)} in the checkpoint and {tuple(value.shape)} in the model"
                self.logger.warning(f"{source} isn't loaded: it is {shapes} ({name}).")
            elif source in matched:
                raise ValueError(f"{source} of the checkpoint fits {matched[source]} and {name}; rename it to one.")
            else:
                matched[source] = name
        if not matched:
            self.logger.warning("No weights of the checkpoint have a place in the model.")
        return {matched.get(name, name): value for name, value in weights.items()}
