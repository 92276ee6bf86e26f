"""What to do next, in plain words, derived from the numbers of a report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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
#: Scores as low as this show that there is no threshold to lower.
LOWEST_SCORE = 0.05
_NAMED = 4
SWEEP = "'detr-d2 sweep' finds the threshold that suits the images"


def next_steps(content: Content) -> list[Step]:
    """Steps by what they could give back, then those about how far the numbers can be trusted.

    Args:
        content: the report's numbers, see ``Analysis.as_json``.

    Returns:
        Of each step its "title" in a few words, as an order; "why", the numbers that ask for it, and how to go about
        it; "gain", the points of PQ (All) that it could give back, None where it is about trust in the numbers; and
        the "section" of the report to look at.
    """
    rules = (
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
            mostly, where = [f"{name} ({count})" for name, count in entry["classes"].items()], f"kind-{entry['kind']}"
            if entry["kind"] == "wrong_class":
                pairs, where = content["confusions"], "confusions"
                mostly = [f"{p['true']} called {p['predicted']} ({p['count']} of {p['of']})" for p in pairs]
            advice = kind.advice_with(content.get("settings", {}))
            why = f"{counted(entry['count'], 'time')}, mostly {', '.join(mostly[:_NAMED])}. {advice}"
            steps.append(_step(kind.title, why, gain, where))
    return _largest_first(steps)[:MOST_KINDS]


def _borders(content: Content) -> Iterator[Step]:
    """Where they cost more than any other kind, or what is found is cut worse than people would."""
    sq, kind = content["All"]["SQ"], KINDS[LOOSE_BORDERS]
    gains = {entry["kind"]: entry["gives_back"]["All"] for entry in content["mistakes"]}
    gain = gains.pop(LOOSE_BORDERS)
    if sq is None or gain is None or gain < LEAST_GAIN:
        return
    if sq < POOR_SQ or gain >= max((other or 0.0 for other in gains.values()), default=0.0):
        why = (
            f"What is found has a mean IoU of {sq:.0f}; two people who label the same image agree to about 80 to 86 "
            f"(Kirillov et al. 2019, on human consistency), so that not all of it can be had. "
            f"{kind.advice_with(content.get('settings', {}))}"
        )
        yield _step(kind.title, why, gain, "kind-loose_borders")


def _finds_nothing(content: Content) -> bool:
    """Whether no segment of any class is found, of several classes that are there."""
    present = [c for c in content["classes"] if c["true_segments"]]
    return len(present) > 1 and not any(c["true_positives"] for c in present)


def _never_found(content: Content) -> Iterator[Step]:
    never = [c for c in content["classes"] if c["true_segments"] and not c["true_positives"]]
    never.sort(key=lambda entry: -entry["true_segments"])
    if _finds_nothing(content):
        segments = counted(sum(c["true_segments"] for c in never), "true segment")
        why = (
            f"Not one of {segments} is found. Look whether these are the weights of this dataset, trained to the end "
            "('detr-d2 weights FILE'), whether photos and ground truth belong together ('detr-d2 browse'), and whether "
            f"the score threshold leaves anything: {SWEEP}."
        )
        gain = _entry(content, "missed")["gives_back"]["All"]
        yield _step(f"The model finds none of the {len(never)} classes", why, gain, "classes")
    elif never and never[0]["true_segments"] >= 5:
        mean, n = content["All"]["PQ"], content["All"]["N"]
        why = (
            f"{_list_seen(never)}: not one of their segments is found. Look whether training has them at all, under "
            "the same name; repeat-factor sampling helps rare ones. The gain is that of reaching the mean of all "
            "classes."
        )
        gain = len(never) * mean / n if mean is not None and n else None
        title = f"Look at the {counted(len(never), 'class', 'classes')} that the model never finds"
        yield _step(title, why, gain, "classes")


def _rare_in_training(content: Content) -> Iterator[Step]:
    mean, n = content["All"]["PQ"], content["All"]["N"]
    rare = [
        c
        for c in content["classes"]
        if mean is not None and c["PQ"] is not None and c["true_positives"] > 0 and c["PQ"] < mean / 2
        if c.get("training_segments") is not None and c["training_segments"] < FEW_IN_TRAINING
    ]
    if rare:
        why = (
            f"{_list_seen(rare)}: less than half the mean PQ, and rare in training. Label more of them, or draw them "
            "more often (repeat-factor sampling). The gain is that of reaching the mean of all classes."
        )
        gain = sum(mean - c["PQ"] for c in rare) / n
        yield _step(f"Train on more of {counted(len(rare), 'rare class', 'rare classes')}", why, gain, "classes")


def _list_seen(classes: Sequence[Mapping[str, Any]]) -> str:
    """Names of classes, and how many segments the evaluation has of each, and the training."""
    training = [c.get("training_segments") for c in classes]
    counts = [f", {count} in training" if count is not None else "" for count in training]
    return _list([f"{c['name']} ({c['true_segments']}{count})" for c, count in zip(classes, counts)])


def _dropping(content: Content) -> Iterator[Step]:
    """Segments that are too many and small need no training to go."""
    small = content["sizes"]["small"]
    wrong, found = small.get("wrong", 0), small.get("found", 0)
    if wrong >= max(MANY, 3 * found):
        why = (
            f"{wrong} wrong predicted segments are smaller than 32 × 32 pixels, and {counted(found, 'right one')}. Try "
            "a larger MODEL.DETR.MIN_SEGMENT_AREA and evaluate again; no training is needed."
        )
        yield _step("Drop small segments", why, None, "sizes")


def _threshold(content: Content) -> Iterator[Step]:
    missed = _entry(content, "missed")["count"]
    made_up = sum(_entry(content, kind)["count"] for kind in ("made_up", "duplicate", "on_void"))
    if made_up >= max(MANY, 3 * missed):
        why = f"{made_up} segments too many are predicted, only {missed} are missed. {SWEEP}, without training."
        yield _step("Try a higher score threshold", why, None, "scores")
    elif missed >= max(MANY, 3 * made_up) and not _finds_nothing(content) and _can_be_lower(content):
        why = f"{missed} segments are missed, only {made_up} too many are predicted. {SWEEP}, without training."
        yield _step("Try a lower score threshold", why, None, "mistakes")


def _can_be_lower(content: Content) -> bool:
    """Whether the score threshold is above 0: the config says so, or the lowest scores that were kept."""
    threshold = content.get("settings", {}).get("score_threshold")
    if threshold is None:
        threshold = min((b["from"] for b in content["reliability"]["All"]["bins"]), default=1.0)
    return bool(threshold >= LOWEST_SCORE)


def _sizes(content: Content) -> Iterator[Step]:
    sizes = content["sizes"]
    segments, total = sizes["small"]["true_segments"], sum(row["true_segments"] for row in sizes.values())
    low, high = sizes["small"]["All"]["PQ"], sizes["large"]["All"]["PQ"]
    if low is not None and high is not None and segments >= 0.1 * total and low < 0.5 * high:
        why = (
            f"PQ is {low:.0f} for segments below 32 × 32 pixels, which {100 * segments / total:.0f} % of all are, and "
            f"{high:.0f} for large ones. Try a larger input (INPUT.MIN_SIZE_TEST, then training), or photos from "
            "nearer."
        )
        yield _step("Help small segments", why, None, "sizes")


def _interval(content: Content) -> Iterator[Step]:
    ends, images = content["All"].get("PQ_interval"), content["ground_truth"]["images"]
    if ends and ends[1] - ends[0] >= WIDE_INTERVAL:
        why = (
            f"With {counted(images, 'image')}, PQ is known to lie between {ends[0]:.1f} and {ends[1]:.1f} only; a "
            f"change inside of that may be chance. {4 * images} images would halve it. 'detr-d2 compare' tells two "
            "runs apart earlier."
        )
        yield _step("Evaluate on more images", why, None, "summary")


def _few_images(content: Content) -> Iterator[Step]:
    few = sorted((c for c in content["classes"] if 0 < c["images"] < FEW_IMAGES), key=lambda entry: entry["images"])
    if few:
        names = _list([f"{c['name']} ({c['images']})" for c in few])
        why = f"Too few to judge them by: {names}. Label more, or don't read their numbers one by one."
        title = f"{counted(len(few), 'class is', 'classes are')} in fewer than {FEW_IMAGES} images"
        yield _step(title, why, None, "counts")


def _absent(content: Content) -> Iterator[Step]:
    if absent := [c["name"] for c in content["classes"] if not c["true_segments"]]:
        why = f"Nothing is known about {_list(absent)}. Put images of them among those that are evaluated."
        yield _step(f"{counted(len(absent), 'class has', 'classes have')} no true segment", why, None, "counts")


def _scores(content: Content) -> Iterator[Step]:
    found = content["reliability"]["All"]
    excess = found["overconfidence"]
    if excess is not None and found["segments"] >= 20 and abs(excess) >= WRONG_SCORES:
        right = sum(b["right"] * b["segments"] for b in found["bins"]) / found["segments"]
        why = (
            f"Their mean is {100 * (right + excess):.0f} %, but {100 * right:.0f} % of the predicted segments are "
            f"right. Don't read them as probabilities. {SWEEP}."
        )
        yield _step(f"The scores are {'over' if excess > 0 else 'under'}confident", why, None, "scores")


def _unlabelled(content: Content) -> Iterator[Step]:
    void = content["ground_truth"]["void_share"]
    if void is not None and void >= 0.2:
        ignored = counted(content["ignored_on_void"], "predicted segment")
        why = (
            f"{100 * void:.0f} % of the pixels are void, and {ignored} there can be neither right nor wrong: whatever "
            "the model does there, no number shows it."
        )
        yield _step("Much of the ground truth is void", why, None, "counts")


def _entry(content: Content, kind: str) -> Mapping[str, Any]:
    return next(entry for entry in content["mistakes"] if entry["kind"] == kind)  # type: ignore[no-any-return]


def _list(names: Sequence[str], shown: int = 8) -> str:
    rest = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + rest
