"""A fixed copy of a dataset: written beside, checked until it has no errors, and put into its place then."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from detr_d2.data.registration import entry_of
from detr_d2.errors import DatasetError
from detr_d2.folders import folder_beside
from detr_d2.labels.rules.images import ListedImage
from detr_d2.labels.rules.json_files import PARTS, objects_of, read_json_file
from detr_d2.labels.rules.rule import Change, Fault
from detr_d2.labels.rules.splits import find_leaks
from detr_d2.labels.values import is_id, numbered

from .dataset import Progress, dataset_faults, splits_of
from .repairing import Copier, Target, plan, write_json, write_register
from .report import ChangeLog, Findings
from .sources import Sources

CHANGES = "changes.csv"
#: Rounds of checking and leaving out; each leaves out everything that the one before found.
_MOST_ROUNDS = 6


def fix_dataset(
    dataset: Sources,
    out: str,
    root: str | None = None,
    kept: int = 5,
    workers: int = 1,
    progress: Progress = lambda results, count: results,
) -> tuple[ChangeLog, Findings]:
    """Write a copy of a dataset that has no errors left; the original stays as it is.

    What is wrong is fixed where what was meant is beyond doubt; otherwise the label, or the image with all its
    labels, isn't part of the copy. Warnings that only a person can decide about remain. ``out`` is there whole or not
    at all, and holds ``changes.csv`` with everything that was changed.

    Args:
        dataset: of COCO's JSON files.
        out: a folder that isn't there yet, or is empty.
        root: folder of the dataset: what lies in it keeps its place.
        kept: changes of each kind that the log keeps for its table.
        workers: processes that read and write images.
        progress: shows how far the images are.

    Returns:
        What was changed, and the warnings that remain.

    Raises:
        DatasetError: ``out`` holds something, can't be written, or nothing of the dataset would be left.
    """
    refuse_taken(out)
    try:
        with folder_beside(_absolute(out)) as partial:
            with open(partial / CHANGES, "w", encoding="utf-8", newline="", errors="backslashreplace") as file:
                log = ChangeLog(file, kept, root or os.curdir)
                copier = Copier(partial, log, workers, progress)
                leftover = _Leftover(dataset, filter(copier.copy, plan(dataset, root)), partial, log, workers)
                findings = leftover.remove() if leftover.targets else Findings(kept)
            if not leftover.targets:
                reasons = "\n  ".join(f"{change.file}: {change.code}: {change.done}" for change in log.removals()[:5])
                raise DatasetError(f"nothing of the dataset can be fixed, so there is no copy:\n  {reasons}")
            if dataset.names:
                write_register(partial, dataset, leftover.targets)
    except OSError as error:
        raise _unwritable(out, error) from error
    return log, findings


def refuse_taken(out: str) -> None:
    """See that a folder isn't there yet, or is empty, and can be made.

    Raises:
        DatasetError: it holds something, is something else, or the system refuses it.
    """
    folder = _absolute(out)
    try:
        if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
            raise DatasetError(f"{out} is there and isn't a folder; name another one for --fix.")
        if folder.is_dir() and any(folder.iterdir()):
            raise DatasetError(f"{out} holds files already, and stays as it is; name a new folder for --fix.")
        with folder_beside(folder, is_kept=False):
            pass
    except OSError as error:
        raise _unwritable(out, error) from error


def refuse_inside(out: str, folders: Iterable[str], report: str | None = None) -> None:
    """Raises a DatasetError where a copy would lie in one of the folders that are read, or a report in the copy."""
    target = os.path.realpath(_absolute(out))
    for folder in folders:
        if _is_below(target, os.path.realpath(folder)):
            raise DatasetError(
                f"{out} lies in {folder}, which is read, and would become part of it; "
                "name a folder elsewhere for --fix."
            )
    if report and report != "-" and _is_below(os.path.realpath(report), target):
        raise DatasetError(f"--json {report} lies in {out}, which has to be a new folder; name another file.")


def _is_below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(os.path.join(folder, ""))


def _absolute(out: str) -> Path:
    return Path(os.path.abspath(os.path.expanduser(out)))


def _unwritable(out: str, error: OSError) -> DatasetError:
    return DatasetError(f"{out} can't be written: {error.strerror or error}. Nothing is there; name another folder.")


class _Leftover:
    """A copy that is made right by leaving things out: errors that nothing fixes, and images of two splits.

    ``targets`` are the JSONs of the copy of which something is left; ``log`` gets what was left out.
    """

    def __init__(self, dataset: Sources, targets: Iterable[Target], folder: Path, log: ChangeLog, workers: int) -> None:
        self.targets = [*targets]
        self._dataset, self._folder, self._log, self._workers = dataset, folder, log, workers

    def remove(self) -> Findings:
        """Leave out what is wrong until a check finds no error, and return what the last one found: warnings.

        Raises:
            DatasetError: errors remain.
        """
        near = self._remove_leaks()
        self._remove_what_others_lack()
        for _ in range(_MOST_ROUNDS):
            findings = Findings(1)
            found = {target.json_file: self._faults(target, findings) for target in self.targets}
            if not findings.errors:
                if any(self._content(target)["annotations"] for target in self.targets):
                    self._sweep()
                    return findings.take(near)
                files = [target.source.json_file for target in self.targets]
                self._log.add(_removal("json-empty", file, "no label is left in it") for file in files)
                self.targets = []
                return findings
            self._remove(found)
            self._remove_what_others_lack()
        raise DatasetError("errors remain that nothing fixes, so there is no copy; 'detr-d2 check' names them.")

    def _faults(self, target: Target, findings_: Findings) -> list[Fault]:
        """The errors of a JSON; another file of the dataset may have labels, if it has none."""
        faults = dataset_faults(Sources((target.in_folder(self._folder),)), workers=self._workers)
        found = [fault for fault in faults if fault.code != "json-empty"]
        findings_.take(found)
        return [fault for fault in found if fault.severity == "error"]

    def _remove_leaks(self) -> list[Fault]:
        """Leave images out of training that are held out, too; returns what only looks like one."""
        listed = {
            target.source.json_file: [
                ListedImage(entry["id"], os.path.join(self._folder, target.images, entry["file_name"]))
                for entry in self._content(target)["images"]
            ]
            for target in self.targets
            if target.images
        }
        files = {target.source.json_file: target.json_file for target in self.targets}
        near: list[Fault] = []
        leaks: dict[str, list[Fault]] = {}
        for file, leak in find_leaks(splits_of(self._dataset, listed), workers=self._workers):
            (leaks.setdefault(files[file], []) if leak.rule.code == "split-leak" else near).append(leak.fault())
        self._remove(leaks)
        return near

    def _remove(self, faults: dict[str, list[Fault]]) -> None:
        """Leave out what faults are about, by JSON of the copy, and the JSONs of which nothing is left then."""
        self.targets = [one for one in self.targets if self._removed(one, faults.get(one.json_file, ()))]

    def _removed(self, target: Target, faults: Iterable[Fault]) -> bool:
        """Leave out what the faults are about; False where that is the whole JSON, or nothing is left of it."""
        images: set[Any] = set()
        labels: set[tuple[Any, Any]] = set()
        for found in faults:
            ids = found.image_id, found.segment_id
            self._log.add([Change("removed", found.code, found.file, *ids, found.message)])
            if found.image_id is None:
                return False
            if found.segment_id is None:
                images.add(found.image_id)
            else:
                labels.add(ids)
        return not (images or labels) or self._rewrite(target, images, labels)

    def _rewrite(self, target: Target, images: set[Any], labels: set[tuple[Any, Any]]) -> bool:
        """A JSON without some images, and labels as (image, label); False where no label is left."""
        content, gone = self._content(target), {*images}
        annotations = []
        for entry in content["annotations"]:
            if "segments_info" in entry:
                if any((entry["image_id"], segment["id"]) in labels for segment in entry["segments_info"]):
                    gone.add(entry["image_id"])  # its PNG has pixels that nobody would list
            elif (entry["image_id"], entry["id"]) in labels:
                continue
            annotations.append(entry)
        content["images"] = [entry for entry in content["images"] if entry["id"] not in gone]
        content["annotations"] = [entry for entry in annotations if entry["image_id"] not in gone]
        write_json(self._folder / target.json_file, content)
        return bool(content["images"] and content["annotations"])

    def _remove_what_others_lack(self) -> None:
        """Panoptic images and instances of one dataset stay together: what one of them lost, the other leaves out."""
        by_original = {target.source.json_file: target for target in self.targets}
        for entry in filter(None, map(entry_of, self._dataset.names)):
            first, second = by_original.get(entry.panoptic_json), by_original.get(entry.instances_json)
            for one, other in ((first, second), (second, first)):
                if one is None or other is None:
                    continue
                lost = _ids(read_json_file(one.source.json_file).content) - _ids(self._content(one))
                shared = lost & _ids(self._content(other))
                text = f"left out, as {os.path.basename(one.json_file)} lost this image"
                file = other.source.json_file
                self._log.add(_removal("image-missing", file, text, image_id) for image_id in sorted(shared, key=str))
                if shared:
                    self._rewrite(other, shared, set())

    def _content(self, target: Target) -> dict[str, Any]:
        content = read_json_file(str(self._folder / target.json_file)).content
        if content is None or not all(isinstance(content.get(key), list) for key in PARTS):
            raise DatasetError(f"{target.json_file} of the copy can't be read back; there is no copy.")
        return content

    def _sweep(self) -> None:
        """Delete images and PNGs of the copy that no JSON names any more."""
        named: set[str] = {str(self._folder / CHANGES)}
        for target in self.targets:
            named.add(str(self._folder / target.json_file))
            content = self._content(target)
            for place, key in ((target.images, "images"), (target.panoptic_root, "annotations")):
                if place:
                    names = [entry.get("file_name") for entry in content[key]]
                    named |= {os.path.normpath(os.path.join(self._folder, place, name)) for name in names if name}
        for path in self._folder.rglob("*"):
            if path.is_file() and str(path) not in named:
                path.unlink()


def _removal(code: str, file: str, text: str, image_id: Any = None) -> Change:
    return Change("removed", code, file, image_id, None, text)


def _ids(content: dict[str, Any] | None) -> set[Any]:
    entries = numbered(objects_of(content or {}, "images"))
    return {entry["id"] for _, entry in entries if is_id(entry.get("id"))}
