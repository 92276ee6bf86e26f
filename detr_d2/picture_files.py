"""Pictures named on a command line: which they are, what is in them, and where their results go."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from detr_d2.errors import ConfigError, UserError
from detr_d2.labels.image_decoding import IMAGE_SUFFIXES
from detr_d2.labels.image_reading import read_whole_image, reading_error

#: What a result is written as, by its picture's suffix; all others become PNG.
RESULT_SUFFIXES = {".jpg": ".jpg", ".jpeg": ".jpg"}


class PictureError(UserError, ValueError):
    """A picture can't be read."""


@dataclass(frozen=True)
class FoundPictures:
    """What the inputs of a command line stand for.

    Attributes:
        paths: the pictures in the order of the inputs, each once.
        complaints: for each input that stands for nothing, a sentence that says so.
    """

    paths: list[Path]
    complaints: list[str]


def find_pictures(inputs: Sequence[str]) -> FoundPictures:
    """Looks up files, folders (without the folders in them) and patterns such as ``'site/**/*.jpg'``."""
    found: dict[Path, Path] = {}
    complaints = []
    for entry in inputs:
        paths = _paths_of(os.path.expanduser(entry))
        if not paths:
            complaints.append(_complaint(entry))
        for path in paths:
            found.setdefault(path.resolve(), path)
    return FoundPictures(list(found.values()), complaints)


def _paths_of(entry: str) -> list[Path]:
    path = Path(entry)
    if path.is_dir():
        return sorted(file for file in path.iterdir() if _looks_like_picture(file))
    if path.exists():  # before the pattern: [ and ] may be part of a name
        return [path]
    return sorted(file for file in map(Path, glob.glob(entry, recursive=True)) if _looks_like_picture(file))


def _looks_like_picture(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file()


def _complaint(entry: str) -> str:
    kinds = ", ".join(IMAGE_SUFFIXES)
    if os.path.isdir(os.path.expanduser(entry)):
        return f"{entry}: no picture in this folder ({kinds})."
    if glob.has_magic(entry):
        return f"{entry}: no picture matches this pattern ({kinds}); patterns are relative to {os.getcwd()}."
    return f"{entry}: there is no such file or folder; names are relative to {os.getcwd()}."


def read_picture(path: Path) -> np.ndarray:
    """Reads a picture as Detectron2 does for its predictor, turned as its EXIF orientation says.

    Returns:
        (H, W, 3) uint8, BGR.

    Raises:
        PictureError: the file is empty, cut off, larger than Pillow thinks safe, or no picture.
    """
    try:
        return np.ascontiguousarray(read_whole_image(str(path), "BGR"))
    except Exception as error:  # decoders raise whatever they like on broken files
        raise PictureError(f"{path}: can't be read as a picture: {reading_error(path, error)}.") from error


def result_paths(pictures: Sequence[Path], output: Path) -> list[Path]:
    """Where the result of each picture goes: ``output`` with the picture's name.

    Pictures of one name from several folders get their folders' names in front (``site-a_01.jpg``); where that isn't
    enough, a number behind.

    Args:
        pictures: see :func:`find_pictures`.
        output: a folder, made when the first result is written; or, for one picture alone, a ``.jpg`` or ``.png``.

    Raises:
        ConfigError: ``output`` is a file but no picture's name or stands for several pictures, or a result would
            replace one of the pictures.
    """
    if output.suffix.lower() in (".jpg", ".jpeg", ".png") and not output.is_dir():
        if len(pictures) > 1:
            raise ConfigError(f"--output {output} is one file for {len(pictures)} pictures; name a folder.")
        results = [output]
    elif output.exists() and not output.is_dir():
        raise ConfigError(f"--output {output} is a file; name a folder, or a new .jpg or .png for one picture.")
    else:
        results = [output / name for name in _distinct_names(pictures)]
    sources = {path.resolve() for path in pictures}
    replaced = [path for path in results if path.resolve() in sources]
    if replaced:
        raise ConfigError(f"{replaced[0]} is one of the pictures and would be replaced; name another --output.")
    return results


def _distinct_names(pictures: Sequence[Path]) -> list[str]:
    resolved = [path.resolve() for path in pictures]
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
    """The picture's name with ``depth`` folders' names in front and the suffix of a result."""
    folders = list(path.parts[1:-1])[-depth:] if depth else []
    return "_".join([*folders, path.stem]) + RESULT_SUFFIXES.get(path.suffix.lower(), ".png")


def _count_folded(names: Sequence[str]) -> dict[str, int]:
    """How often each name is there; some file systems take upper for lower case."""
    counts: dict[str, int] = {}
    for name in names:
        counts[name.casefold()] = counts.get(name.casefold(), 0) + 1
    return counts


def numbered_names(names: Sequence[str]) -> list[str]:
    """Names of files, made distinct: the second of a name gets ``_2``, and so on.

    A name that is there already is left to its owner.
    """
    taken = {name.casefold() for name in names}
    used: set[str] = set()
    distinct = []
    for name in names:
        candidate, number = name, 2
        while candidate.casefold() in used or (candidate != name and candidate.casefold() in taken):
            candidate = f"{Path(name).stem}_{number}{Path(name).suffix}"
            number += 1
        used.add(candidate.casefold())
        distinct.append(candidate)
    return distinct
