"""Loading, making and writing overlap, and give what a loop would give."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from detr_d2.prediction import pipeline
from detr_d2.prediction.pipeline import overlapped


@pytest.mark.parametrize("batch", [1, 3, 100])
def test_results_are_those_of_a_loop_in_order(batch: int) -> None:
    sizes = []

    def make(loaded: list[int]) -> list[int]:
        sizes.append(len(loaded))
        return [2 * one for one in loaded]

    found = list(overlapped(range(10), lambda n: n + 1, make, lambda n, made: (n, made), batch=batch))

    assert found == [(n, (n, 2 * (n + 1))) for n in range(10)]
    assert max(sizes) == min(batch, 10)


def test_only_alike_items_are_made_at_once() -> None:
    groups: list[list[int]] = []

    def make(loaded: list[int]) -> list[int]:
        groups.append(loaded)
        return loaded

    list(overlapped([1, 3, 2, 4, 6, 5], int, make, lambda n, m: m, batch=2, is_alike=lambda a, b: a % 2 == b % 2))

    assert groups == [[1, 3], [2, 4], [6], [5]]


def test_failure_to_load_costs_one_item_and_other_errors_stop_all() -> None:
    def load(number: int) -> int:
        if number == 1:
            raise ValueError("broken")
        return number

    found = list(overlapped(range(3), load, list, lambda n, made: made, failures=(ValueError,)))

    assert sorted(item for item, _ in found) == [0, 1, 2]
    assert isinstance(dict(found)[1], ValueError)
    with pytest.raises(ValueError, match="broken"):
        list(overlapped(range(3), load, list, lambda n, made: made))


def test_loading_and_writing_go_on_beside_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded, written = threading.Event(), threading.Event()

    def load(number: int) -> int:
        if number == 1:
            loaded.set()
        return number

    def make(group: list[int]) -> list[int]:
        assert loaded.wait(20), "the second item is loaded while the first one is made"
        if group == [1]:
            assert written.wait(20), "the first item is written while the second one is made"
        return group

    def write(number: int, made: int) -> int:
        written.set()
        return made

    assert len(list(overlapped(range(2), load, make, write))) == 2


def test_no_more_than_a_few_items_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline.os, "cpu_count", lambda: 2)
    asked = 0

    def items() -> Iterator[int]:
        nonlocal asked
        for number in range(1000):
            asked = number
            yield number

    steps = overlapped(items(), int, list, lambda n, made: made)
    for _ in range(5):
        next(steps)
    steps.close()

    assert asked < 5 + 3 * pipeline.AHEAD + 3
