"""``detr-d2 report``: what an evaluation found, as a page for people and the same numbers for programs."""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from detr_d2.arguments import add_resamples, add_shown_images
from detr_d2.errors import UserError
from detr_d2.evaluation.records import RECORDS_FILE, EvaluationFolder, evaluation_folders
from detr_d2.evaluation.report.analysis import Analysis
from detr_d2.evaluation.report.images import Gallery
from detr_d2.evaluation.report.mistakes import KINDS, LOOSE_BORDERS
from detr_d2.evaluation.report.next_steps import next_steps
from detr_d2.evaluation.report.run_config import run_settings, training_segments
from detr_d2.evaluation.results import quality_as_csv
from detr_d2.files import check_outputs, write_json, write_text
from detr_d2.pages import write_page

logger = logging.getLogger(__name__)

_TEMPLATE = Path(__file__).parent / "templates" / "report.html"
#: Worst and best images in the page.
IMAGES = 20
#: Most classes in the matrix of confusions.
MATRIX_CLASSES = 18
_EPILOG = """\
examples:
  detr-d2 report runs/quickstart/evaluation
  detr-d2 report output --images 50 --output report_of_monday

RUN is the output folder of 'train_net.py --eval-only', which ends with the same report, or the folder below it of one
dataset (inference/DATASET). The page needs no network; open it in any browser.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command and its arguments to ``parser``."""
    parser.description = (
        "Write report.html, report.json and per_class.csv of an evaluation: quality with intervals, what the errors "
        "are made of and cost, the worst and best images, what to do next."
    )
    parser.epilog = _EPILOG
    parser.add_argument("folder", metavar="RUN", type=Path, help="the folder of an evaluation")
    parser.add_argument(
        "--output", metavar="DIR", type=Path, help="where to (default: beside the evaluation's records)"
    )
    add_shown_images(parser, IMAGES, "of the worst and of the best are shown")
    add_resamples(parser)


def run(args: argparse.Namespace) -> int:
    """Write a report for each dataset of the run; say where."""
    folders = evaluation_folders(args.folder)
    for folder in folders:
        output = args.output / folder.name if args.output and len(folders) > 1 else args.output
        print(write_run_report(folder, output, args.images, args.resamples, args.seed))
    return 0


def write_run_report(
    folder: str | os.PathLike[str],
    output: str | os.PathLike[str] | None = None,
    images: int = IMAGES,
    resamples: int = 1000,
    seed: int = 0,
) -> Path:
    """Writes ``report.html``, ``report.json`` and ``per_class.csv`` from the records of an evaluation.

    Args:
        folder: what the evaluation of one dataset wrote: ``records.jsonl``, ``run.json`` and ``previews.zip``.
        output: where to; None for ``folder``.
        images: how many of the worst and of the best ones are shown.
        resamples: draws for the intervals; 0 for none.
        seed: of the draws.

    Returns:
        The path of ``report.html``.

    Raises:
        MissingFileError, DatasetError: the records aren't there, or aren't an evaluation's.
    """
    evaluation = EvaluationFolder(Path(folder))
    target = Path(output or folder)
    outputs = {name: target / name for name in ("report.html", "report.json", "per_class.csv")}
    check_outputs(outputs, evaluation.own_files())
    analysis = Analysis(evaluation.records(), evaluation.categories)
    gallery = Gallery(evaluation, analysis, images)
    content = {"dataset": evaluation.run["dataset"], **analysis.as_json(resamples, seed)}
    config = evaluation.run.get("config") or ""
    training = training_segments(config, evaluation.categories)
    for label, (entry, worst) in enumerate(zip(content["classes"], gallery.worst_of_classes())):
        entry |= {"training_segments": None if training is None else training[label], "worst_images": worst}
    content |= {"training_known": training is not None, "settings": run_settings(config)}
    content |= {"images": gallery.named(), "run": _about_run(evaluation.run), "next_steps": next_steps(content)}
    write_json(outputs["report.json"], content)
    write_text(outputs["per_class.csv"], quality_as_csv({"classes": [_row(entry) for entry in content["classes"]]}))
    page = write_report_page(outputs["report.html"], content, *gallery.drawn())
    logger.info("The report of %s is %s", content["dataset"], page)
    return page


def write_reports(output_dir: str | os.PathLike[str], dataset_names: Iterable[str]) -> list[Path]:
    """Writes the report of each dataset that an evaluation below ``output_dir`` has records of.

    The evaluation's numbers are there already, so that a report that can't be written is a warning.

    Returns:
        The pages.
    """
    pages = []
    for name in dataset_names:
        folder = Path(output_dir) / "inference" / name
        if (folder / RECORDS_FILE).is_file():
            try:
                pages.append(write_run_report(folder))
            except (UserError, OSError) as error:
                logger.warning("The report of %s couldn't be written: %s", name, error)
    return pages


