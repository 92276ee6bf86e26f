"""What is predicted already, one line an image, so that an interrupted run goes on and nothing stays in memory."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from detr_d2.errors import ConfigError
from detr_d2.journal import JournalFile
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


class Journal(JournalFile):
    """The finished images of a folder of results, in the order in which they were finished.

    Args:
        folder: of the results.
        settings: all that results depend on beside the image, by names that a user knows.
        begins_anew: forget what was made with other settings; the files of those results are removed.
        own_paths: files and folders of results in the folder, by the kinds in the setting "write". What is there
            already of a kind that no run before wrote is somebody else's, and isn't replaced.

    Raises:
        ConfigError: the folder has results of other settings, or files of others where results would go; or another
            run is writing there.
    """

    def __init__(
        self,
        folder: Path,
        settings: Mapping[str, Any],
        begins_anew: bool = False,
        own_paths: Mapping[str, Sequence[str]] = MappingProxyType({}),
    ) -> None:
        self._folder, self._known = folder, dict[str, _Known]()
        if not (folder / FILE_NAME).exists():
            self._refuse_files_of_others(settings, {}, own_paths)  # before anything is written
        super().__init__(folder / FILE_NAME)
        try:
            self._begin_or_go_on(settings, begins_anew, own_paths)
        except BaseException:
            self.close()
            raise

    def _begin_or_go_on(
        self, settings: Mapping[str, Any], begins_anew: bool, own_paths: Mapping[str, Sequence[str]]
    ) -> None:
        header = json.dumps(settings, sort_keys=True)
        if self.header == header:
            return self._read()
        before = _settings_of(self.header or "")
        if self.header is not None and not begins_anew:
            self._refuse(before, settings)
        self._refuse_files_of_others(settings, before, own_paths)
        self._read()
        self._remove_results([name for kind in _kinds_of(before) for name in own_paths.get(kind, ())])
        self.begin(header)

    def _read(self) -> None:
        """Looks for finished images."""
        for offset, line in self.lines():
            found = _content_of(line)
            if found and all((self._folder / name).is_file() for name in found[1]["files"]):
                self._note(*found, offset)

    def _note(self, key: str, entry: Entry, offset: int) -> None:
        self._known.pop(entry["stem"], None)
        self._known[entry["stem"]] = _Known(key, entry["source"], offset)

    def _refuse(self, before: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
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
        self, settings: Mapping[str, Any], before: Mapping[str, Any], own_paths: Mapping[str, Sequence[str]]
    ) -> None:
        """A dataset's ground truth may be in ``panoptic/`` as results are."""
        new_kinds = [kind for kind in settings.get("write", ()) if kind not in _kinds_of(before)]
        for path in (self._folder / name for kind in new_kinds for name in own_paths.get(kind, ())):
            if path.is_file() or any(one.is_file() for one in path.rglob("*")):
                raise ConfigError(
                    f"{path} is there already, and not by a run that is noted in {self._folder / FILE_NAME}; results "
                    "might replace it. Name another folder."
                )

    def _remove_results(self, shared: Sequence[str]) -> None:
        own = [name for entry in self.entries() for name in entry["files"]]
        for path in (self._folder / name for name in [*own, *shared]):
            if path.is_file():
                path.unlink()
        self._known.clear()

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
        self._note(key, entry, self.append(json.dumps([key, entry], allow_nan=False).encode()))

    def entries(self) -> Iterator[Entry]:
        """What was noted, read one at a time; of an image that was predicted twice the later one."""
        for line in self.read(known.offset for known in self._known.values()):
            yield json.loads(line)[1]


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


def _kinds_of(settings: Mapping[str, Any]) -> list[str]:
    """The kinds of results that settings name, be they damaged."""
    kinds = settings.get("write")
    return [kind for kind in kinds if isinstance(kind, str)] if isinstance(kinds, list) else []


def _content_of(line: bytes) -> tuple[str, Entry] | None:
    """Key and entry of a line that :meth:`Journal.add` wrote; None of others, and of those that name other files."""
    try:
        key, entry = json.loads(line)
        is_sound = all(is_safe_name(name) for name in entry["files"])
        return (str(key), entry) if is_sound and {"stem", "source"} <= entry.keys() else None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
