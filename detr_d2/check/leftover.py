"""What is still wrong in a copy is left out of it: errors that nothing fixes, and images of two splits."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from detr_d2.data.registration import entry_of
from detr_d2.errors import DatasetError
from detr_d2.labels.rules.images import ListedImage
from detr_d2.labels.rules.json_files import JSON_EMPTY, PARTS, objects_of, read_json_file
from detr_d2.labels.rules.names import IMAGE_MISSING
from detr_d2.labels.rules.rule import Change, Fault, Finding, Rule
from detr_d2.labels.rules.splits import SPLIT_LEAK, find_leaks
from detr_d2.labels.values import is_id, numbered

from .dataset import dataset_faults, splits_of
from .repairing import Target, write_json
from .report import ChangeLog, Findings
from .sources import Sources

#: Rounds of checking and leaving out; each leaves out everything that the one before found.
_MOST_ROUNDS = 6

#: Ids of images, and of single labels as (image, label), that have to go from a JSON.
Doomed = tuple[set[Any], set[tuple[Any, Any]]]


def remove_leftover(
    dataset: Sources, targets: Sequence[Target], folder: Path, log: ChangeLog, workers: int
) -> tuple[list[Target], Findings]:
    """Leave out what is wrong until a check finds no error.

    Args:
        dataset: the original.
        targets: JSONs of the copy.
        folder: of the copy.
        log: gets what was left out.
        workers: processes that look at images.

    Returns:
        The JSONs of which something is left, and what the last check found: warnings.

    Raises:
        DatasetError: errors remain.
    """
    left = [*targets]
    near = _remove_leaks(dataset, left, folder, log, workers)
    _remove_what_others_lack(dataset, left, folder, log)
    for _ in range(_MOST_ROUNDS):
        findings = Findings(1)
        found = {target.json_file: _errors(target, folder, workers, findings) for target in left}
        if not findings.errors:
            if not any(_content(target, folder)["annotations"] for target in left):
                log.add(_removal(JSON_EMPTY, target.source.json_file, "no label is left in it") for target in left)
                return [], findings
            for leak in near:
                findings.add(leak.fault())
            _sweep(left, folder)
            return left, findings
        for target in [*left]:
            if found[target.json_file] and not _remove(target, folder, found[target.json_file], log):
                left.remove(target)
        _remove_what_others_lack(dataset, left, folder, log)
    raise DatasetError("errors remain that nothing fixes, so there is no copy; 'detr-d2 check' names them.")


def _removal(rule: Rule, file: str, text: str, image_id: Any = None) -> Change:
    return Change("removed", rule.code, file, image_id, None, text)


def _errors(target: Target, folder: Path, workers: int, findings_: Findings) -> list[Fault]:
    errors = []
    for found in dataset_faults(Sources((target.in_folder(folder),)), workers=workers):
        if found.code == JSON_EMPTY.code:
            continue  # another file of the dataset may have labels
        findings_.add(found)
        errors += [found] if found.severity == "error" else []
    return errors


def _remove_leaks(dataset: Sources, left_: list[Target], folder: Path, log: ChangeLog, workers: int) -> list[Finding]:
    """Leave images out of training that are held out, too; returns what only looks like one."""
    by_original = {target.source.json_file: target for target in left_}
    listed = {
        file: [
            ListedImage(entry["id"], 0, 0, os.path.join(folder, target.images, entry["file_name"]))
            for entry in _content(target, folder)["images"]
        ]
        for file, target in by_original.items()
        if target.images
    }
    near: list[Finding] = []
    leaks: dict[str, list[Fault]] = {}
    for file, leak in find_leaks(splits_of(dataset, listed), workers=workers):
        if leak.rule is SPLIT_LEAK:
            leaks.setdefault(file, []).append(leak.fault())
        else:
            near.append(leak)
    for file, found in leaks.items():
        if not _remove(by_original[file], folder, found, log):
            left_.remove(by_original[file])
    return near


def _remove(target: Target, folder: Path, faults: Iterable[Fault], log: ChangeLog) -> bool:
    """Leave out what the faults are about; False where that is the whole JSON, or nothing is left of it."""
    images: set[Any] = set()
    labels: set[tuple[Any, Any]] = set()
    for found in faults:
        log.add([Change("removed", found.code, found.file, found.image_id, found.segment_id, found.message)])
        if found.image_id is None:
            return False
        if found.segment_id is None:
            images.add(found.image_id)
        else:
            labels.add((found.image_id, found.segment_id))
    return _without(target, folder, (images, labels))


def _without(target: Target, folder: Path, doomed: Doomed) -> bool:
    """Rewrite a JSON without some images and labels; False where no label is left."""
    images, labels = doomed
    content = _content(target, folder)
    annotations = []
    emptied: set[Any] = set()
    for entry in content["annotations"]:
        if "segments_info" in entry:
            segments = entry["segments_info"]
            entry["segments_info"] = [each for each in segments if (entry["image_id"], each["id"]) not in labels]
            if len(entry["segments_info"]) < len(segments):
                emptied.add(entry["image_id"])  # its PNG has pixels that nobody lists now
        elif (entry["image_id"], entry["id"]) in labels:
            continue
        annotations.append(entry)
    gone = images | emptied
    content["images"] = [entry for entry in content["images"] if entry["id"] not in gone]
    content["annotations"] = [entry for entry in annotations if entry["image_id"] not in gone]
    write_json(folder / target.json_file, content)
    return bool(content["images"] and content["annotations"])


def _remove_what_others_lack(dataset: Sources, targets: list[Target], folder: Path, log: ChangeLog) -> None:
    """Panoptic images and instances of one dataset stay together: what one of them lost, the other leaves out."""
    by_original = {target.source.json_file: target for target in targets}
    for entry in filter(None, map(entry_of, dataset.names)):
        pair = [by_original.get(entry.panoptic_json), by_original.get(entry.instances_json)]
        if not all(pair):
            continue
        for one, other in (pair, pair[::-1]):
            assert one is not None and other is not None
            lost = _ids(read_json_file(one.source.json_file).content) - _ids(_content(one, folder))
            shared = lost & _ids(_content(other, folder))
            if shared:
                for image_id in sorted(shared, key=str):
                    text = f"left out, as {os.path.basename(one.json_file)} lost this image"
                    log.add([_removal(IMAGE_MISSING, other.source.json_file, text, image_id)])
                _without(other, folder, (shared, set()))


def _ids(content: dict[str, Any] | None) -> set[Any]:
    entries = numbered(objects_of(content or {}, "images"))
    return {entry["id"] for _, entry in entries if is_id(entry.get("id"))}


def _content(target: Target, folder: Path) -> dict[str, Any]:
    content = read_json_file(str(folder / target.json_file)).content
    if content is None or not all(isinstance(content.get(key), list) for key in PARTS):
        raise DatasetError(f"{target.json_file} of the copy can't be read back; there is no copy.")
    return content


def _sweep(targets: Sequence[Target], folder: Path) -> None:
    """Delete images and PNGs of the copy that no JSON names any more."""
    named: set[str] = {str(folder / target.json_file) for target in targets} | {str(folder / "changes.csv")}
    for target in targets:
        content = _content(target, folder)
        for place, key in ((target.images, "images"), (target.panoptic_root, "annotations")):
            if place:
                names = [entry.get("file_name") for entry in content[key]]
                named |= {os.path.normpath(os.path.join(folder, place, name)) for name in names if name}
    for path in folder.rglob("*"):
        if path.is_file() and str(path) not in named:
            path.unlink()
