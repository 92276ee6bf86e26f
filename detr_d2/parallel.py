"""A function over many things in several processes, in their order, never far ahead of who takes the results.

The processes are those of this machine, or of a cluster, by Ray Data. All machines of a cluster have the same version
of this package, and the same folders at the same paths. A worker there that is ended is started again with what it was
at; whoever writes files must therefore write the same ones again.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any, TypeVar

from detr_d2.errors import ConfigError, DatasetError, StoppedError, UserError

Task = TypeVar("Task")
Result = TypeVar("Result")

#: Images looked at by more processes than this aren't read any faster.
_MOST_WORKERS = 16
_CHUNK = 8
_AHEAD = 4
#: Seconds between two looks of a process at whether the one that started it is still there.
_LOOKS = 0.5

#: Tasks that a cluster is sent at once, so that those of millions of images needn't fit into memory as Ray keeps them.
_WAVE = 100_000
#: What a worker is given at once: enough for it to read ahead, and little to do again if it is ended.
_MOST_AT_ONCE = 16
#: So often a worker is started again; an image that ends every worker would go round for ever.
_RETRIES = 3


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


def on_cluster(
    build: Callable[[], Callable[[list[Task]], list[Result]]],
    tasks: Sequence[Task],
    workers: int | None = None,
    gpus: int = 0,
) -> Generator[Result, None, None]:
    """Results in the order of the tasks.

    Args:
        build: makes the function, once in each worker: what is expensive, such as a model, is kept there. It is sent
            to the workers, as tasks and results are; errors of users in it end everything and are raised here.
        tasks: some of which the function is called with at a time; it returns a result for each, in their order.
        workers: processes; by default one for each processor of the cluster, or for each GPU.
        gpus: that each worker has.

    Raises:
        ConfigError: Ray isn't installed.
        StoppedError: the cluster can't be reached or hasn't so many processors; a worker was ended again and again, as
            the system does when memory runs out.
    """
    if not tasks:
        return
    ray = import_ray()
    with _connected(ray, workers):
        count = _worker_count(ray, workers, gpus)
        for start in range(0, len(tasks), _WAVE):
            yield from _wave(ray, build, tasks[start : start + _WAVE], count, gpus)


def import_ray() -> Any:
    """The package, with Ray Data, without its telemetry.

    Raises:
        ConfigError: it isn't installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise ConfigError(
            f"--engine ray needs Ray Data, which is missing ({error}). Install it: pip install 'detr_d2[ray]'"
        ) from error
    return ray


@contextmanager
def _connected(ray: Any, workers: int | None) -> Iterator[None]:
    """A connection to the cluster that ``RAY_ADDRESS`` names; where it names none, to one of this machine alone."""
    if ray.is_initialized():
        yield
        return
    options: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    if not os.environ.get("RAY_ADDRESS"):
        options |= {"num_cpus": workers, "include_dashboard": False}
    try:
        ray.init(**options)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise StoppedError(
            f"the cluster can't be reached: {error}. RAY_ADDRESS names it in the environment; without it Ray uses this "
            "machine alone."
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def _worker_count(ray: Any, workers: int | None, gpus: int) -> int:
    resources = ray.cluster_resources()
    most = int(resources.get("GPU", 0) // gpus if gpus else resources.get("CPU", 0))
    if not most or (workers or 0) > most:
        kind = "GPU" if gpus else "processor"
        raise StoppedError(
            f"{workers or 1} workers take a {kind} each, and the cluster has {most}. Lower --workers, or let more "
            "machines join it by 'ray start'."
        )
    return workers or most


def _wave(
    ray: Any, build: Callable[[], Any], tasks: Sequence[Task], workers: int, gpus: int
) -> Generator[Any, None, None]:
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_options.preserve_order = True
    at_once = max(1, min(_MOST_AT_ONCE, len(tasks) // (4 * workers)))
    rows = ray.data.from_items(
        [{"task": pickle.dumps(task)} for task in tasks], override_num_blocks=-(-len(tasks) // at_once)
    )
    made = rows.map_batches(
        _Worker,
        fn_constructor_args=(ray.cloudpickle.dumps(build), os.getcwd()),
        batch_size=None,  # all of a block
        compute=ray.data.ActorPoolStrategy(size=min(workers, len(tasks))),
        num_cpus=1,
        num_gpus=gpus,
        max_restarts=_RETRIES,
        max_task_retries=_RETRIES,
    )
    results = iter(made.iter_rows())
    try:
        for row in results:
            is_error, result = pickle.loads(row["result"])
            if is_error:
                raise result
            yield result
    except ray.exceptions.RayError as error:
        if isinstance(error, ray.exceptions.RayTaskError):  # a fault of the program, with its traceback
            raise
        reason = " ".join(str(error).split())[:200]
        raise StoppedError(
            f"a worker of the cluster was ended again and again, mostly for want of memory: {reason} ... What is "
            "finished is kept; the same command with fewer --workers goes on."
        ) from error
    finally:  # whoever stops before the end, by an error too, must not leave workers at work
        results.close()
        del results, made


class _Worker:
    """What runs in a process of the cluster.

    Args:
        build: pickled, see :func:`on_cluster`.
        folder: to which relative paths belong.
    """

    def __init__(self, build: bytes, folder: str) -> None:
        self._build, self._folder = build, folder
        self._function: Callable[[list[Any]], list[Any]] | None = None

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[bytes]]:
        """Pickled tasks to pickled results, each beside whether it is an error. No pickle ends with a zero byte."""
        tasks = [pickle.loads(task) for task in batch["task"]]
        try:
            if self._function is None:  # not at the start, whose errors Ray would try again
                os.chdir(self._folder)
                self._function = pickle.loads(self._build)()
            results = [(False, result) for result in self._function(tasks)]
        except (UserError, OSError) as error:
            results = [(True, error)] * len(tasks)
        return {"result": [pickle.dumps(result) for result in results]}
