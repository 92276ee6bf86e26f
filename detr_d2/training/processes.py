"""Processes that work together: started here or by torchrun, on CPUs and GPUs alike, with any detectron2.

Detectron2's own ``launch`` gives its processes to GPUs wherever there are some, doesn't know torchrun, and says of a
process that was killed only what the others noticed of it.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import socket
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, NoReturn

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.elastic.multiprocessing.errors import record
from torch.multiprocessing import ProcessExitedException, ProcessRaisedException, start_processes

from detr_d2.backend import backend_report
from detr_d2.errors import INTERRUPTED_EXIT_CODE, TERMINATED_EXIT_CODE, ConfigError, Terminated
from detr_d2.training.stopping import forwarding_signals, interruption

from detectron2.engine import defaults
from detectron2.utils import comm

#: How long processes wait for one that is alive and says nothing, as in Detectron2; one that is gone is noticed sooner.
TIMEOUT = timedelta(minutes=30)
#: What torchrun sets for each of its processes.
_TORCHRUN = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
#: What gloo and NCCL say in the other processes when one is gone.
_LOST = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "remote process exited", "DistNetwork")


class Team(NamedTuple):
    """Processes that work together.

    Args:
        local: how many there are on this machine.
        total: on all machines.
        first: rank of this machine's first.
        address: where they meet, as ``torch.distributed`` takes it.
        local_rank: which one of this machine's this process is, where another program has started them; None: they are
            to be started.
    """

    local: int
    total: int
    first: int
    address: str
    local_rank: int | None = None


def team_of_torchrun(environment: Mapping[str, str]) -> Team | None:
    """The team that torchrun, or what sets the same variables, has put this process into; None: it is alone.

    Raises:
        ConfigError: the variables say that there are several processes, but not enough to join them.
    """
    size = environment.get("WORLD_SIZE", "1")
    if not (size.isascii() and size.isdecimal()) or int(size) < 2:
        return None
    absent = [name for name in _TORCHRUN if not environment.get(name)]
    numbers = [environment.get(name, "") for name in _TORCHRUN[:4]]
    if absent or not all(number.isascii() and number.isdecimal() for number in numbers):
        wrong = " and ".join(absent or [f"{name}={number}" for name, number in zip(_TORCHRUN, numbers)])
        raise ConfigError(
            f"WORLD_SIZE is {size}: a launcher has started {size} processes, each of which would train by itself, as "
            f"{wrong} {'is missing' if absent else 'says nothing'} to join them by. Use torchrun, or start "
            f"train_net.py once, without a launcher, with --num-gpus {size}."
        )
    rank, local_rank, total, local = map(int, numbers)
    if total % local or not 0 <= local_rank < local or not 0 <= rank < total:
        raise ConfigError(
            f"RANK is {rank}, LOCAL_RANK {local_rank}, WORLD_SIZE {total} and LOCAL_WORLD_SIZE {local}, which don't go "
            "together. Start as many processes on each machine, with torchrun."
        )
    return Team(local, total, rank - local_rank, "env://", local_rank)


def run_in_team(team: Team, on_gpus: bool, work: Callable[..., Any], args: Sequence[Any]) -> None:
    """Runs ``work(*args)`` in each process of a team, and returns when all have returned.

    A process that torchrun has started ends here, with exit code 0, when the work is done.

    Args:
        team: of several processes.
        on_gpus: each has a GPU, by its number on its machine.
        work: at the top of its module, as other processes look it up by its name.
        args: of it; they can be pickled.

    Raises:
        ProcessExitedException: a process was killed, or ended without a word.
        ProcessRaisedException: one raised an exception, whose traceback is in the message.
        KeyboardInterrupt: a signal came, and the processes have ended, or it came twice.
    """
    if team.local_rank is not None:
        # Which writes an error where torchrun finds it.
        record(_join_and_work)(team.local_rank, team, on_gpus, work, args)
        _end_process(0)
    if team.address == "auto":
        with socket.create_server(("127.0.0.1", 0)) as free:
            team = team._replace(address=f"tcp://127.0.0.1:{free.getsockname()[1]}")
    with tempfile.TemporaryDirectory() as folder:
        arguments = (folder, team, on_gpus, work, args)
        with forwarding_signals():
            context = start_processes(_process, arguments, team.local, join=False)
            try:
                while not context.join():
                    pass
            except ProcessExitedException as error:
                if error.exit_code in (INTERRUPTED_EXIT_CODE, TERMINATED_EXIT_CODE):
                    raise interruption(error.exit_code - 128) from None
                raise _reason(error, context.processes, Path(folder)) from None


def silence_lost_workers() -> None:
    """Threads that hand tensors to another process say nothing when it is gone, here and in processes forked later."""
    hook = sys.excepthook

    def unless_the_other_end_is_gone(
        kind: type[BaseException], error: BaseException, trace: TracebackType | None
    ) -> None:
        in_thread = threading.current_thread() is not threading.main_thread()
        if not (in_thread and isinstance(error, (EOFError, ConnectionError))):
            hook(kind, error, trace)

    sys.excepthook = unless_the_other_end_is_gone


def is_loss_of_a_process(message: str) -> bool:
    """Whether an error only says that another process is gone, which has said itself why, or was killed."""
    return any(words in message for words in _LOST)


def _process(local_rank: int, folder: str, team: Team, on_gpus: bool, work: Callable[..., Any], args: Any) -> NoReturn:
    """One of this machine's processes; an error goes to a file in ``folder``."""
    silence_lost_workers()  # also while it ends
    try:
        _join_and_work(local_rank, team, on_gpus, work, args)
    except KeyboardInterrupt as error:  # the process that started it says so
        _end_process(TERMINATED_EXIT_CODE if isinstance(error, Terminated) else INTERRUPTED_EXIT_CODE)
    except Exception:
        Path(folder, str(local_rank)).write_text(traceback.format_exc(), encoding="utf-8", errors="backslashreplace")
        _end_process(1)
    _end_process(0)


