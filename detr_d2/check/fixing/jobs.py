"""One picture of a repaired copy, with its labels, in whatever process."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..faults import shown
from ..images import ListedPicture
from .changes import Change, mended, removed
from .labels import PictureLabels
from .objects import ObjectMender, sizes_of_masks
from .pictures import Incurable, Plan, changes_of, look, said_size, settle, size_code, write_picture
from .pngs import Png, fit_png, read_png, write_png
from .segments import SegmentMatcher, json_only_segments

Entry = dict[str, Any]


@dataclass(frozen=True)
class Job:
    """A picture to be mended.

    Args:
        entry: of ``images``; its id and name are right.
        labels: on it; which ones, and of what, is right. None: nothing is labelled on it.
        is_panoptic: the labels are segments of a PNG.
        file: the JSON, for messages.
        picture: the original's file, or None where it isn't known.
        picture_target: file of the copy.
        earlier: plan by which another JSON of the dataset has put this picture there, and its name then.
        png, png_target: likewise.
        keeps_unlabelled: the picture stays even where all its labels are wrong.
    """

    entry: Entry
    labels: PictureLabels | None
    is_panoptic: bool
    file: str
    picture: str | None = None
    picture_target: Path | None = None
    earlier: tuple[Plan, str] | None = None
    png: str | None = None
    png_target: Path | None = None
    keeps_unlabelled: bool = False


@dataclass
class Done:
    """What became of it.

    Args:
        entry: of ``images`` in the copy, or None where the picture is left out.
        annotation: of a panoptic JSON, or None.
        labels: annotations of COCO instances.
        plan: for the picture, or None where none was written.
        changes: what was changed.
    """

    entry: Entry | None = None
    annotation: Entry | None = None
    labels: list[Entry] = field(default_factory=list)
    plan: Plan | None = None
    changes: list[Change] = field(default_factory=list)


def mend_picture(job: Job) -> Done:
    """Mend one picture, its PNG and its labels, and write the files.

    Raises:
        OSError: they can't be written.
    """
    done = Done()
    try:
        _mend(job, done)
    except Incurable as reason:
        code, why = reason.args
        count = job.labels.count if job.labels else 0
        also = f"; its {count} labels, too" if count else ""
        name = shown(job.entry["file_name"])
        path = job.png if code.startswith("png") and job.png else job.picture or job.file
        note = removed(code, path, f"{name} {why}{also}", job.entry["id"])
        return Done(changes=[*done.changes, note])
    return done


def _mend(job: Job, done_: Done) -> None:
    image_id = job.entry["id"]
    seen = look(job.picture) if job.picture else None
    png = read_png(job.png, [segment.get("id") for segment in _labels(job)]) if job.png and job.labels else None
    masks = {png.size} if png else set() if job.is_panoptic else sizes_of_masks(_labels(job))
    said = said_size(job.entry)
    plan, code = settle(said, seen, masks)
    code = code if said is not None or plan.as_stored or plan.resized else size_code(job.entry)
    entry = {**job.entry, "width": plan.size[0], "height": plan.size[1]}
    if seen is not None and not (job.earlier and job.earlier[0] == plan and not plan.is_copy):
        done_.changes += [mended(*change, image_id) for change in _with_file(changes_of(plan, seen, code), job)]
    elif code and seen is None:
        text = f"width and height are {plan.size[0]} and {plan.size[1]} now, those of its labels"
        done_.changes.append(mended(code, job.file, text, image_id))
    listed = ListedPicture(image_id, *plan.size, job.picture)
    if job.is_panoptic and job.labels is not None:
        _mend_segments(job, png, listed, done_)
    else:
        mender = ObjectMender(job.file, listed)
        done_.labels = [label for each in _labels(job) if (label := mender.mend(each)) is not None]
        done_.changes += mender.changes
    left = done_.labels or (done_.annotation or {}).get("segments_info")
    if job.labels is not None and job.labels.count and not left and not job.keeps_unlabelled:
        raise Incurable("picture-unlabelled", "has no label left that is right")
    if job.picture and job.picture_target:
        entry["file_name"] = _write(job, plan)
        done_.plan = plan
    if png is not None and job.png_target is not None:
        write_png(png, job.png_target)
    done_.entry = entry


def _labels(job: Job) -> list[Entry]:
    return job.labels.labels if job.labels else []


def _with_file(changes: Iterator[tuple[str, str]], job: Job) -> Iterator[tuple[str, str, str]]:
    return ((code, job.picture or job.file, done) for code, done in changes)


def _mend_segments(job: Job, png: Png | None, listed: ListedPicture, done_: Done) -> None:
    assert job.labels is not None and job.labels.annotation is not None
    segments: list[Entry] = []
    if png is None:
        size = (listed.width, listed.height)
        for found in json_only_segments(_labels(job), size, job.file, listed.image_id):
            if isinstance(found, Change):
                done_.changes.append(found)
            else:
                segments.append(found)
    else:
        fit_png(png, (listed.width, listed.height))
        if png.code:
            text = "saved as an RGB PNG of the picture's size"
            done_.changes.append(mended(png.code, png.path, text, listed.image_id))
        matcher = SegmentMatcher(png, job.file, listed.image_id)
        segments = matcher.match(_labels(job))
        done_.changes += matcher.changes
    done_.annotation = {**job.labels.annotation, "segments_info": segments}


def _write(job: Job, plan: Plan) -> str:
    """Write the picture, if that hasn't been done for another JSON, and return its name in the copy."""
    assert job.picture is not None and job.picture_target is not None
    name, target = job.entry["file_name"], job.picture_target
    if job.earlier is not None:
        if job.earlier[0] == plan:
            return job.earlier[1]
        target = target.with_name(f"{target.stem}-{plan.size[0]}x{plan.size[1]}{target.suffix}")
    written = write_picture(job.picture, plan, target)
    folder = name.rpartition("/")[0]
    return f"{folder}/{written.name}" if folder else written.name
