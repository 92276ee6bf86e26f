"""Where the project's configs are, in a checkout and in an installed package alike."""

from __future__ import annotations

from pathlib import Path

from detr_d2.errors import MissingFileError

_PACKAGE = Path(__file__).resolve().parent


def configs_folder() -> Path:
    """The folder of the project's yaml files: inside an installed package, beside the package in a checkout."""
    inside = _PACKAGE / "configs"
    return inside if inside.is_dir() else _PACKAGE.parent / "configs"


def get_config_file(name: str) -> str:
    """The path of one of the project's own configs, e.g. ``get_config_file("detr_panoptic_R50.yaml")``.

    Args:
        name: path below ``configs/``.

    Raises:
        MissingFileError: there is no such config; the message lists those that there are.
    """
    folder = configs_folder()
    path = folder / name
    if path.is_file():
        return str(path)
    known = sorted(found.relative_to(folder).as_posix() for found in folder.rglob("*.yaml"))
    raise MissingFileError(f"No config {name!r} in {folder}. There are: {', '.join(known) or 'none'}.")
