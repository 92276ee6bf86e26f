"""What a command may do while it reads damaged files, watched by audit events, and how much of everything it may use.

Source: Python's table of audit events (PEP 578).
"""

from __future__ import annotations

import faulthandler
import os
import resource
import signal
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

#: A word in what would run if code of a file were run; wherever it is compiled or executed, something was.
CANARY = "fuzz_canary"
_STARTS = ("os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.forkpty", "subprocess.Popen", "pty.spawn")
_TALKS = ("socket.connect", "socket.bind", "socket.sendto", "socket.getaddrinfo", "socket.gethostbyname")
_CODE = ("cpython.run_command", "cpython.run_file", "code.__new__", "function.__new__", "webbrowser.open")
#: Of each event that changes files, the places of paths in its arguments, and of what the first of them starts at.
_CHANGES = {
    "os.remove": (0,),
    "os.rename": (0, 1),
    "os.mkdir": (0,),
    "os.rmdir": (0,),
    "os.link": (0, 1),
    "os.symlink": (1,),
    "os.truncate": (0,),
    "os.chmod": (0,),
    "os.chown": (0,),
    "os.utime": (0,),
}
_FOLDER_ARGUMENT = {"os.remove": 1, "os.rename": 2, "os.mkdir": 2, "os.rmdir": 1, "os.chmod": 2, "os.utime": 3}
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
#: What numpy's arrays in a pickle ask for, and what the project itself keeps packed in memory.
_PICKLED = ("numpy", "collections", "_codecs", "copyreg", "torch", "detr_d2", "detectron2", "pathlib")
_NEVER_PICKLED = {"numpy.testing", "torch.hub", "torch.jit", "torch.utils.cpp_extension"}
#: Programs that say where the code comes from and what machine this is.
_HARMLESS_PROGRAMS = {"git", "uname", "nvidia-smi", "lscpu", "ldconfig", "gcc", "cc", "file", "which"}


class Limits(NamedTuple):
    """What a case may use.

    Args:
        cpu_seconds: of processor time; beyond it the case hangs.
        wall_seconds: by the clock, in which it does nothing but wait.
        memory: bytes beyond what the process had before.
        file_size: bytes of any file that it writes.
    """

    cpu_seconds: int = 10
    wall_seconds: int = 60
    memory: int = 2**30
    file_size: int = 2**27

    def extended(self, patience: int) -> Limits:
        """The limits of what takes so many times as long where nothing is wrong."""
        return self._replace(cpu_seconds=patience * self.cpu_seconds)

    def apply(self) -> None:
        """Sets them for this process, which ends with the places of all its threads where it takes too long."""
        faulthandler.register(signal.SIGXCPU, chain=True)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        used = resource.getrusage(resource.RUSAGE_SELF)
        seconds = int(used.ru_utime + used.ru_stime) + self.cpu_seconds
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 5))
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        # Twice the bound: what is asked for and never touched is no memory used.
        room = pages * resource.getpagesize() + 2 * self.memory
        resource.setrlimit(resource.RLIMIT_AS, (room, room))
        resource.setrlimit(resource.RLIMIT_FSIZE, (self.file_size, self.file_size))


class Guard:
    """Notes, and refuses, what a command does outside of its folders.

    Args:
        writable: folders below which files may be made, changed and removed.
        secret: a folder that nothing is read from.
    """

    def __init__(self, writable: Iterable[Path], secret: Path) -> None:
        self.noted: list[str] = []
        self._writable = tuple(os.path.realpath(folder) for folder in writable)
        self._secret = os.path.realpath(secret)
        self._active = False
        sys.addaudithook(self._look)

    def watch(self, function: Callable[[], Any]) -> Any:
        """What ``function`` returns, watched while it runs."""
        self._active = True
        try:
            return function()
        finally:
            self._active = False

    def _look(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self._active:
            return
        self._active = False  # what is looked up here isn't looked at
        try:
            complaint = self._complaint(event, arguments)
        finally:
            self._active = True
        if complaint:
            self.noted.append(f"{event}: {complaint}"[:300])
            raise PermissionError(f"the fuzz doesn't let it: {event} {complaint}")

    def _complaint(self, event: str, arguments: tuple[Any, ...]) -> str | None:
        if event == "open":
            return self._of_open(*arguments)
        if event in _CHANGES:
            return self._of_change(event, arguments)
        if event in _STARTS:
            return _of_program(event, arguments)
        if event in _TALKS:
            return repr(arguments[1:])
        if event == "pickle.find_class":
            module, name = arguments[:2]
            is_known = module.split(".")[0] in _PICKLED and module not in _NEVER_PICKLED
            return None if is_known else f"{module}.{name}"
        if event in ("compile", "exec", "import", *_CODE):
            return "code of a file" if CANARY in _text(arguments) else None
        return None

    def _of_open(self, path: Any, mode: Any, flags: Any) -> str | None:
        if not isinstance(path, str | bytes | os.PathLike):
            return None
        place = os.path.realpath(os.fsdecode(path))
        if isinstance(flags, int) and flags & _WRITING and not self._may_write(place):
            return f"writes {place}"
        return f"reads {place}" if _is_below(place, self._secret) else None

    def _of_change(self, event: str, arguments: tuple[Any, ...]) -> str | None:
        for index in _CHANGES[event]:
            path = arguments[index]
            if not isinstance(path, str | bytes | os.PathLike):
                continue
            folder = arguments[_FOLDER_ARGUMENT[event] + index] if event in _FOLDER_ARGUMENT else -1
            start = os.readlink(f"/proc/self/fd/{folder}") if isinstance(folder, int) and folder >= 0 else os.curdir
            above, name = os.path.split(os.path.join(start, os.fsdecode(path)))
            place = os.path.join(os.path.realpath(above), name)  # a link itself is what is changed
            if not self._may_write(place):
                return f"changes {place}"
        return None

    def _may_write(self, place: str) -> bool:
        return place == os.devnull or any(_is_below(place, folder) for folder in self._writable)


def _is_below(place: str, folder: str) -> bool:
    return place == folder or place.startswith(folder + os.sep)


def _of_program(event: str, arguments: tuple[Any, ...]) -> str | None:
    program = os.path.basename(os.fsdecode(arguments[0])) if arguments else ""
    return None if event == "subprocess.Popen" and program in _HARMLESS_PROGRAMS else repr(arguments[:2])


def _text(arguments: tuple[Any, ...]) -> str:
    """All of the arguments that a canary could be in."""
    parts = []
    for value in arguments:
        if hasattr(value, "co_names"):
            value = (value.co_names, value.co_consts, value.co_filename)
        parts.append(value if isinstance(value, str) else repr(value) if isinstance(value, bytes | tuple) else "")
    return " ".join(parts)
