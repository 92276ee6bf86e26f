"""Images named on a command line: which they are, what is in them, and where their results go."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from detr_d2.errors import ConfigError
from detr_d2.files import numbered_names
from detr_d2.labels.image_decoding import IMAGE_SUFFIXES

#: What a result is written as, by its image's suffix; all others become PNG.
RESULT_SUFFIXES = {".jpg": ".jpg", ".jpeg": ".jpg"}


@dataclass(frozen=True)
class FoundImages:
    """What the inputs of a command line stand for.

    Attributes:
        paths: the images in the order of the inputs, each once.
        complaints: for each input that stands for nothing, a sentence that says so.
    """

    paths: list[Path]
    complaints: list[str]


def find_images(inputs: Sequence[str]) -> FoundImages:
    """Looks up files, folders (without the folders in them) and patterns such as ``'site/**/*.jpg'``."""
    found: dict[Path, Path] = {}
    complaints = []
    for entry in inputs:
        paths = _paths_of(os.path.expanduser(entry))
        if not paths:
            complaints.append(_complaint(entry))
        for path in paths:
            found.setdefault(path.resolve(), path)
    return FoundImages(list(found.values()), complaints)


def _paths_of(entry: str) -> list[Path]:
    path = Path(entry)
    if path.is_dir():
        return sorted(file for file in path.iterdir() if _looks_like_image(file))
    if path.exists():  # before the pattern: [ and ] may be part of a name
        return [path]
    return sorted(file for file in map(Path, glob.glob(entry, recursive=True)) if _looks_like_image(file))


def _looks_like_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file()


def _complaint(entry: str) -> str:
    kinds = ", ".join(IMAGE_SUFFIXES)
    if os.path.isdir(os.path.expanduser(entry)):
        return f"{entry}: no image in this folder ({kinds})."
    if glob.has_magic(entry):
        return f"{entry}: no image matches this pattern ({kinds}); patterns are relative to {os.getcwd()}."
    return f"{entry}: there is no such file or folder; names are relative to {os.getcwd()}."


def result_paths(images: Sequence[Path], output: Path) -> list[Path]:
    """Where the result of each image goes: ``output`` with the image's name.

    Images of one name from several folders get their folders' names in front (``site-a_01.jpg``); where that isn't
    enough, a number behind.

    Args:
        images: see :func:`find_images`.
        output: a folder, made when the first result is written; or, for one image alone, a ``.jpg`` or ``.png``.

    Raises:
        ConfigError: ``output`` is a file but no image's name or stands for several images, or a result would
            replace one of the images.
    """
    if output.suffix.lower() in (".jpg", ".jpeg", ".png") and not output.is_dir():
        if len(images) > 1:
            raise ConfigError(f"--output {output} is one file for {len(images)} images; name a folder.")
        results = [output]
    elif output.exists() and not output.is_dir():
        raise ConfigError(f"--output {output} is a file; name a folder, or a new .jpg or .png for one image.")
    else:
        results = [output / name for name in _distinct_names(images)]
    sources = {path.resolve() for path in images}
    replaced = [path for path in results if path.resolve() in sources]
    if replaced:
        raise ConfigError(f"{replaced[0]} is one of the images and would be replaced; name another --output.")
    return results


def _distinct_names(images: Sequence[Path]) -> list[str]:
    resolved = [path.resolve() for path in images]
    names = [_result_name(path, 0) for path in resolved]
    for depth in range(1, max((len(path.parts) for path in resolved), default=1) - 1):
        counts = _count_folded(names)
        if max(counts.values(), default=1) == 1:
            return names
        names = [
            _result_name(path, depth) if counts[name.casefold()] > 1 else name for path, name in zip(resolved, names)
        ]
    return numbered_names(names)


def _result_name(path: Path, depth: int) -> str:
    """The image's name with ``depth`` folders' names in front and the suffix of a result."""
    folders = list(path.parts[1:-1])[-depth:] if depth else []
    return "_".join([*folders, path.stem]) + RESULT_SUFFIXES.get(path.suffix.lower(), ".png")


def _count_folded(names: Sequence[str]) -> dict[str, int]:
    """How often each name is there; some file systems take upper for lower case."""
    counts: dict[str, int] = {}
    for name in names:
        counts[name.casefold()] = counts.get(name.casefold(), 0) + 1
    return counts
