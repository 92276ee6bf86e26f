"""A function over many things in several processes, in their order, never far ahead of who takes the results."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from detr_d2.errors import DatasetError

Task = TypeVar("Task")
Result = TypeVar("Result")

#: Images looked at by more processes than this aren't read any faster.
_MOST_WORKERS = 16
_CHUNK = 8
_AHEAD = 4
#: Seconds between two looks of a process at whether the one that started it is still there.
_LOOKS = 0.5


def in_processes(
    function: Callable[[Task], Result], tasks: Sequence[Task], workers: int, smallest: int = 64
) -> Generator[Result, None, None]:
    """Results in the order of the tasks.

    Args:
        function: of a module, as processes import it.
        tasks: what to call it with.
        workers: processes; 1: this one does it all.
        smallest: fewer tasks than this aren't worth starting processes.

    Raises:
        DatasetError: a process was ended from outside, as the system does when memory runs out.
    """
    if workers <= 1 or len(tasks) < smallest:
        yield from map(function, tasks)
        return
    method = "fork" if sys.platform.startswith("linux") else "spawn"
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(
        workers, mp_context=multiprocessing.get_context(method), initializer=_begin, initargs=(os.getpid(),)
    )
    waiting: deque[tuple[Future[list[Result]], Sequence[Task]]] = deque()
    try:
        for start in range(0, len(tasks), _CHUNK):
            chunk = tasks[start : start + _CHUNK]
            waiting.append((pool.submit(_each, function, chunk), chunk))
            if len(waiting) >= _AHEAD * workers:
                yield from _result(function, *waiting.popleft())
        while waiting:
            yield from _result(function, *waiting.popleft())
    except BrokenProcessPool as error:
        raise DatasetError(
            "a process that looked at images was ended, as happens when memory runs out. "
            "Try again with --workers 1, or --quick."
        ) from error
    except (KeyboardInterrupt, GeneratorExit):  # nobody takes what they are at any more
        for process in set(multiprocessing.active_children()) - others:
            process.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _begin(parent: int) -> None:
    """Sees that this process ends with its parent: at once and without a word at Ctrl-C, and also if that is killed."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_LOOKS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _result(function: Callable[[Task], Result], future: Future[list[Result]], chunk: Sequence[Task]) -> list[Result]:
    """What a process found; this one does what is nested too deeply to be sent to another."""
    try:
        return future.result()
    except RecursionError:
        return _each(function, chunk)


def default_workers() -> int:
    """As many processes as this one may use processors."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(available, _MOST_WORKERS)


def _each(function: Callable[[Task], Result], tasks: Sequence[Task]) -> list[Result]:
    return [function(task) for task in tasks]
