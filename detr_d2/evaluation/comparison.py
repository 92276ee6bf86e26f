"""``detr-d2 compare``: is one evaluation better than another on the same images, or is it chance?"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from detr_d2.arguments import add_resamples, add_shown_images
from detr_d2.errors import DatasetError
from detr_d2.evaluation.bootstrap import bootstrap_intervals
from detr_d2.evaluation.panoptic_quality import PanopticQuality, Quality, image_quality
from detr_d2.evaluation.records import EvaluationFolder, EvaluationRecord, evaluation_folders
from detr_d2.evaluation.report.images import ImageViews, address_of
from detr_d2.evaluation.results import COUNTS, group_labels, group_means, percent, percents, pipe_table
from detr_d2.files import check_outputs, real_path, write_json
from detr_d2.pages import write_page
from detr_d2.wording import counted

_TEMPLATE = Path(__file__).parent / "templates" / "compare.html"
#: Images that are named in a message.
_NAMED = 5
#: With fewer images an interval is too narrow to believe.
LEAST_IMAGES = 5
_EPILOG = """\
examples:
  detr-d2 compare output/monday output/tuesday
  detr-d2 compare plain=output/a ricap=output/b --page ricap.html --json ricap.json

RUN is the output folder of 'train_net.py --eval-only', or the folder below it of one dataset (inference/DATASET);
NAME=RUN gives it a name. Both must have been evaluated on the same images.
"""
Folders = tuple[EvaluationFolder, EvaluationFolder]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command and its arguments to ``parser``."""
    parser.description = (
        "Compare two evaluations image by image: the difference with its interval (paired bootstrap), the classes "
        "that changed, and a page with the images that changed most."
    )
    parser.epilog = _EPILOG
    parser.add_argument("first", metavar="RUN_A", help="what was before")
    parser.add_argument("second", metavar="RUN_B", help="what is to be better")
    parser.add_argument("--dataset", metavar="NAME", help="which one, if the runs evaluated several")
    parser.add_argument("--common", action="store_true", help="leave out images that only one of them has")
    parser.add_argument("--page", type=Path, metavar="FILE", help="the page (default: compare.html in RUN_B's folder)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers there")
    add_shown_images(parser, 12, "of those that lost most and of those that gained most are shown")
    add_resamples(parser)


def run(args: argparse.Namespace) -> int:
    """Compare, print the tables, write the page."""
    (name, first), (other, second) = (_named(text, args.dataset) for text in (args.first, args.second))
    names = (name, other) if name != other else (f"A: {name}", f"B: {other}")
    page = args.page or second.path / "compare.html"
    check_outputs({"--json": args.json, "--page": page}, [*first.own_files(), *second.own_files()])
    check_outputs({"--json": args.json, "--page": args.page}, chain(first.image_files(), second.image_files()))
    content: dict[str, Any] = {"names": list(names)}
    content |= compare_evaluations((first, second), args.common, args.images, max(args.resamples, 1), args.seed)
    print(_text(content))
    if args.json:
        write_json(args.json, content)
    write_comparison_page(page, content, (first, second))
    print(f"\nThe images that changed most: {page}")
    return 0


def _named(text: str, dataset: str | None) -> tuple[str, EvaluationFolder]:
    """A run's name and its evaluation's folder."""
    name, separator, path = text.partition("=")
    if not separator or Path(text).exists():
        path, name = text, real_path(text).name
    folders = evaluation_folders(Path(path))
    chosen = [folder for folder in folders if dataset is None or folder.name == dataset]
    if len(chosen) != 1:
        raise DatasetError(
            f"{path} has {len(folders)} evaluations ({', '.join(folder.name for folder in folders)}); name one of them "
            "with --dataset."
        )
    return name, EvaluationFolder(chosen[0])


