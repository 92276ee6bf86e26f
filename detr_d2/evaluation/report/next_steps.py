"""What to do next, in plain words, derived from the numbers of a report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from detr_d2.evaluation.report.mistakes import KINDS, LOOSE_BORDERS
from detr_d2.wording import counted

Content = Mapping[str, Any]
Step = dict[str, Any]

#: Kinds of mistakes that cost less than this, in points of PQ, get no advice; and so many of them get some.
LEAST_GAIN, MOST_KINDS = 0.5, 4
#: Below this SQ people would cut better.
POOR_SQ = 75.0
#: A class in fewer images than this can't be judged; an interval wider than this (points of PQ) says little.
FEW_IMAGES, WIDE_INTERVAL = 10, 6.0
#: A class with fewer training segments than this, and less than half the mean PQ, probably needs more of them.
FEW_IN_TRAINING = 100
#: Scores that are further than this from the share of right ones mislead.
WRONG_SCORES = 0.1
#: So many mistakes that need no training to go, and three times as many as it would cost, get an advice.
MANY = 20
_NAMED = 4


SWEEP = "'detr-d2 sweep' finds the threshold that suits the images"
#: Scores as low as this show that there is no threshold to lower.
LOWEST_SCORE = 0.05


def next_steps(content: Content) -> list[Step]:
    """Steps by what they could give back, then those about how far the numbers can be trusted.

    Args:
        content: the report's numbers, see ``Analysis.as_json``.

    Returns:
        Of each step its "title" in a few words, as an order; "why", the numbers that ask for it, and how to go about
        it; "gain", the points of PQ (All) that it could give back, None where it is about trust in the numbers; and
        the "section" of the report to look at.
    """
    rules: Sequence[Callable[[Content], list[Step]]] = (
        *(_kinds, _borders, _never_found, _rare_in_training, _dropping, _threshold, _sizes),
        *(_interval, _few_images, _absent, _scores, _unlabelled),
    )
    return _largest_first([step for rule in rules for step in rule(content)])


def _step(title: str, why: str, gain: float | None, section: str) -> Step:
    return {"title": title, "why": why, "gain": gain, "section": section}


def _largest_first(steps: Sequence[Step]) -> list[Step]:
    return sorted(steps, key=lambda step: -(step["gain"] or 0.0))


def _kinds(content: Content) -> list[Step]:
    steps = []
    for entry in content["mistakes"]:
        gain, kind = entry["gives_back"]["All"], KINDS[entry["kind"]]
        if entry["kind"] == LOOSE_BORDERS or (entry["kind"] == "missed" and _finds_nothing(content)):
            continue  # other steps say more
        if gain is not None and gain >= LEAST_GAIN:
            advice = kind.advice_with(content.get("settings", {}))
            where = "confusions" if entry["kind"] == "wrong_class" else f"kind-{entry['kind']}"
            why = f"{counted(entry['count'], 'time')}, mostly {_mostly(content, entry)}. {advice}"
            steps.append(_step(kind.title, why, gain, where))
    return _largest_first(steps)[:MOST_KINDS]


def _mostly(content: Content, entry: Mapping[str, Any]) -> str:
    if entry["kind"] == "wrong_class":
        pairs = content["confusions"][:_NAMED]
        return ", ".join(f"{p['true']} called {p['predicted']} ({p['count']} of {p['of']})" for p in pairs)
    return ", ".join(f"{name} ({count})" for name, count in list(entry["classes"].items())[:_NAMED])


def _borders(content: Content) -> list[Step]:
    """Where they cost more than any other kind, or what is found is cut worse than people would."""
    sq, gain = content["All"]["SQ"], _gain(content, LOOSE_BORDERS)
    if sq is None or gain is None or gain < LEAST_GAIN:
        return []
    others = [entry["gives_back"]["All"] or 0.0 for entry in content["mistakes"] if entry["kind"] != LOOSE_BORDERS]
    if sq >= POOR_SQ and gain < max(others, default=0.0):
        return []
    why = (
        f"What is found has a mean IoU of {sq:.0f}; two people who label the same image agree to about 80 to 86 "
        f"(Kirillov et al. 2019, on human consistency), so that not all of it can be had. "
        f"{KINDS[LOOSE_BORDERS].advice_with(content.get('settings', {}))}"
    )
    return [_step(KINDS[LOOSE_BORDERS].title, why, gain, "kind-loose_borders")]


def _never_found(content: Content) -> list[Step]:
    if _finds_nothing(content):
        return [_nothing_found(content)]
    never = [c for c in content["classes"] if c["true_segments"] and not c["true_positives"]]
    never.sort(key=lambda entry: -entry["true_segments"])
    if not never or never[0]["true_segments"] < 5:
        return []
    names = _list([f"{c['name']} ({_times_seen(c)})" for c in never])
    mean, n = content["All"]["PQ"], content["All"]["N"]
    why = (
        f"{names}: not one of their segments is found. Look whether training has them at all, under the same name; "
        "repeat-factor sampling helps rare ones. The gain is that of reaching the mean of all classes."
    )
    gain = len(never) * mean / n if mean is not None and n else None
    title = f"Look at the {counted(len(never), 'class', 'classes')} that the model never finds"
    return [_step(title, why, gain, "classes")]


def _finds_nothing(content: Content) -> bool:
    """Whether no segment of any class is found, of several classes that are there."""
    present = [c for c in content["classes"] if c["true_segments"]]
    return len(present) > 1 and not any(c["true_positives"] for c in present)


def _nothing_found(content: Content) -> Step:
    present = [c for c in content["classes"] if c["true_segments"]]
    segments = counted(sum(c["true_segments"] for c in present), "true segment")
    why = (
        f"Not one of {segments} is found. Look whether these are the weights of this dataset, trained to the end "
        "('detr-d2 weights FILE'), whether photos and ground truth belong together ('detr-d2 browse'), and whether the "
        f"score threshold leaves anything: {SWEEP}."
    )
    return _step(f"The model finds none of the {len(present)} classes", why, _gain(content, "missed"), "classes")


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
    return [_step(f"Train on more of {counted(len(rare), 'rare class', 'rare classes')}", why, gain, "classes")]


def _times_seen(entry: Mapping[str, Any]) -> str:
    """How many segments of a class the evaluation has, and the training."""
    training = entry.get("training_segments")
    return f"{entry['true_segments']}" if training is None else f"{entry['true_segments']}, {training} in training"


def _dropping(content: Content) -> list[Step]:
    """Segments that are too many and small need no training to go."""
    small = content["sizes"]["small"]
    wrong, found = small.get("wrong", 0), small.get("found", 0)
    if wrong < MANY or wrong < 3 * found:
        return []
    why = (
        f"{wrong} wrong predicted segments are smaller than 32 × 32 pixels, and {counted(found, 'right one')}. Try a "
        "larger MODEL.DETR.MIN_SEGMENT_AREA and evaluate again; no training is needed."
    )
    return [_step("Drop small segments", why, None, "sizes")]


def _threshold(content: Content) -> list[Step]:
    missed = _entry(content, "missed")["count"]
    made_up = sum(_entry(content, kind)["count"] for kind in ("made_up", "duplicate", "on_void"))
    if made_up >= MANY and made_up >= 3 * missed:
        why = f"{made_up} segments too many are predicted, only {missed} are missed. {SWEEP}, without training."
        return [_step("Try a higher score threshold", why, None, "scores")]
    if missed < MANY or missed < 3 * made_up or _finds_nothing(content) or not _can_be_lower(content):
        return []
    why = f"{missed} segments are missed, only {made_up} too many are predicted. {SWEEP}, without training."
    return [_step("Try a lower score threshold", why, None, "mistakes")]


def _can_be_lower(content: Content) -> bool:
    """Whether the score threshold is above 0: the config says so, or the lowest scores that were kept."""
    threshold = content.get("settings", {}).get("score_threshold")
    if threshold is None:
        threshold = min((b["from"] for b in content["reliability"]["All"]["bins"]), default=1.0)
    return bool(threshold >= LOWEST_SCORE)


def _sizes(content: Content) -> list[Step]:
    sizes = content["sizes"]
    small, large, total = sizes["small"], sizes["large"], sum(row["true_segments"] for row in sizes.values())
    low, high = small["All"]["PQ"], large["All"]["PQ"]
    if low is None or high is None or small["true_segments"] < 0.1 * total or low >= 0.5 * high:
        return []
    share = 100 * small["true_segments"] / total
    why = (
        f"PQ is {low:.0f} for segments below 32 × 32 pixels, which {share:.0f} % of all are, and {high:.0f} for large "
        "ones. Try a larger input (INPUT.MIN_SIZE_TEST, then training), or photos from nearer."
    )
    return [_step("Help small segments", why, None, "sizes")]


def _interval(content: Content) -> list[Step]:
    ends = content["All"].get("PQ_interval")
    if not ends or ends[1] - ends[0] < WIDE_INTERVAL:
        return []
    images = content["ground_truth"]["images"]
    why = (
        f"With {counted(images, 'image')}, PQ is known to lie between {ends[0]:.1f} and {ends[1]:.1f} only; a "
        f"change inside of that may be chance. {4 * images} images would halve it. 'detr-d2 compare' tells two "
        "runs apart earlier."
    )
    return [_step("Evaluate on more images", why, None, "summary")]


def _few_images(content: Content) -> list[Step]:
    few = [c for c in content["classes"] if 0 < c["images"] < FEW_IMAGES]
    if not few:
        return []
    few.sort(key=lambda entry: entry["images"])
    names = _list([f"{c['name']} ({c['images']})" for c in few])
    why = f"Too few to judge them by: {names}. Label more, or don't read their numbers one by one."
    title = f"{counted(len(few), 'class is', 'classes are')} in fewer than {FEW_IMAGES} images"
    return [_step(title, why, None, "counts")]


def _absent(content: Content) -> list[Step]:
    absent = [c["name"] for c in content["classes"] if not c["true_segments"]]
    if not absent:
        return []
    why = f"Nothing is known about {_list(absent)}. Put images of them among those that are evaluated."
    return [_step(f"{counted(len(absent), 'class has', 'classes have')} no true segment", why, None, "counts")]


def _scores(content: Content) -> list[Step]:
    found = content["reliability"]["All"]
    excess = found["overconfidence"]
    if excess is None or found["segments"] < 20 or abs(excess) < WRONG_SCORES:
        return []
    word = "over" if excess > 0 else "under"
    right = sum(b["right"] * b["segments"] for b in found["bins"]) / found["segments"]
    why = (
        f"Their mean is {100 * (right + excess):.0f} %, but {100 * right:.0f} % of the predicted segments are right. "
        f"Don't read them as probabilities. {SWEEP}."
    )
    return [_step(f"The scores are {word}confident", why, None, "scores")]


def _unlabelled(content: Content) -> list[Step]:
    void = content["ground_truth"]["void_share"]
    if void is None or void < 0.2:
        return []
    ignored = content["ignored_on_void"]
    why = (
        f"{100 * void:.0f} % of the pixels are void, and {counted(ignored, 'predicted segment')} there can be neither "
        "right nor wrong: whatever the model does there, no number shows it."
    )
    return [_step("Much of the ground truth is void", why, None, "counts")]


def _entry(content: Content, kind: str) -> Mapping[str, Any]:
    return next(entry for entry in content["mistakes"] if entry["kind"] == kind)  # type: ignore[no-any-return]


def _gain(content: Content, kind: str) -> float | None:
    gain: float | None = _entry(content, kind)["gives_back"]["All"]
    return gain


def _list(names: Sequence[str], shown: int = 8) -> str:
    rest = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + rest
