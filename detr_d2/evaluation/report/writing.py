"""Writes the report of an evaluation: a page for people, the same numbers for programs."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from detr_d2.errors import UserError
from detr_d2.evaluation.records import RECORDS_FILE
from detr_d2.evaluation.report.analysis import analyse
from detr_d2.evaluation.report.gallery import Gallery
from detr_d2.evaluation.report.next_steps import next_steps
from detr_d2.evaluation.report.page import write_report_page
from detr_d2.evaluation.report.settings import run_settings
from detr_d2.evaluation.report.source import EvaluationFolder
from detr_d2.evaluation.report.training_counts import training_segments
from detr_d2.evaluation.results import quality_as_csv
from detr_d2.files import check_outputs, write_json, write_text

logger = logging.getLogger(__name__)

#: Worst and best pictures in the page.
PICTURES = 20


def write_run_report(
    folder: str | os.PathLike[str],
    output: str | os.PathLike[str] | None = None,
    pictures: int = PICTURES,
    resamples: int = 1000,
    seed: int = 0,
) -> Path:
    """Writes ``report.html``, ``report.json`` and ``per_class.csv`` from the records of an evaluation.

    Args:
        folder: what the evaluation of one dataset wrote: ``records.jsonl``, ``run.json`` and ``previews.zip``.
        output: where to; None for ``folder``.
        pictures: so many of the worst and of the best ones are shown.
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
    analysis = analyse(evaluation.records(), evaluation.categories)
    gallery = Gallery(evaluation, analysis, pictures)
    content = {"dataset": evaluation.run["dataset"], **analysis.as_json(resamples, seed)}
    _add_training_counts_(content, evaluation)
    for entry, worst in zip(content["classes"], gallery.worst_of_classes()):
        entry["worst_pictures"] = worst
    content["settings"] = run_settings(evaluation.run.get("config") or "")
    content |= {"pictures": gallery.named(), "run": _about_run(evaluation.run), "next_steps": next_steps(content)}
    write_json(outputs["report.json"], content)
    write_text(outputs["per_class.csv"], quality_as_csv({"classes": [_row(entry) for entry in content["classes"]]}))
    page = write_report_page(outputs["report.html"], content, gallery.drawn_pictures(), gallery.drawn_examples())
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


def _add_training_counts_(content: dict[str, Any], evaluation: EvaluationFolder) -> None:
    """Each class gets its segments in training, or None."""
    counts = training_segments(evaluation.run.get("config") or "", evaluation.categories)
    content["training_known"] = counts is not None
    for label, entry in enumerate(content["classes"]):
        entry["training_segments"] = None if counts is None else counts[label]


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
    flat = {
        key: value for key, value in entry.items() if key not in ("color", "mistakes", "gives_back", "worst_pictures")
    }
    for kind, value in entry["gives_back"].items():
        flat[f"gives_back_{kind}"] = value
    return flat
