"""A comparison as a page with the images that changed most."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from detr_d2.evaluation.comparison.comparing import changed_classes
from detr_d2.evaluation.evaluation_folder import EvaluationFolder
from detr_d2.evaluation.records import EvaluationRecord
from detr_d2.evaluation.report.views import ImageViews, address_of
from detr_d2.pages import write_page

_TEMPLATE = Path(__file__).parent / "templates" / "compare.html"


def write_comparison_page(
    path: str | os.PathLike[str], content: dict[str, Any], first: EvaluationFolder, second: EvaluationFolder
) -> Path:
    """Write the page, self-contained.

    Args:
        path: where to.
        content: of :meth:`~detr_d2.evaluation.comparison.comparing.Comparison.as_json`.
        first, second: the evaluations, for the images.
    """
    chosen = {entry["image_id"] for entry in (*content["lost_most"], *content["gained_most"])}
    records = [_chosen(folder.records(), chosen) for folder in (first, second)]
    drawn = {
        title: [entry | {"views": _views(entry["image_id"], (first, second), records, content)} for entry in entries]
        for title, entries in (("lost most", content["lost_most"]), ("gained most", content["gained_most"]))
    }
    about = [
        {"path": str(f.path), **{key: f.run.get(key) for key in ("weights", "finished", "commit")}}
        for f in (first, second)
    ]
    title = f"{content['names'][0]} and {content['names'][1]} on {first.run['dataset']}"
    return write_page(
        path, _TEMPLATE, title=title, content=content, changed=changed_classes(content), drawn=drawn, about=about
    )


def _chosen(records: Iterable[EvaluationRecord], image_ids: set[Any]) -> dict[Any, EvaluationRecord]:
    return {record.image_id: record for record in records if record.image_id in image_ids}


def _views(
    image_id: Any,
    folders: tuple[EvaluationFolder, EvaluationFolder],
    records: list[dict[Any, EvaluationRecord]],
    content: Mapping[str, Any],
) -> list[tuple[str, str]]:
    """Names and addresses of photo, ground truth and both predictions."""
    shown: list[tuple[str, np.ndarray]] = []
    for name, folder, known in zip(content["names"], folders, records):
        record = known[image_id]
        views = ImageViews(record, folder.preview(image_id), folder.categories)
        of_name = dict(views.all())
        shown = shown or [(key, of_name[key]) for key in ("photo", "ground truth") if key in of_name]
        shown += [(name, of_name["prediction"])] if "prediction" in of_name else []
    return [(name, address_of(image)) for name, image in shown]
