"""Where results are meant to differ from the golden ones, and why."""

from __future__ import annotations

#: Pattern of ``group/case`` to the reason; the first that fits counts.
REASONS: dict[str, str] = {
    "fix_broken/category_name_with_brackets-*": "what stands in brackets stays in a class's name, as in prepare",
    "fix_broken/*": "changes.csv names the file and id that check names of the same fault: both are of one rule",
    "fix_real/construction-*": "changes are called fixed, not mended, which the digest of many of them shows",
    "training_losses/*": "an image's augmentation follows from seed and place in the order, not from what came before",
    "pq/*": "pictures are called images; and ends of intervals are interpolated by numpy now, which rounds otherwise",
}

#: Codes that are called otherwise now: the old name to the new one.
RENAMED_CODES: dict[str, str] = {
    "mended": "fixed",
    **{
        f"picture-{what}": f"image-{what}"
        for what in (
            *("broken", "depth", "large", "missing", "mode", "orientation", "size", "suffix", "turned", "unlabelled"),
            *("duplicate", "frames", "merged"),
        )
    },
}
