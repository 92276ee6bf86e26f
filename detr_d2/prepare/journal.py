"""The work in progress: its folder, for one run at a time, and the images that are finished.

They are kept a line each, so that an interrupted run can go on with them.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from detr_d2.errors import StoppedError, UserError, os_error_message
from detr_d2.folders import folder_beside
from detr_d2.journal import JournalFile, lock
from detr_d2.labels.records import Note

from .drawing import Segment


class WritingError(StoppedError):
    """The dataset's folder can't be written."""


@dataclass(frozen=True)
class ImageResult:
    """An image that was prepared, or why it wasn't: then ``skipped`` is a short code and ``why`` a sentence.

    Args:
        name: ``<export>/<name>``.
        file_name, png: below ``images/`` and ``panoptic/``.
        width, height: in pixels, upright.
        sizes: bytes of the two files, to know them again.
        look: the perceptual hash.
        segments: from the first label to the last piece of stuff.
        dropped: labels that didn't become a segment of their own: class as the export has it, and a short word.
        notes: what was changed or left out.
        overlaps: pairs of label ids that share pixels, with their number; where overlaps are errors.
    """

    name: str
    file_name: str = ""
    png: str = ""
    width: int = 0
    height: int = 0
    sizes: tuple[int, int] = (0, 0)
    look: int = 0
    segments: tuple[Segment, ...] = ()
    dropped: tuple[tuple[str, str], ...] = ()
    notes: tuple[Note, ...] = ()
    skipped: str = ""
    why: str = ""
    overlaps: tuple[tuple[int, int, int], ...] = ()

    def to_json(self) -> str:
        """One line."""
        return json.dumps(asdict(self), separators=(",", ":"))


def _result_from_json(line: str) -> ImageResult:
    """What :meth:`ImageResult.to_json` wrote; ValueError: it is something else, such as a line that was cut off."""
    try:
        content: dict[str, Any] = json.loads(line)
        content["segments"] = tuple(Segment(**{**one, "bbox": tuple(one["bbox"])}) for one in content["segments"])
        content["notes"] = tuple(Note(**one) for one in content["notes"])
        content["sizes"] = tuple(content["sizes"])
        for key in ("dropped", "overlaps"):
            content[key] = tuple(map(tuple, content[key]))
        return ImageResult(**content)
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"not a prepared image: {error}") from error


class Journal(JournalFile):
    """Prepared images, one line each, in the order in which they were finished.

    Args:
        folder: of the work in progress: ``journal.jsonl``, and ``data/``, which becomes the dataset.
        context: names everything that all images depend on; what was prepared otherwise is thrown away.
    """

    def __init__(self, folder: Path, context: str) -> None:
        super().__init__(folder / "journal.jsonl")
        self.data = folder / "data"
        header = hashlib.sha256(context.encode("utf-8", "surrogatepass")).hexdigest()
        if self.header != header:
            shutil.rmtree(self.data, ignore_errors=True)
            self.begin(header)
        self.data.mkdir(exist_ok=True)
        lines = ((offset, content.partition(b" ")) for offset, content in self.lines())
        self._offsets = {key.decode("ascii", "replace"): at for at, (key, _, result) in lines if self._is_whole(result)}

    def _is_whole(self, content: bytes) -> bool:
        """Whether an image needn't be prepared again; what failed is tried anew, as what made it fail may be gone."""
        try:
            result = _result_from_json(content.decode())
        except ValueError:
            return False
        paths = (self.data / "images" / result.file_name, self.data / "panoptic" / result.png)
        try:
            return not result.skipped and result.sizes == tuple(path.stat().st_size for path in paths)
        except OSError:
            return False

    def __contains__(self, key: str) -> bool:
        return key in self._offsets

    def add(self, key: str, result: ImageResult) -> None:
        """Notes an image whose files are there."""
        self._offsets[key] = self.append(f"{key} {result.to_json()}".encode())

    def results(self, keys: Sequence[str]) -> Iterator[ImageResult]:
        """The images of the keys, in their order, read one at a time."""
        for line in self.read(self._offsets[key] for key in keys):
            yield _result_from_json(line.partition(b" ")[2].decode())


@dataclass
class Work:
    """The folder of the work in progress, and whether nothing of an earlier run with other options is in it."""

    folder: Path
    is_ours: bool


@contextmanager
def work_folder(target: Path) -> Iterator[Work]:
    """The folder of the work in progress beside ``target``, for one run at a time.

    It stays where the run is stopped from outside, so that the same command can go on. A run that is refused leaves
    nothing, but for what an earlier one with other options had left.

    Raises:
        ConfigError: another run works there.
        WritingError: something can't be written.
        KeyboardInterrupt: with a sentence that says how to go on.
    """
    folder = _partial_of(target)
    goes_on = f"The same command again goes on where it stopped; what is finished is in {folder} until then."
    above = [parent for parent in target.parents if not parent.exists()]
    work = Work(folder, is_ours=not folder.exists())
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with (folder / "lock").open("w") as file:
            lock(file, f"another 'detr-d2 prepare' is writing {target}; wait for it to end.")
            try:
                yield work
            except (StoppedError, KeyboardInterrupt):
                raise
            except UserError:
                if work.is_ours:
                    shutil.rmtree(folder, ignore_errors=True)
                    for parent in above:
                        with suppress(OSError):  # something else is there now
                            parent.rmdir()
                raise
    except OSError as error:
        if isinstance(error, UserError):
            raise
        raise WritingError(f"{os_error_message(error)} {goes_on}") from error
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"interrupted. {goes_on}") from None


def refuse_unwritable(target: Path) -> None:
    """Sees that a dataset's folder can be made, before anything is read; OSError: what the system has against it."""
    work = _partial_of(target)
    if not work.is_dir():
        with folder_beside(work, is_kept=False):
            pass


def _partial_of(target: Path) -> Path:
    return target.parent / f".{target.name}.partial"
