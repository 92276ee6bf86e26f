"""An independently written subset of Detectron2's API; not Detectron2.

The configuration tree, on fvcore's ``CfgNode`` (yacs with ``_BASE_``).
"""

from __future__ import annotations

from typing import IO, Any

from fvcore.common.config import CfgNode as _CfgNode

from detectron2.utils.file_io import PathManager


class CfgNode(_CfgNode):
    """A nested configuration that reads yaml files with ``_BASE_`` and lists of ``KEY VALUE``.

    As in Detectron2 yaml files may hold Python tags: read only files that you trust.
    """

    @classmethod
    def _open_cfg(cls, filename: str) -> IO[Any]:
        return PathManager.open(filename, "r")

    def merge_from_file(self, cfg_filename: str, allow_unsafe: bool = True) -> None:
        """Read a yaml file, and the files it names as ``_BASE_``, over this configuration.

        Raises:
            AssertionError: there is no such file, or its VERSION isn't this configuration's.
            KeyError: the file has a key that this configuration lacks.
            ValueError: a value's type differs from the default's.
        """
        assert PathManager.isfile(cfg_filename), f"Config file '{cfg_filename}' does not exist!"
        loaded = type(self)(self.load_yaml_with_base(cfg_filename, allow_unsafe=allow_unsafe))
        version = loaded.get("VERSION", self.VERSION)
        assert version == self.VERSION, (
            f"'{cfg_filename}' is a v{version} config; only v{self.VERSION} can be read. "
            "Rename its keys to those of Detectron2 0.6 and set VERSION: 2."
        )
        self.merge_from_other_cfg(loaded)


def get_cfg() -> CfgNode:
    """A fresh copy of the default configuration."""
    from .defaults import default_config

    return default_config()
