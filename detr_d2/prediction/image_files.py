"""Images named on a command line: which they are, and what their results are called."""

from __future__ import annotations

import codecs
import glob
import io
import os
import sys
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath, PurePosixPath

from PIL import UnidentifiedImageError

from detr_d2.errors import ConfigError, UserError
from detr_d2.files import numbered_names, read_at_most, real_path
from detr_d2.labels.archives import IMAGE_SUFFIXES, FileTree, folder_tree, has_image_suffix, zip_tree
from detr_d2.labels.image_reading import open_image
from detr_d2.labels.records import MOST_BYTES, FileRef

#: What a drawing is written as, by its image's suffix; all others become PNG.
RESULT_SUFFIXES = {".jpg": ".jpg", ".jpeg": ".jpg"}
VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".ts", ".mts", ".3gp")
STDIN = "-"


@dataclass(frozen=True)
class FoundImage:
    """An image to be predicted.

    Args:
        file: that holds it.
        name: by which other programs know it: its path in the folder or zip that was named, or its file's name, with
            folders in front where several would have the same.
        stem: of its results' names, no other image's; folders are separated by ``/``.
        content: of the file, where it came through the standard input.
    """

    file: FileRef
    name: str
    stem: str
    content: bytes | None = field(default=None, repr=False)

    def __str__(self) -> str:
        return STDIN if self.content is not None else str(self.file)


@dataclass(frozen=True)
class FoundInputs:
    """What the inputs of a command line stand for.

    Attributes:
        images: in the order of the inputs, each once.
        videos: likewise.
        complaints: for each input that stands for nothing, a sentence that says so.
    """

    images: list[FoundImage]
    videos: list[Path]
    complaints: list[str]


@dataclass(frozen=True)
class _Candidate:
    """A file, so many of whose last folders are in its name, and its bytes if it came through the standard input."""

    file: FileRef
    depth: int = 0
    content: bytes | None = None

    def path(self) -> PurePath:
        return PurePosixPath(self.file.member) if self.file.member else self.file.path.absolute()


def find_inputs(inputs: Sequence[str], leave_out: Collection[Path] = ()) -> FoundInputs:
    """Looks up images, folders with all folders in them, patterns, zips, lists and ``-``, the standard input.

    Args:
        inputs: ``photo.jpg``, ``photos/``, ``'site/**/*.jpg'``, ``photos.zip``, ``list.txt`` or ``@list`` with a path
            on each line, ``-`` for such a list, or for an image.
        leave_out: folders of which nothing is taken for the folders around them or for patterns, as of results.
    """
    found: dict[FileRef, _Candidate] = {}
    videos: dict[Path, None] = {}
    complaints: list[str] = []
    for entry in inputs:
        try:
            for candidate in _candidates(entry, [folder.absolute() for folder in leave_out]):
                if candidate.file.suffix in VIDEO_SUFFIXES and not candidate.file.member:
                    videos.setdefault(candidate.file.path)
                else:
                    key = FileRef(candidate.file.path.absolute(), candidate.file.member)
                    found.setdefault(key, candidate)
        except UserError as error:
            complaints.append(str(error))
    return FoundInputs(_named(list(found.values())), list(videos), complaints)


