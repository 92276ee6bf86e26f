"""The kinds of mistakes: what each is called, what it is, and what to do about it; found in :mod:`.mistakes`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

#: A threshold as high as this leaves no room for a higher one.
HIGHEST_OVERLAP = 0.9
_HIGHER_OVERLAP = (
    "A higher MODEL.DETR.OVERLAP_THRESHOLD leaves an object to one query and drops those that others mostly cover "
    "('detr-d2 sweep' tries it); no training is needed. "
)


class Kind(NamedTuple):
    """A kind of mistake.

    Args:
        name: in tables.
        meaning: in a few words.
        caption: of one mistake, with the classes ``{true}`` and ``{predicted}``.
        title: of what to do about it, as an order.
        advice: how to go about it.
    """

    name: str
    meaning: str
    caption: str
    title: str
    advice: str

    def advice_with(self, settings: Mapping[str, float | None]) -> str:
        """The advice for a run with these settings; see :func:`detr_d2.evaluation.report.run_config.run_settings`."""
        has_room = (settings.get("overlap_threshold") or 0.0) < HIGHEST_OVERLAP
        coarse = settings.get("mask_stride") or 1
        stride = f"train with whole masks (INPUT.MASK_STRIDE is {coarse:g}: set 1), " if coarse > 1 else ""
        return self.advice.replace("{overlap}", _HIGHER_OVERLAP if has_room else "").replace("{stride}", stride)


LOOSE_BORDERS = "loose_borders"
#: In the order in which they are looked for; the last is of segments that are found.
KINDS = {
    "wrong_class": Kind(
        "wrong class",
        "cut right (IoU above 0.5), but called something else",
        "{true}, called {predicted}",
        "Tell classes apart that are confused",
        "Check that both are labelled in the same way everywhere; merge classes that people can't tell apart either; "
        "else add images in which both are.",
    ),
    "split": Kind(
        "split",
        "two or more predicted segments that together would be right for one true one",
        "{true}, in parts",
        "Stop segments from falling into parts",
        "Large, long or half-hidden ones do. {overlap}Look whether labels, too, have them as several.",
    ),
    "merged": Kind(
        "merged",
        "one predicted segment over several true ones of its class",
        "{true}, merged",
        "Separate neighbours",
        "Look for labels in which one outline holds several objects, and for stacks: label them one by one, or as a "
        "crowd.",
    ),
    "poorly_cut": Kind(
        "poorly cut",
        "the right class at the right place, but an IoU of 0.5 or less",
        "{true}, poorly cut",
        "Cut segments better",
        "Train the masks longer, or at a larger input size; look whether their labels agree on where they end.",
    ),
    "duplicate": Kind(
        "duplicate",
        "a further segment on an object that another one stands for already",
        "second {predicted}",
        "Stop second segments of one object",
        "Several queries share an object, each with a part or a rim of it. {overlap}More training tells them apart.",
    ),
    "on_void": Kind(
        "on void",
        "predicted with its largest part where nobody labelled anything",
        "{predicted} on void",
        "Label what the model finds on void",
        "Nobody labelled anything there. If the examples look right, the ground truth is incomplete, not the model "
        "wrong.",
    ),
    "made_up": Kind(
        "made up",
        "predicted over other things, with nothing of its class to match",
        "{predicted}, made up",
        "Stop segments that are made up",
        "Look at the examples first: what looks right there is a label that somebody forgot.",
    ),
    "missed": Kind(
        "missed",
        "a true segment with no predicted one of its class that could be meant for it",
        "{true}, missed",
        "Find what is missed",
        "Look whether these are small, hidden or rare in training; more labelled images of them help most.",
    ),
    LOOSE_BORDERS: Kind(
        "loose borders",
        "found, with an IoU between 0.5 and 1: what SQ lacks",
        "{true}, cut loosely",
        "Sharpen the borders",
        "What helps: train the mask head longer (stage 2), {stride}use a larger input in training and evaluation "
        "(INPUT.MIN_SIZE_TRAIN, MIN_SIZE_TEST), and look at the labels ('detr-d2 browse'): outlines drawn with few "
        "points, or beside the edge, teach loose borders.",
    ),
}
