"""Decoding, network and writing at the same time: threads before and behind the network, never far from it."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Loaded = TypeVar("Loaded")
Made = TypeVar("Made")
Written = TypeVar("Written")

#: Items a thread that are loaded before the network asks for them, and results that wait to be written.
AHEAD = 3


def overlapped(
    items: Iterable[Item],
    load: Callable[[Item], Loaded],
    make: Callable[[list[Loaded]], list[Made]],
    write: Callable[[Item, Made], Written],
    *,
    batch: int = 1,
    is_alike: Callable[[Loaded, Loaded], bool] = lambda first, second: True,
    failures: tuple[type[Exception], ...] = (),
) -> Iterator[tuple[Item, Written | Exception]]:
    """Each item with what was written of it.

    Args:
        items: to be worked on.
        load: of an item, in a thread of its own; on many cores in several.
        make: the network, in this thread.
        write: of an item and what was made of it, in other threads.
        batch: items that are made at once.
        is_alike: whether what was loaded of two items may be made at once.
        failures: errors of ``load`` that cost the one item; they come in the place of what was written.

    Returns:
        In the items' order, but that those which failed come as soon as they do.

    Raises:
        Exception: whatever ``load``, ``make`` and ``write`` raise beside ``failures``; what waits then is left.
    """
    threads = min(4, max(1, (os.cpu_count() or 1) // 2))
    loader, writer = ThreadPoolExecutor(threads, "load"), ThreadPoolExecutor(threads, "write")
    ahead = AHEAD * threads
    writing: deque[tuple[Item, Future[Written]]] = deque()
    group: list[tuple[Item, Loaded]] = []

    def make_group() -> None:
        made = make([loaded for _, loaded in group]) if group else []
        writing.extend((item, writer.submit(write, item, one)) for (item, _), one in zip(group, made, strict=True))
        group.clear()

    try:
        for item, loading in _ahead(loader, load, items, batch + ahead):
            try:
                loaded = loading.result()
            except failures as error:
                yield item, error
                continue
            if group and not is_alike(group[-1][1], loaded):
                make_group()
            group.append((item, loaded))
            if len(group) >= batch:
                make_group()
            while len(writing) > ahead:
                item, written = writing.popleft()
                yield item, written.result()
        make_group()
        for item, written in writing:
            yield item, written.result()
    finally:
        for pool in (loader, writer):
            pool.shutdown(wait=True, cancel_futures=True)


def _ahead(
    pool: Executor, function: Callable[[Item], Loaded], items: Iterable[Item], ahead: int
) -> Iterator[tuple[Item, Future[Loaded]]]:
    waiting: deque[tuple[Item, Future[Loaded]]] = deque()
    for item in items:
        waiting.append((item, pool.submit(function, item)))
        if len(waiting) > ahead:
            yield waiting.popleft()
    yield from waiting