def _about_run(run: Mapping[str, Any]) -> dict[str, Any]:
    """Facts to be read one under the other, and the config."""
    facts = []
    for key, value in run.items():
        if key in ("categories", "config") or value in (None, ""):
            continue
        if isinstance(value, Mapping):
            facts += [(f"{key}: {name}", str(entry)) for name, entry in value.items() if entry not in (None, "")]
        else:
            facts.append((key.replace("_", " "), f"{value:.1f}" if isinstance(value, float) else str(value)))
    return {
        **{"weights": run.get("weights") or "", "finished": str(run.get("finished") or "").replace("T", " ")[:16]},
        **{"facts": facts, "config": run.get("config") or ""},
    }


def _row(entry: Mapping[str, Any]) -> dict[str, Any]:
    """A class for the CSV file: one number a column."""
    nested = ("color", "mistakes", "gives_back", "worst_images")
    flat = {key: value for key, value in entry.items() if key not in nested}
    return flat | {f"gives_back_{kind}": value for kind, value in entry["gives_back"].items()}


def write_report_page(
    path: Path,
    content: Mapping[str, Any],
    images: Mapping[str, Sequence[Mapping[str, Any]]],
    examples: Mapping[str, Sequence[Mapping[str, Any]]],
) -> Path:
    """Writes ``report.html``.

    Args:
        path: of the file.
        content: the report's numbers, as in ``report.json``.
        images, examples: the worst and the best ones, and those of each kind of mistake, drawn.
    """
    classes = [_with_worst_kind(entry) for entry in content["classes"]]
    mistakes = sorted(content["mistakes"], key=lambda entry: -(entry["gives_back"]["All"] or 0.0))
    context = {
        **content,
        "title": f"Evaluation on {content['dataset']}",
        "groups": {name: {"PQ_interval": None, **content[name]} for name in ("All", "Things", "Stuff")},
        "kinds": KINDS,
        "classes": classes,
        "worst_first": sorted(classes, key=lambda entry: (entry["PQ"] is None, entry["PQ"] or 0.0)),
        "shown_rows": {one["row"] for shown in images.values() for one in shown},
        "best_first": {"things": _best_first(classes, True), "stuff": _best_first(classes, False)},
        "absent": [entry["name"] for entry in classes if entry["PQ"] is None],
        "largest_gain": mistakes[0]["gives_back"]["All"] or 0.0,
        "matrix": confusion_matrix(content),
        "images": images,
        "mistakes": mistakes,
        "examples": {entry["kind"]: examples[entry["kind"]] for entry in mistakes if examples.get(entry["kind"])},
    }
    return write_page(path, _TEMPLATE, **context)


def confusion_matrix(content: Mapping[str, Any], most: int = MATRIX_CLASSES) -> dict[str, Any]:
    """The classes with the most confusions, as a table.

    Returns:
        "names", "is_part" (some classes with confusions are left out), "rows", each with "name", "of" (true segments),
        "cells" (count, right, name, part of the true segments) and "rest": not found otherwise.
    """
    pairs = {(c["true_class"], c["predicted_class"]): c["count"] for c in content["confusions"]}
    times = np.zeros(len(content["classes"]), np.int64)
    for (true, predicted), count in pairs.items():
        times[true] += count
        times[predicted] += count
    busy = sorted(np.flatnonzero(times).tolist(), key=lambda label: (-times[label], label))
    shown = sorted(busy[:most])
    classes = content["classes"]
    rows = []
    for true in shown:
        of = max(classes[true]["true_segments"], 1)
        counts = {other: pairs.get((true, other), 0) for other in shown} | {true: classes[true]["true_positives"]}
        cells = [
            {"count": count, "right": other == true, "name": classes[other]["name"], "part": count / of}
            for other, count in counts.items()
        ]
        elsewhere = sum(count for (label, _), count in pairs.items() if label == true)
        rest = classes[true]["false_negatives"] - elsewhere
        rows.append({"name": classes[true]["name"], "of": classes[true]["true_segments"], "cells": cells, "rest": rest})
    return {"names": [classes[label]["name"] for label in shown], "rows": rows, "is_part": len(busy) > len(shown)}


def _with_worst_kind(entry: Mapping[str, Any]) -> dict[str, Any]:
    """A class with the kind of mistake that costs it most; SQ says already what loose borders cost."""
    gains = {kind: gain or 0.0 for kind, gain in entry["gives_back"].items() if kind != LOOSE_BORDERS}
    kind, gain = max(gains.items(), key=lambda item: item[1])
    return {"PQ_interval": None, **entry, "worst_kind": kind if gain else None, "worst_gain": gain if gain else 0.0}


def _best_first(classes: Sequence[Mapping[str, Any]], is_thing: bool) -> list[Mapping[str, Any]]:
    entries = [entry for entry in classes if entry["is_thing"] == is_thing and entry["PQ"] is not None]
    return sorted(entries, key=lambda entry: -entry["PQ"])
