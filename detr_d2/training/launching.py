"""Starting the processes of a training, and what is said when somebody stops them or memory runs out."""

from __future__ import annotations

import argparse
import errno
import multiprocessing
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlparse

import torch
from torch.multiprocessing import ProcessExitedException

from detr_d2.checkpoint.paths import LAST_CHECKPOINT, last_checkpoint
from detr_d2.config import check_schedule, load_config
from detr_d2.errors import ConfigError, UserError
from detr_d2.training.memory import estimate, memory_in_use
from detr_d2.training.processes import Team, is_loss_of_a_process, run_in_team, silence_lost_workers, team_of_torchrun
from detr_d2.training.stopping import terminated_by_signal

from detectron2.config import CfgNode

_SECONDS_TO_END = 5.0
#: What torch says where memory, or a worker of a data loader, was lost.
_ALLOCATOR = "can't allocate memory"
_WORKER_ENDS = ("is killed by signal", "exited unexpectedly", "unable to write to file </torch_")


def launch_training(main: Callable[[argparse.Namespace], Any], args: argparse.Namespace) -> None:
    """Runs ``main(args)`` here, in the processes that ``args`` asks for, or as one of those that torchrun started.

    One of several that torchrun started ends here, with exit code 0, once all have done their work.

    Args:
        main: at the top of its module, as other processes look it up by its name.
        args: of Detectron2's ``default_argument_parser``.

    Raises:
        ConfigError: the config can't be read, or the processes can't be started as asked for.
        KeyboardInterrupt: it was interrupted; the message says how to go on.
    """
    cfg = load_config(args.config_file, args.opts)
    team = team_of(args, os.environ)
    check_processes(cfg, args, team)
    started = time.time()
    try:
        with explaining_exhaustion():
            if team.total > 1:
                run_in_team(team, cfg.MODEL.DEVICE != "cpu", _main_of_a_process, (main, args))
            else:
                _main_of_a_process(main, args)
    except KeyboardInterrupt as error:
        _end_children()
        raise type(error)(_how_to_go_on(cfg, args, started)) from None


def _main_of_a_process(main: Callable[[argparse.Namespace], Any], args: argparse.Namespace) -> Any:
    """Runs ``main(args)``; workers of its data loaders, which are forked from it, say nothing when it is ended."""
    hook = sys.excepthook
    silence_lost_workers()
    try:
        with terminated_by_signal():
            return main(args)
    finally:
        sys.excepthook = hook


def team_of(args: argparse.Namespace, environment: Mapping[str, str]) -> Team:
    """The processes that the arguments ask for, or that another program has started.

    Raises:
        ConfigError: both, or processes that can't be joined, and would each train into one folder.
    """
    found = team_of_torchrun(environment)
    count, machines = args.num_gpus, args.num_machines
    if found is None:
        steps = environment.get("SLURM_STEP_NUM_TASKS", "1")
        if steps.isdecimal() and int(steps) > max(1, machines):
            raise ConfigError(
                f"srun has started {steps} processes (SLURM_STEP_NUM_TASKS), each of which would train by itself. Let "
                "it start one torchrun on each machine, as docs/scale.md shows."
            )
        return Team(count, count * machines, args.machine_rank * count, args.dist_url)
    if count not in (1, found.local) or machines != 1:
        raise ConfigError(
            f"--num-gpus is {count} and --num-machines {machines}, and torchrun has started {found.total} processes, "
            f"{found.local} of them on this machine; leave out both options."
        )
    return found


def check_processes(cfg: CfgNode, args: argparse.Namespace, team: Team) -> None:
    """Refuses numbers of machines and processes that can't work here.

    Raises:
        ConfigError: naming the option, and what to do.
    """
    count, machines, rank, gpus = args.num_gpus, args.num_machines, args.machine_rank, torch.cuda.device_count()
    if count < 1 or machines < 1 or not 0 <= rank < machines:
        raise ConfigError(
            f"--num-gpus is {count}, --num-machines {machines} and --machine-rank {rank}; allowed are 1 and more of "
            "each, and ranks from 0 to one below the number of machines. One process is --num-gpus 1, also on a CPU."
        )
    if team.total == 1:
        return
    if cfg.MODEL.DEVICE not in ("cpu", "cuda"):
        raise ConfigError(f"MODEL.DEVICE is {cfg.MODEL.DEVICE}; several processes take a GPU each: set it to cuda.")
    if cfg.MODEL.DEVICE == "cuda" and team.local > gpus:
        option = "--num-gpus" if team.local_rank is None else "torchrun's --nproc-per-node"
        raise ConfigError(f"{option} is {team.local}, and there are {gpus} on this machine; lower it.")
    if team.local_rank is None:
        _check_address(team.address, machines, rank)
    if not args.eval_only:
        check_schedule(cfg, team.total)  # before there are several processes to say it


