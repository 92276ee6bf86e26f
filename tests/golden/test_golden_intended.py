"""Every intended difference from a golden result has its reason, and every reason its difference."""

from __future__ import annotations

from tests.golden.intended import REASONS
from tests.golden.store import intended_cases, reason


def test_every_difference_has_a_reason() -> None:
    assert [f"{group}/{case}" for group, case in intended_cases() if not reason(group, case)] == []


def test_every_reason_is_needed() -> None:
    used = {reason(group, case) for group, case in intended_cases()}

    assert set(REASONS.values()) == used - {None}
