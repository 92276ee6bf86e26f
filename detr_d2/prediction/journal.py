"""What is predicted already, one line an image, so that an interrupted run goes on and nothing stays in memory."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO, NamedTuple

from detr_d2.errors import ConfigError
from detr_d2.files import line_content, sealed_line, write_text
from detr_d2.labels.archives import is_safe_name
from detr_d2.labels.records import FileRef
from detr_d2.prediction.image_files import FoundImage

FILE_NAME = "journal.jsonl"

Entry = dict[str, Any]


def image_key(image: FoundImage) -> str:
    """Names an image's file in the state that it is in, and what its results are called; another key, other results."""
    digest = hashlib.sha256(f"{image.name}\n{image.stem}\n{image.file}".encode("utf-8", "surrogatepass"))
    if image.content is not None:
        digest.update(image.content)
        return digest.hexdigest()[:32]
    try:
        state = image.file.path.stat()
    except OSError:  # reading it says what is wrong
        return digest.hexdigest()[:32]
    digest.update(f"{state.st_size}:{state.st_mtime_ns}".encode())
    return digest.hexdigest()[:32]


class _Known(NamedTuple):
    """Of a finished image, by its stem: its key, the file that it is in, and where its line begins."""

    key: str
    source: str
    offset: int


class Journal:
    """The finished images of a folder of results, in the order in which they were finished.

    Args:
        folder: of the results.
        settings: all that results depend on beside the image, by names that a user knows.
        begins_anew: forget what was made with other settings; the files of those results are removed.
        own_paths: files and folders of results in the folder, by the kinds in the setting "write". What is there
            already of a kind that no run before wrote is somebody else's, and isn't replaced.

    Raises:
        ConfigError: the folder has results of other settings, or files of others where results would go.
    """

    def __init__(
        self,
        folder: Path,
        settings: Mapping[str, Any],
        begins_anew: bool = False,
        own_paths: Mapping[str, Sequence[str]] = MappingProxyType({}),
    ) -> None:
        self._path = folder / FILE_NAME
        self._folder = folder
        self._known: dict[str, _Known] = {}
        header, own_kinds = json.dumps(settings, sort_keys=True), list[str]()
        if self._path.is_file():
            with self._path.open("rb") as file:
                known = file.readline().decode("utf-8", "replace").rstrip("\n")
            own_kinds = _kinds_of(known)
            if known == header:
                self._read()
            elif begins_anew:
                self._refuse_files_of_others(settings, own_kinds, own_paths)
                self._remove_results([name for kind in own_kinds for name in own_paths.get(kind, ())])
            else:
                self._refuse(known, settings)
        else:
            self._refuse_files_of_others(settings, own_kinds, own_paths)
        folder.mkdir(parents=True, exist_ok=True)
        if not self._path.is_file():
            write_text(self._path, header + "\n")
        self._file: BinaryIO = self._path.open("r+b")
        self._file.seek(0, os.SEEK_END)

    def _read(self) -> None:
        """Looks for finished images whose files are there; a line that broke off when a run ended is cut away.

        A line that was changed is passed over, and its image predicted again.
        """
        with self._path.open("r+b") as file:
            offset = len(file.readline())
            for line in file:
                if not line.endswith(b"\n"):
                    break
                found = _content_of(line)
                if found and all((self._folder / name).is_file() for name in found[1]["files"]):
                    self._note(*found, offset)
                offset += len(line)
            file.truncate(offset)

    def _note(self, key: str, entry: Entry, offset: int) -> None:
        self._known.pop(entry["stem"], None)
        self._known[entry["stem"]] = _Known(key, entry["source"], offset)

    def _refuse(self, known: str, settings: Mapping[str, Any]) -> None:
        before = _settings_of(known)
        names = dict.fromkeys([*settings, *before]) if before else ()  # --tile is one that may be in either alone
        changed = [name for name in names if before.get(name) != settings.get(name)]
        shown = ", ".join(
            f"{name} was {_shown(before.get(name))}, now {_shown(settings.get(name))}" for name in changed
        )
        raise ConfigError(
            f"{self._folder} has results of other settings ({shown or 'its journal can not be read'}). "
            "Name another folder, or add --overwrite to replace them."
        )

    def _refuse_files_of_others(
        self, settings: Mapping[str, Any], own_kinds: Sequence[str], own_paths: Mapping[str, Sequence[str]]
    ) -> None:
        """A dataset's ground truth may be in ``panoptic/`` as results are."""
        new_kinds = [kind for kind in settings.get("write", ()) if kind not in own_kinds]
        for path in (self._folder / name for kind in new_kinds for name in own_paths.get(kind, ())):
            if path.is_file() or any(one.is_file() for one in path.rglob("*")):
                raise ConfigError(
                    f"{path} is there already, and not by a run that is noted in {self._path}; results might "
                    "replace it. Name another folder."
                )

    def _remove_results(self, names: Sequence[str]) -> None:
        self._read()
        for entry in self.entries():
            for name in entry["files"]:
                (self._folder / name).unlink(missing_ok=True)
        for path in (self._folder / name for name in names):
            if path.is_file():
                path.unlink()
        self._known.clear()
        self._path.unlink()

    def has(self, image: FoundImage) -> bool:
        """Whether an image is finished, and its file is still as it was then.

        Raises:
            ConfigError: the folder has a result of this name, of another image.
        """
        known = self._known.get(image.stem)
        if known is None:
            return False
        if known.source != _source(image):
            raise ConfigError(
                f"{self._folder} has results called {image.stem} already, of {known.source}; those of {image} would "
                "replace them. Name another folder, or predict both in one run."
            )
        return known.key == image_key(image)

    def knows(self, image: FoundImage) -> bool:
        """Whether a run before wrote results of this name, be it of an image that has changed since."""
        return image.stem in self._known

    def __len__(self) -> int:
        return len(self._known)

    def add(self, image: FoundImage, entry: Entry) -> None:
        """Notes an image whose files are there.

        Args:
            image: that is finished.
            entry: plain data; "files" are the names of the image's own files in the folder.
        """
        key, entry = image_key(image), {**entry, "stem": image.stem, "source": _source(image)}
        self._note(key, entry, self._file.tell())
        self._file.write(sealed_line(json.dumps([key, entry], allow_nan=False).encode()))
        self._file.flush()

    def entries(self) -> Iterator[Entry]:
        """What was noted, read one at a time; of an image that was predicted twice the later one."""
        with self._path.open("rb") as file:
            for known in self._known.values():
                file.seek(known.offset)
                found = _content_of(file.readline())
                if found is None:
                    raise ConfigError(f"{self._path} was changed while it was in use. Run the same command again.")
                yield found[1]

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def _source(image: FoundImage) -> str:
    return str(image) if image.content is not None else str(FileRef(image.file.path.absolute(), image.file.member))


def _shown(value: Any) -> str:
    """A setting for people: without what float32 adds, and of values that are the same for all classes one."""
    if value is None or value == []:
        return "not set"
    if isinstance(value, list):
        shown = [_shown(one) for one in value]
        return ",".join(shown[:1] if len(set(shown)) == 1 else shown)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _settings_of(header: str) -> dict[str, Any]:
    """What a journal's first line says; nothing where it is damaged."""
    try:
        settings = json.loads(header)
    except (ValueError, RecursionError):
        return {}
    return settings if isinstance(settings, dict) else {}


def _kinds_of(header: str) -> list[str]:
    """The kinds of results that a journal's first line names."""
    kinds = _settings_of(header).get("write")
    return [kind for kind in kinds if isinstance(kind, str)] if isinstance(kinds, list) else []


def _content_of(line: bytes) -> tuple[str, Entry] | None:
    """Key and entry of a line that :meth:`Journal.add` wrote; None of others, and of those that name other files."""
    content = line_content(line)
    if content is None:
        return None
    try:
        key, entry = json.loads(content)
        is_sound = all(is_safe_name(name) for name in entry["files"])
        return (str(key), entry) if is_sound and {"stem", "source"} <= entry.keys() else None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