def _join_and_work(local_rank: int, team: Team, on_gpus: bool, work: Callable[..., Any], args: Sequence[Any]) -> None:
    if on_gpus:
        torch.cuda.set_device(local_rank)
    elif "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // team.local))
    meeting: dict[str, Any] = {"init_method": team.address, "world_size": team.total, "timeout": TIMEOUT}
    dist.init_process_group("nccl" if on_gpus else "gloo", rank=team.first + local_rank, **meeting)
    comm.create_local_process_group(team.local)
    if not on_gpus:
        _let_detectron2_train_on_cpus()
    comm.synchronize()
    work(*args)
    comm.synchronize()


def _let_detectron2_train_on_cpus() -> None:
    """An installed Detectron2 names a GPU for the model of each process, also where the model has none."""
    if backend_report().name != "installed":
        return
    create = defaults.create_ddp_model  # type: ignore[attr-defined]

    def create_ddp_model(model: nn.Module, **options: Any) -> nn.Module:
        on_cpu = all(parameter.device.type == "cpu" for parameter in model.parameters())
        wrapped: nn.Module = create(model, **({"device_ids": None} if on_cpu else {}), **options)
        return wrapped

    defaults.create_ddp_model = create_ddp_model  # type: ignore[attr-defined]


def _end_process(code: int) -> NoReturn:
    """An ordinary exit now and then aborts, or waits for ever, in the threads of gloo."""
    logging.shutdown()
    for child in multiprocessing.active_children():
        child.terminate()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _reason(error: ProcessExitedException, processes: Sequence[Any], folder: Path) -> Exception:
    """Why the team has ended: what was the first to happen, and not what it led to in the other processes.

    Args:
        error: of the process that was seen to end first; two may have ended before anybody looked.
        processes: all of this machine's, which have ended.
        folder: with what they raised.
    """
    texts = {int(path.name): path.read_text(encoding="utf-8") for path in folder.iterdir()}
    # The others were terminated by SIGTERM.
    killed = {i: -p.exitcode for i, p in enumerate(processes) if p.exitcode < 0 and p.exitcode != -signal.SIGTERM}
    if not error.signal_name:
        raised = [index for index, text in texts.items() if not is_loss_of_a_process(text)]
        raised.sort(key=lambda index: index != error.error_index)
        chosen = raised or ([] if killed else list(texts))
        if chosen:
            message = f"\n\n-- Process {chosen[0]} terminated with the following error:\n{texts[chosen[0]]}"
            return ProcessRaisedException(message, chosen[0], processes[chosen[0]].pid)
    if not killed or error.signal_name:
        return error
    index, number = next(iter(killed.items()))
    name = signal.Signals(number).name
    return ProcessExitedException(
        f"process {index} terminated with signal {name}",
        error_index=index,
        error_pid=processes[index].pid,
        exit_code=-number,
        signal_name=name,
    )
