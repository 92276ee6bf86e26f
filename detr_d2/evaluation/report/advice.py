"""What to do about each kind of mistake, in plain words."""

from __future__ import annotations

from collections.abc import Mapping

SWEEP = "'detr-d2 sweep' finds the threshold that suits the images"
#: A threshold as high as this leaves no room for a higher one; scores as low as this show that there is none.
HIGHEST_OVERLAP, LOWEST_SCORE = 0.9, 0.05
_HIGHER_OVERLAP = (
    "A higher MODEL.DETR.OVERLAP_THRESHOLD leaves an object to one query and drops those that others mostly cover "
    "('detr-d2 sweep' tries it); no training is needed. "
)
_ADVICE: dict[str, tuple[str, str]] = {
    "missed": (
        "Find what is missed",
        "Look whether these are small, hidden or rare in training; more labelled images of them help most.",
    ),
    "made_up": (
        "Stop segments that are made up",
        "Look at the examples first: what looks right there is a label that somebody forgot.",
    ),
    "wrong_class": (
        "Tell classes apart that are confused",
        "Check that both are labelled in the same way everywhere; merge classes that people can't tell apart either; "
        "else add images in which both are.",
    ),
    "poorly_cut": (
        "Cut segments better",
        "Train the masks longer, or at a larger input size; look whether their labels agree on where they end.",
    ),
    "split": (
        "Stop segments from falling into parts",
        "Large, long or half-hidden ones do. {overlap}Look whether labels, too, have them as several.",
    ),
    "merged": (
        "Separate neighbours",
        "Look for labels in which one outline holds several objects, and for stacks: label them one by one, or as a "
        "crowd.",
    ),
    "duplicate": (
        "Stop second segments of one object",
        "Several queries share an object, each with a part or a rim of it. {overlap}More training tells them apart.",
    ),
    "on_void": (
        "Label what the model finds on void",
        "Nobody labelled anything there. If the examples look right, the ground truth is incomplete, not the model "
        "wrong.",
    ),
}


def kind_advice(kind: str, settings: Mapping[str, float | None]) -> tuple[str, str] | None:
    """Title and advice for a kind of mistake; None where there is none.

    Args:
        kind: see :mod:`detr_d2.evaluation.report.mistakes`.
        settings: of the run; see :func:`detr_d2.evaluation.report.run_config.run_settings`.
    """
    if kind not in _ADVICE:
        return None
    title, text = _ADVICE[kind]
    has_room = (settings.get("overlap_threshold") or 0.0) < HIGHEST_OVERLAP
    return title, text.replace("{overlap}", _HIGHER_OVERLAP if has_room else "")


def border_advice(settings: Mapping[str, float | None]) -> str:
    """What sharpens borders."""
    stride = settings.get("mask_stride") or 1
    coarse = f"train with whole masks (INPUT.MASK_STRIDE is {stride:g}: set 1), " if stride > 1 else ""
    return (
        f"What helps: train the mask head longer (stage 2), {coarse}use a larger input in training and evaluation "
        "(INPUT.MIN_SIZE_TRAIN, MIN_SIZE_TEST), and look at the labels ('detr-d2 browse'): outlines drawn with few "
        "points, or beside the edge, teach loose borders."
    )