def compare_evaluations(
    folders: Folders, only_common: bool = False, images: int = 12, resamples: int = 1000, seed: int = 0
) -> dict[str, Any]:
    """Put two evaluations side by side, image by image.

    Args:
        folders: of the first and of the second one.
        only_common: leave out images that only one of them has.
        images: so many of those that lost most, and of those that gained most.
        resamples, seed: of the intervals, see :func:`detr_d2.evaluation.bootstrap.bootstrap_intervals`.

    Returns:
        All numbers, in percent; None where there is nothing to judge.

    Raises:
        DatasetError: classes or ground truth differ, or images without ``only_common``; or no image is common.
    """
    _require_same_classes(folders)
    categories = folders[0].categories
    is_thing = [category.is_thing for category in categories]
    pair = PanopticQuality(len(categories)), PanopticQuality(len(categories))
    changes, left_out = _add_images(folders, pair, only_common)
    found = bootstrap_intervals(pair[1], group_labels(is_thing), resamples, seed, before=pair[0])
    before, after = (group_means(quality, is_thing) for quality in pair)
    groups = {
        name: _row(before[name], after[name], found.groups[name], found.above_groups[name], len(pair[1]))
        for name in before
    }
    in_images = np.maximum(*(quality.images_of_classes() for quality in pair)).tolist()
    classes = []
    for label, category in enumerate(categories):
        about = {"id": category.id, "name": category.name, "is_thing": category.is_thing, "color": category.color}
        was, now = (quality.of_class(label) for quality in pair)
        row = _row(was, now, found.classes[label], found.above_classes[label], in_images[label])
        counts = {key: [int(getattr(quality, key)[label]) for quality in pair] for key in COUNTS}
        classes.append({**about, **row, **counts})
    changes.sort(key=lambda change: change["difference"])
    return {
        **{"images": len(pair[1]), "left_out": left_out, "resamples": found.resamples},
        **{"confidence": found.confidence, "groups": groups, "classes": classes},
        "lost_most": [change for change in changes[:images] if change["difference"] < 0],
        "gained_most": [change for change in changes[::-1][:images] if change["difference"] > 0],
    }


def _add_images(
    folders: Folders, pair_: tuple[PanopticQuality, PanopticQuality], only_common: bool
) -> tuple[list[dict[str, Any]], int]:
    """Adds the images that both have, in one order; what each changed by, and how many only one has."""
    first, second = folders
    known = {record.image_id: (_counts(record), _gt_segments(record)) for record in first.records()}
    changes, only_second, other_gt = [], [], []
    for record in second.records():
        before, gt = known.pop(record.image_id, (None, None))
        if before is None:
            only_second.append(record.image_id)
        elif gt != _gt_segments(record):
            other_gt.append(record.image_id)
        else:
            counts = before, _counts(record)
            for quality, of_image in zip(pair_, counts):
                quality.add(of_image)
            was, now = (percent(image_quality(of_image)) for of_image in counts)
            if was is not None and now is not None:
                about = {"image_id": record.image_id, "file_name": record.file_name}
                changes.append({**about, "before": was, "after": now, "difference": now - was})
    if other_gt:
        raise DatasetError(
            f"{counted(len(other_gt), 'image has', 'images have')} another ground truth in {second.path} than in "
            f"{first.path}: {_names(other_gt)}. Evaluate both with the same dataset."
        )
    if (known or only_second) and not only_common:
        raise DatasetError(
            f"{counted(len(known), 'image is', 'images are')} only in {first.path} ({_names(list(known))}), "
            f"{len(only_second)} only in {second.path} ({_names(only_second)}). Evaluate both with the same images, or "
            "compare what is common with --common."
        )
    if not len(pair_[1]):
        raise DatasetError(f"{first.path} and {second.path} have no image in common.")
    return changes, len(known) + len(only_second)


def _counts(record: EvaluationRecord) -> list[Any]:
    return list(record.compared.counts().values())


def _gt_segments(record: EvaluationRecord) -> list[tuple[int, ...]]:
    return sorted((s["id"], s["class"], s["area"], s["iscrowd"]) for s in record.true)


def _require_same_classes(folders: Folders) -> None:
    first, second = ([(c.name, c.is_thing) for c in folder.categories] for folder in folders)
    if first != second:
        differing = sorted({name for name, _ in set(first) ^ set(second)})
        raise DatasetError(
            f"{folders[0].path} has {counted(len(first), 'class', 'classes')}, {folders[1].path} {len(second)}, and "
            f"they aren't the same, or not in the same order (differing: {_names(differing)}). Evaluate both with the "
            "same dataset."
        )


def _names(values: Sequence[Any]) -> str:
    more = f" and {len(values) - _NAMED} more" if len(values) > _NAMED else ""
    return ", ".join(map(str, values[:_NAMED])) + more if values else "none"