def _candidates(entry: str, leave_out: Sequence[Path]) -> Iterator[_Candidate]:
    if entry == STDIN:
        content = read_at_most(sys.stdin.buffer, MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise ConfigError(f"-: more than {MOST_BYTES} bytes came through the standard input; name files instead.")
        yield from _of_stdin(content)
        return
    path = Path(os.path.expanduser(entry))
    if path.is_dir():
        yield from _of_tree(folder_tree(path), entry, leave_out)
    elif path.suffix.lower() == ".zip":
        yield from _of_tree(zip_tree(path), entry, ())
    elif path.exists() and path.suffix.lower() != ".txt":  # before the pattern: [ and ] may be part of a name
        yield _Candidate(FileRef(path))
    elif path.exists() or entry.startswith("@"):
        named = path if path.exists() else Path(os.path.expanduser(entry[1:]))
        if not named.exists():
            raise ConfigError(f"{entry}: there is no list {named}; names are relative to {os.getcwd()}.")
        yield from _of_list(FileRef(named).read(), str(named))
    else:
        yield from _of_pattern(entry, leave_out)


def _of_tree(tree: FileTree, entry: str, leave_out: Sequence[Path]) -> Iterator[_Candidate]:
    number = 0
    for name in sorted(tree.files):
        file = tree.files[name]
        if has_image_suffix(name) and not _is_in(file.path, leave_out) and file.path.is_file():  # a pipe never ends
            number += 1
            yield _Candidate(file, len(PurePosixPath(name).parts) - 1)
    if tree.unreadable:
        raise ConfigError(" ".join(tree.unreadable.values()))
    if not number:
        kind = "zip" if tree.path.is_file() else "folder"
        raise ConfigError(f"{entry}: no image in this {kind} ({', '.join(IMAGE_SUFFIXES)}).")


def _is_in(path: Path, folders: Sequence[Path]) -> bool:
    return any(path.absolute().is_relative_to(folder) for folder in folders)


def _of_pattern(entry: str, leave_out: Sequence[Path]) -> Iterator[_Candidate]:
    here = f"relative to {os.getcwd()}"
    paths = sorted(Path(one) for one in glob.glob(os.path.expanduser(entry), recursive=True))
    paths = [path for path in paths if path.suffix.lower() in (*IMAGE_SUFFIXES, *VIDEO_SUFFIXES) and path.is_file()]
    paths = [path for path in paths if not _is_in(path, leave_out)]
    if not paths and glob.has_magic(entry):
        kinds = ", ".join(IMAGE_SUFFIXES)
        raise ConfigError(f"{entry}: no image matches this pattern ({kinds}); patterns are {here}.")
    if not paths:
        raise ConfigError(f"{entry}: there is no such file or folder; names are {here}.")
    yield from (_Candidate(FileRef(path)) for path in paths)


def _of_list(content: bytes, name: str) -> Iterator[_Candidate]:
    """The files that a list names, one a line, relative to the working directory."""
    is_utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))  # as PowerShell's > writes
    text = content.decode("utf-16", "replace") if is_utf16 else content.decode("utf-8-sig", "surrogateescape")
    if "\0" in text:
        raise ConfigError(f"{name}: neither an image nor a list of paths, one on each line.")
    paths = [Path(os.path.expanduser(line)) for line in map(str.strip, text.splitlines()) if line]
    paths = [path for path in paths if not str(path).startswith("#") or path.exists()]
    if not paths:
        raise ConfigError(f"{name}: no path in this list; write one on each line.")
    yield from (_Candidate(FileRef(path)) for path in paths)


def _of_stdin(content: bytes) -> Iterator[_Candidate]:
    if not content.strip():
        raise ConfigError("-: nothing came through the standard input; send an image, or paths.")
    try:
        with open_image(io.BytesIO(content)) as image:
            suffix = (image.format or "png").lower()
    except UnidentifiedImageError:
        yield from _of_list(content, STDIN)
        return
    yield _Candidate(FileRef(Path(f"stdin.{suffix}")), content=content)


def _named(candidates: Sequence[_Candidate]) -> list[FoundImage]:
    """The images with their names: of those that would have one name, so many more folders that they differ."""
    paths = [candidate.path() for candidate in candidates]
    depths = [candidate.depth for candidate in candidates]
    deepest = max((len(path.parts) for path in paths), default=0)
    for _ in range(deepest):
        names = [_last_parts(path, depth) for path, depth in zip(paths, depths)]
        counts = Counter(name.casefold() for name in names)
        if max(counts.values(), default=1) == 1:
            break
        depths = [depth + (counts[name.casefold()] > 1) for name, depth in zip(names, depths)]
    names = [_last_parts(path, depth) for path, depth in zip(paths, depths)]
    stems = numbered_names([str(PurePosixPath(name).with_suffix("")) for name in names])
    return [FoundImage(c.file, name, stem, c.content) for c, name, stem in zip(candidates, names, stems)]


def _last_parts(path: PurePath, depth: int) -> str:
    folders = [part for part in path.parts[:-1] if part != path.anchor and part != ".."]
    return PurePosixPath(*folders[len(folders) - depth if depth < len(folders) else 0 :], path.name).as_posix()


def drawing_name(image: FoundImage) -> str:
    """What an image's drawing is called: its name, as a JPEG or a PNG."""
    return image.stem + RESULT_SUFFIXES.get(PurePosixPath(image.name).suffix.lower(), ".png")


def drawing_paths(images: Sequence[FoundImage], output: Path, option: str = "--output") -> list[Path]:
    """Where the drawing of each image goes: ``output`` with the image's name.

    Args:
        images: see :func:`find_inputs`.
        output: a folder, made when the first result is written; or, for one image alone, a ``.jpg`` or ``.png``.
        option: what names ``output`` on the command line.

    Raises:
        ConfigError: ``output`` is a file but no image's name or stands for several images, or a drawing would replace
            one of the images.
    """
    if output.suffix.lower() in (".jpg", ".jpeg", ".png") and not output.is_dir():
        if len(images) > 1:
            raise ConfigError(f"{option} {output} is one file for {len(images)} images; name a folder.")
        drawings = [output]
    elif output.exists() and not output.is_dir():
        raise ConfigError(f"{option} {output} is a file; name a folder, or a new .jpg or .png for one image.")
    else:
        drawings = [output / drawing_name(image) for image in images]
    sources = {real_path(image.file.path) for image in images}
    replaced = [path for path in drawings if real_path(path) in sources]
    if replaced:
        raise ConfigError(f"{replaced[0]} is one of the images and would be replaced; name another {option}.")
    return drawings
