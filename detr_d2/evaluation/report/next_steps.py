"""What to do next, in plain words, derived from the numbers of a report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

Content = Mapping[str, Any]

#: Kinds of mistakes that cost less than this, in points of PQ, get no advice; and so many of them get some.
LEAST_GAIN, MOST_KINDS = 0.5, 4
#: A class in fewer pictures than this can't be judged; an interval wider than this (points of PQ) says little.
FEW_PICTURES, WIDE_INTERVAL = 10, 6.0
#: A class with fewer training segments than this, and less than half the mean PQ, probably needs more of them.
FEW_IN_TRAINING = 100
#: Scores that are further than this from the share of right ones mislead.
WRONG_SCORES = 0.1
_NAMED = 4

_SWEEP = "'detr-d2 sweep' finds the threshold that suits the pictures"
_ADVICE: dict[str, tuple[str, str]] = {
    "missed": (
        "Find what is missed",
        "Look whether these are small, hidden or rare in training; more labelled pictures of them help most.",
    ),
    "made_up": (
        "Stop segments that are made up",
        "Look at the examples first: what looks right there is a label that somebody forgot.",
    ),
    "wrong_class": (
        "Tell classes apart that are confused",
        "Check that both are labelled in the same way everywhere; merge classes that people can't tell apart either; "
        "else add pictures in which both are.",
    ),
    "poorly_cut": (
        "Cut segments better",
        "Train the masks longer, or at a larger input size; look whether their labels agree on where they end.",
    ),
    "split": (
        "Stop segments from falling into parts",
        "Large, long or half-hidden ones do. Try a higher MODEL.DETR.OVERLAP_THRESHOLD ('detr-d2 sweep'), which leaves "
        "an object to one query; look whether labels, too, have them as several.",
    ),
    "merged": (
        "Separate neighbours",
        "Look for labels in which one outline holds several objects, and for stacks: label them one by one, or as a "
        "crowd.",
    ),
    "duplicate": (
        "Stop second segments of one object",
        "Several queries share an object, each with a part or a rim of it. A higher MODEL.DETR.OVERLAP_THRESHOLD drops "
        "those that others mostly cover ('detr-d2 sweep' tries it); no training is needed.",
    ),
    "on_void": (
        "Label what the model finds on void",
        "Nobody labelled anything there. If the examples look right, the truth is incomplete, not the model wrong.",
    ),
}


@dataclass(frozen=True)
class Step:
    """One thing to do.

    Args:
        title: in a few words, as an order.
        why: the numbers that ask for it, and how to go about it.
        gain: points of PQ (All) that it could give back; None where it is about trust in the numbers.
        section: where in the report to look.
    """

    title: str
    why: str
    gain: float | None
    section: str


def next_steps(content: Content) -> list[dict[str, Any]]:
    """Steps by what they could give back, then those about how far the numbers can be trusted.

    Args:
        content: the report's numbers, see ``Analysis.as_json``.
    """
    rules: Sequence[Callable[[Content], list[Step]]] = (
        *(_kinds, _borders, _never_found, _rare_in_training, _dropping, _threshold, _sizes),
        *(_interval, _few_pictures, _absent, _scores, _unlabelled),
    )
    steps = [step for rule in rules for step in rule(content)]
    steps.sort(key=lambda step: -(step.gain or 0.0))
    return [asdict(step) for step in steps]


def _kinds(content: Content) -> list[Step]:
    steps = []
    for entry in content["mistakes"]:
        gain = entry["gives_back"]["All"]
        if entry["kind"] in _ADVICE and gain is not None and gain >= LEAST_GAIN:
            title, advice = _ADVICE[entry["kind"]]
            where = "confusions" if entry["kind"] == "wrong_class" else f"kind-{entry['kind']}"
            why = f"{_count(entry['count'], 'time')}, mostly {_mostly(content, entry)}. {advice}"
            steps.append(Step(title, why, gain, where))
    return sorted(steps, key=lambda step: -(step.gain or 0.0))[:MOST_KINDS]


def _mostly(content: Content, entry: Mapping[str, Any]) -> str:
    if entry["kind"] == "wrong_class":
        pairs = content["confusions"][:_NAMED]
        return ", ".join(f"{p['true']} called {p['predicted']} ({p['count']} of {p['of']})" for p in pairs)
    return ", ".join(f"{name} ({count})" for name, count in list(entry["classes"].items())[:_NAMED])


def _borders(content: Content) -> list[Step]:
    sq = content["All"]["SQ"]
    gain = _gain(content, "loose_borders")
    if sq is None or gain is None or sq >= 75 or gain < LEAST_GAIN:
        return []
    why = (
        f"What is found has a mean IoU of {sq:.0f} only; two people who label the same picture agree to about 80 to 86 "
        "(Kirillov et al. 2019, on human consistency). Larger input, longer training of the masks, and outlines drawn "
        "with care help."
    )
    return [Step("Sharpen the borders", why, gain, "kind-loose_borders")]


def _never_found(content: Content) -> list[Step]:
    never = [c for c in content["classes"] if c["true_segments"] >= 5 and c["true_positives"] == 0]
    if not never:
        return []
    names = _list([f"{c['name']} ({_times_seen(c)})" for c in never])
    mean, n = content["All"]["PQ"], content["All"]["N"]
    why = (
        f"{names}: not one of their segments is found. Look whether training has them at all, under the same name; "
        "repeat-factor sampling helps rare ones. The gain is that of reaching the mean of all classes."
    )
    gain = len(never) * mean / n if mean is not None and n else None
    title = f"Look at the {_count(len(never), 'class', 'classes')} that the model never finds"
    return [Step(title, why, gain, "classes")]


def _rare_in_training(content: Content) -> list[Step]:
    mean, n = content["All"]["PQ"], content["All"]["N"]
    rare = [
        c
        for c in content["classes"]
        if mean is not None and c["PQ"] is not None and c["true_positives"] > 0 and c["PQ"] < mean / 2
        if c.get("training_segments") is not None and c["training_segments"] < FEW_IN_TRAINING
    ]
    if not rare or mean is None:
        return []
    names = _list([f"{c['name']} ({_times_seen(c)})" for c in rare])
    why = (
        f"{names}: less than half the mean PQ, and rare in training. Label more of them, or draw them more often "
        "(repeat-factor sampling). The gain is that of reaching the mean of all classes."
    )
    gain = sum(mean - c["PQ"] for c in rare) / n
    return [Step(f"Train on more of {_count(len(rare), 'rare class', 'rare classes')}", why, gain, "classes")]


def _times_seen(entry: Mapping[str, Any]) -> str:
    """How many segments of a class the evaluation has, and the training."""
    training = entry.get("training_segments")
    return f"{entry['true_segments']}" if training is None else f"{entry['true_segments']}, {training} in training"


def _dropping(content: Content) -> list[Step]:
    steps = []
    area, score = content["dropping"]["area"], content["dropping"]["score"]
    if area and area["gain"] >= LEAST_GAIN:
        why = (
            f"{area['wrong']} wrong predicted segments are smaller than {area['below']} pixels, and {area['right']} "
            f"right ones. Set MODEL.DETR.MIN_SEGMENT_AREA to about {area['below']} and evaluate again; no training is "
            "needed."
        )
        steps.append(Step("Drop small segments", why, area["gain"], "kind-duplicate"))
    if score and score["gain"] >= LEAST_GAIN:
        why = (
            f"{score['wrong']} wrong predicted segments have a score below {score['below']:.2f}, and {score['right']} "
            f"right ones. {_SWEEP} (MODEL.DETR.SCORE_THRESHOLD); no training is needed."
        )
        steps.append(Step("Raise the score threshold", why, score["gain"], "scores"))
    return steps


def _threshold(content: Content) -> list[Step]:
    missed = _entry(content, "missed")["count"]
    made_up = sum(_entry(content, kind)["count"] for kind in ("made_up", "duplicate", "on_void"))
    if missed < 20 or missed < 3 * made_up:
        return []
    why = f"{missed} segments are missed, only {made_up} too many are predicted. {_SWEEP}, without training."
    return [Step("Try a lower score threshold", why, None, "mistakes")]


def _sizes(content: Content) -> list[Step]:
    sizes = content["sizes"]
    small, large, total = sizes["small"], sizes["large"], sum(row["true_segments"] for row in sizes.values())
    low, high = small["All"]["PQ"], large["All"]["PQ"]
    if low is None or high is None or small["true_segments"] < 0.1 * total or low > 0.5 * high:
        return []
    share = 100 * small["true_segments"] / total
    why = (
        f"PQ is {low:.0f} for segments below 32 × 32 pixels, which {share:.0f} % of all are, and {high:.0f} for large "
        "ones. Try a larger input (INPUT.MIN_SIZE_TEST, then training), or photos from nearer."
    )
    return [Step("Help small segments", why, None, "sizes")]


def _interval(content: Content) -> list[Step]:
    ends = content["All"].get("PQ_interval")
    if not ends or ends[1] - ends[0] < WIDE_INTERVAL:
        return []
    pictures = content["truth"]["pictures"]
    why = (
        f"With {pictures} pictures, PQ is known to lie between {ends[0]:.1f} and {ends[1]:.1f} only; a change "
        f"inside of that may be chance. {4 * pictures} pictures would halve it. 'detr-d2 compare' tells two runs apart "
        "earlier."
    )
    return [Step("Evaluate on more pictures", why, None, "summary")]


def _few_pictures(content: Content) -> list[Step]:
    few = [c for c in content["classes"] if 0 < c["pictures"] < FEW_PICTURES]
    if not few:
        return []
    few.sort(key=lambda entry: entry["pictures"])
    names = _list([f"{c['name']} ({c['pictures']})" for c in few])
    why = f"Too few to judge them by: {names}. Label more, or don't read their numbers one by one."
    title = f"{_count(len(few), 'class is', 'classes are')} in fewer than {FEW_PICTURES} pictures"
    return [Step(title, why, None, "counts")]


def _absent(content: Content) -> list[Step]:
    absent = [c["name"] for c in content["classes"] if not c["true_segments"]]
    if not absent:
        return []
    why = f"Nothing is known about {_list(absent)}. Put pictures of them among those that are evaluated."
    return [Step(f"{_count(len(absent), 'class has', 'classes have')} no true segment", why, None, "counts")]


def _scores(content: Content) -> list[Step]:
    found = content["reliability"]["All"]
    excess = found["overconfidence"]
    if excess is None or found["segments"] < 20 or abs(excess) < WRONG_SCORES:
        return []
    word = "over" if excess > 0 else "under"
    right = sum(b["right"] * b["segments"] for b in found["bins"]) / found["segments"]
    why = (
        f"Their mean is {100 * (right + excess):.0f} %, but {100 * right:.0f} % of the predicted segments are right. "
        f"Don't read them as probabilities. {_SWEEP}."
    )
    return [Step(f"The scores are {word}confident", why, None, "scores")]


def _unlabelled(content: Content) -> list[Step]:
    void = content["truth"]["void_share"]
    if void is None or void < 0.2:
        return []
    ignored = content["ignored_on_void"]
    why = (
        f"{100 * void:.0f} % of the pixels are void, and {_count(ignored, 'predicted segment')} there can be neither "
        "right nor wrong: whatever the model does there, no number shows it."
    )
    return [Step("Much of the truth is void", why, None, "counts")]


def _entry(content: Content, kind: str) -> Mapping[str, Any]:
    return next(entry for entry in content["mistakes"] if entry["kind"] == kind)  # type: ignore[no-any-return]


def _gain(content: Content, kind: str) -> float | None:
    gain: float | None = _entry(content, kind)["gives_back"]["All"]
    return gain


def _list(names: Sequence[str], shown: int = 8) -> str:
    rest = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + rest


def _count(number: int, one: str, many: str | None = None) -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"