def _row(before: Quality, after: Quality, ends: np.ndarray, better: np.ndarray, images: int) -> dict[str, Any]:
    """A class or group: PQ of both, and what is known of the difference."""
    known = before.n > 0 and after.n > 0 and not np.isnan(ends[0]).any()
    interval = percents(ends[0]) if known else None
    row: dict[str, Any] = {
        "before": percent(before.pq),
        "after": percent(after.pq),
        "difference": 100 * (after.pq - before.pq) if known else None,
        "interval": interval,
        "better_in": float(better[0]) if known else None,
        "images": images,
        "verdict": _verdict(interval, images),
    }
    for key, pair in zip(("SQ", "RQ"), ends[1:]):
        row[f"{key}_difference"] = percent(getattr(after, key.lower()) - getattr(before, key.lower()))
        row[f"{key}_interval"] = percents(pair)
    return row


def _verdict(interval: list[float] | None, images: int) -> str:
    """better, worse, the same, or that nothing can be said."""
    if interval is None:
        return "nothing to compare"
    low, high = interval
    if low == high == 0:
        return "the same"
    if images < LEAST_IMAGES:
        return "too few images"
    return "better" if low > 0 else "worse" if high < 0 else "not significant"


def _changed_classes(content: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The classes whose interval is off 0, those that lost most first."""
    changed = [row for row in content["classes"] if row["verdict"] in ("better", "worse")]
    return sorted(changed, key=lambda row: row["difference"])


def _text(content: Mapping[str, Any]) -> str:
    """Tables for the terminal."""
    headers = ["PQ", *content["names"], "difference", f"{100 * content['confidence']:g} %", "better in", ""]
    groups = [_cells(name, row) for name, row in content["groups"].items()]
    parts = [pipe_table(groups, headers, stralign="right")]
    if classes := [_cells(row["name"], row) for row in _changed_classes(content)]:
        note = f"Of {len(content['classes'])} classes one in twenty looks changed by chance alone."
        parts.append(f"Classes that changed:\n{pipe_table(classes, headers, stralign='right')}\n{note}")
    else:
        parts.append("No class has changed by more than chance explains.")
    left_out = ""
    if content["left_out"]:
        left_out = f", {counted(content['left_out'], 'that only one has is', 'that only one has are')} left out"
    resamples = counted(content["resamples"], "bootstrap resample")
    parts.append(f"{counted(content['images'], 'image')}, {resamples}{left_out}.")
    return "\n\n".join(parts)


def _cells(name: str, row: Mapping[str, Any]) -> list[Any]:
    interval = row["interval"] and f"{row['interval'][0]:+.1f} to {row['interval'][1]:+.1f}"
    better = None if row["better_in"] is None else f"{100 * row['better_in']:.0f} %"
    difference = None if row["difference"] is None else f"{row['difference']:+.1f}"
    return [name, row["before"], row["after"], difference, interval, better, row["verdict"]]


def write_comparison_page(path: Path, content: dict[str, Any], folders: Folders) -> None:
    """Write the page of :func:`compare_evaluations`, with the images that changed most."""
    chosen = {entry["image_id"] for entry in (*content["lost_most"], *content["gained_most"])}
    records = [{one.image_id: one for one in folder.records() if one.image_id in chosen} for folder in folders]
    drawn = {
        title: [entry | {"views": _views(entry["image_id"], folders, records, content["names"])} for entry in entries]
        for title, entries in (("lost most", content["lost_most"]), ("gained most", content["gained_most"]))
    }
    keys = ("weights", "finished", "commit")
    about = [{"path": str(folder.path), **{key: folder.run.get(key) for key in keys}} for folder in folders]
    title = f"{content['names'][0]} and {content['names'][1]} on {folders[0].run['dataset']}"
    changed = _changed_classes(content)
    write_page(path, _TEMPLATE, title=title, content=content, changed=changed, drawn=drawn, about=about)


def _views(
    image_id: Any, folders: Folders, records: Sequence[Mapping[Any, EvaluationRecord]], names: Sequence[str]
) -> list[tuple[str, str]]:
    """Names and addresses of photo, ground truth and both predictions."""
    shown: list[tuple[str, np.ndarray]] = []
    for name, folder, known in zip(names, folders, records):
        views = dict(ImageViews(known[image_id], folder.preview(image_id), folder.categories).all())
        shown = shown or [(key, views[key]) for key in ("photo", "ground truth") if key in views]
        shown += [(name, views["prediction"])] if "prediction" in views else []
    return [(name, address_of(image)) for name, image in shown]