def _check_address(url: str, machines: int, rank: int) -> None:
    """``--dist-url``, and whether its port is free where it has to be opened."""
    parts = urlparse(url)
    if url == "auto":
        if machines > 1:
            raise ConfigError("--dist-url auto is for one machine; give an address that all reach: tcp://HOST:PORT.")
        return
    try:
        port = parts.port
    except ValueError:
        port = None
    if parts.scheme == "tcp" and parts.hostname and port:
        if rank == 0 and parts.hostname in ("127.0.0.1", "localhost"):
            _refuse_taken(port)
    elif parts.scheme not in ("file", "env"):
        raise ConfigError(f"--dist-url is {url}; allowed are auto and tcp://HOST:PORT.")


def _refuse_taken(port: int) -> None:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ConfigError(
                f"port {port} of --dist-url is taken, perhaps by another training; add --dist-url auto."
            ) from error


def _end_children() -> None:
    """The terminal has signalled them, too; who doesn't listen is ended, so that nobody has to wait."""
    deadline = time.monotonic() + _SECONDS_TO_END
    children = multiprocessing.active_children()
    for child in children:
        if not child.daemon:
            child.join(max(0.0, deadline - time.monotonic()))
    for child in children:  # all at once, or one would complain that it lost another
        child.terminate()


def _how_to_go_on(cfg: CfgNode, args: argparse.Namespace, started: float) -> str:
    """What to say after an interruption; ``started`` is the time of the start, in seconds since the epoch."""
    if args.eval_only:
        return "interrupted; nothing half-written is left."
    try:
        is_ours = args.resume or os.path.getmtime(os.path.join(cfg.OUTPUT_DIR, LAST_CHECKPOINT)) >= started
        path = last_checkpoint(cfg.OUTPUT_DIR) if is_ours else ""
    except (OSError, UserError):
        path = ""
    if path:
        return f"interrupted; the same command with --resume goes on from {path}."
    return (
        f"interrupted before the first checkpoint (SOLVER.CHECKPOINT_PERIOD is {cfg.SOLVER.CHECKPOINT_PERIOD} "
        "iterations), so that there is nothing to go on from with --resume."
    )


@contextmanager
def explaining_exhaustion(cfg: CfgNode | None = None) -> Iterator[None]:
    """Says in one sentence which keys to lower where memory, shared memory or a process was lost.

    Args:
        cfg: of the training; with it there is an estimate of what it needs.

    Raises:
        ConfigError: instead of what torch and Python raise then.
    """
    before = memory_in_use()
    try:
        yield
    except (MemoryError, RuntimeError, ProcessExitedException) as error:
        message = _explanation(error, (lambda text: estimate(cfg, text, before)) if cfg is not None else lambda _: "")
        if message is None:
            raise
        raise ConfigError(message) from error


def _explanation(error: Exception, estimated: Callable[[str], str]) -> str | None:
    text = " ".join(str(error).split())
    reason = text[text.find("DefaultCPUAllocator") :][:200] if "DefaultCPUAllocator" in text else text[:200]
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or _ALLOCATOR in text:
        return (
            f"memory ran out: {reason.rstrip('.') or 'of the main process'}. Lower SOLVER.IMS_PER_BATCH or "
            "INPUT.MAX_SIZE_TRAIN, or set MODEL.DETR.MASK_CHECKPOINT True or MODEL.DETR.TRAINING_DTYPE bfloat16. "
            + estimated(text)
        ).rstrip()
    if any(words in text for words in _WORKER_ENDS):
        return (
            f"a data-loader worker was lost, mostly for want of memory or of room in /dev/shm: {reason.rstrip('.')}. "
            "Lower DATALOADER.NUM_WORKERS, or give the machine more."
        )
    if isinstance(error, ProcessExitedException) and error.signal_name:
        return (
            f"process {error.error_index} was ended by {error.signal_name}, mostly for want of memory. Lower "
            "SOLVER.IMS_PER_BATCH, DATALOADER.NUM_WORKERS or --num-gpus."
        )
    if is_loss_of_a_process(text):
        return (
            f"another process of this run is gone, and with it the run ({reason.rstrip('.')}). What it said, or what "
            "ended it, is on its terminal and in OUTPUT_DIR's log.txt.rank1 and so on."
        )
    return None
