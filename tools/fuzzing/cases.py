"""A case: a copy of an example with some files changed, a command that reads it in a process of its own, a verdict."""

from __future__ import annotations

import io
import json
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from detr_d2.errors import run_command
from fuzzing.guard import Guard, Limits
from fuzzing.mutations import SPECIAL, put_special, rename
from fuzzing.structures import change_content
from fuzzing.targets import IN, OUT, TARGETS, Target, choose_target, run_program

_TEXTS = (".json", ".jsonl", ".yaml", ".txt")
_ERROR_EXIT, _FAULTS_EXIT = 2, 1
#: Seconds between two looks at a process that may only wait.
_LOOKS = 1.0
#: Places of a traceback, innermost last; those outside of the project say less.
_FRAME = re.compile(r'File "([^"]+)", line (\d+)')


@dataclass
class Case:
    """What is done in a case; made from a seed and a number alone.

    Args:
        seed, number: that it follows from.
        target: see :data:`~fuzzing.targets.TARGETS`.
        changes: of files, in words.
        program: and its arguments, with the folders' names in.
    """

    seed: int
    number: int
    target: str
    changes: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)


@dataclass
class Result:
    """What became of a case.

    Args:
        case: that was run.
        kind: of the finding, such as ``traceback``; empty where everything is right.
        place: in the project's code, by which findings are counted.
        details: some lines of what was said.
        code: the exit code; None where there was none.
        seconds: of processor time.
        memory: peak, in bytes beyond what the process began with.
    """

    case: Case
    kind: str = ""
    place: str = ""
    details: str = ""
    code: int | None = None
    seconds: float = 0.0
    memory: int = 0

    def as_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def make_case(folder: Path, examples: Path, seed: int, number: int, only: str | None = None) -> Case:
    """Writes a case's files into ``folder``: ``in/``, ``out/``, ``tmp/``, ``work/``, ``home/`` and ``outside/``.

    Args:
        folder: is there.
        examples: see :func:`~fuzzing.examples.make_examples`.
        seed, number: of the case, which follows from them and the examples alone.
        only: the name of a target; by default the case chooses.
    """
    rng = random.Random(f"{seed}/{number}")
    case = Case(seed, number, choose_target(rng, only))
    target = TARGETS[case.target]
    lay_out(folder, examples, target)
    inputs = folder / "in"
    files = sorted({path for pattern in target.changed for path in inputs.glob(pattern) if path.is_file()})
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        _change(rng.choice(files), files, inputs, rng, case)
    case.command = placed(rng.choice(target.commands), folder)
    return case


def make_whole_case(folder: Path, examples: Path, target: str, command: int) -> Case:
    """A case in which nothing is damaged: the target's command, by its index, on whole examples."""
    lay_out(folder, examples, TARGETS[target])
    return Case(0, command, target, [], placed(TARGETS[target].commands[command], folder))


def lay_out(folder: Path, examples: Path, target: Target) -> None:
    """The folders of a case, with whole copies of the target's examples."""
    for name in ("in", "out", "tmp", "work", "home", "outside"):
        (folder / name).mkdir(parents=True)
    shutil.copy(examples / "inputs" / "photos" / "palette.png", folder / "outside" / "secret.png")
    for name in target.examples:
        shutil.copytree(examples / name, folder / "in" / name)
    _rename_paths(folder / "in", examples)


def placed(words: Sequence[str], folder: Path) -> list[str]:
    """A command with a case's folders in it."""
    return [word.replace(IN, str(folder / "in")).replace(OUT, str(folder / "out")) for word in words]


def _rename_paths(inputs: Path, examples: Path) -> None:
    """Files that name others name the copies."""
    for path in inputs.rglob("*"):
        if path.suffix in _TEXTS and path.is_file():
            content = path.read_bytes()
            changed = content.replace(os.fsencode(examples), os.fsencode(inputs))
            if changed != content:
                status = path.stat()
                path.write_bytes(changed)
                os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def _change(path: Path, files: list[Path], inputs: Path, rng: random.Random, case: Case) -> None:
    """One change of a file, noted in the case."""
    name = path.relative_to(inputs).as_posix()
    if not path.is_file() or path.is_symlink():
        return
    way = rng.random()
    if way < 0.12:
        kind = rng.choice(SPECIAL)
        put_special(path, kind, [other for other in files if other.is_file()], rng)
        case.changes.append(f"{name}: {kind}")
    elif way < 0.15:
        rename(path, rng)
        case.changes.append(f"{name}: renamed")
    else:
        path.write_bytes(change_content(name, path.read_bytes(), rng))
        case.changes.append(f"{name}: changed")


class Running:
    """A case in a process of its own, forked from this one, which has imported everything.

    Args:
        folder: of the case; ``make`` fills it.
        limits: of its process.
        make: makes the case, in the new process.
        run: runs a program; another one in the tests of the guard.
    """

    def __init__(
        self,
        folder: Path,
        limits: Limits,
        make: Callable[[Path], Case],
        run: Callable[[str, list[str]], int] = run_program,
    ) -> None:
        self.folder, self._limits = folder, limits
        self._looked = self._waits_since = time.monotonic()
        self._ticks = ("", "")
        folder.mkdir(parents=True)
        sys.stdout.flush()
        self.process = os.fork()
        if not self.process:
            self._child(make, run)

    def _child(self, make: Callable[[Path], Case], run: Callable[[str, list[str]], int]) -> None:
        """Never comes back."""
        try:
            _redirect(self.folder)
            case = make(self.folder)
            self._limits = self._limits.extended(TARGETS[case.target].patience)
            (self.folder / "case.json").write_text(json.dumps({"case": asdict(case), "memory": _memory_now()}))
            _be_the_case(case, self.folder, self._limits, run)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(70)

    def finished(self) -> Result | None:
        """What became of it; None while it runs. A process that only waits for somebody is ended."""
        process, status, usage = os.wait4(self.process, os.WNOHANG)
        if process:
            return self._judged(status, usage)
        if time.monotonic() - self._looked > _LOOKS:
            self._looked = time.monotonic()
            self._end_if_it_waits()
        return None

    def _end_if_it_waits(self) -> None:
        """Ends a process that has only waited for so many seconds; one that gets no processor wants to work."""
        fields = Path(f"/proc/{self.process}/stat").read_text().rpartition(")")[2].split()
        state, ticks = fields[0], (fields[11], fields[12])
        if state in "RD" or ticks != self._ticks:
            self._ticks, self._waits_since = ticks, time.monotonic()
        elif time.monotonic() - self._waits_since > self._limits.wall_seconds:
            os.kill(self.process, signal.SIGXCPU)  # it says where it is

    def _judged(self, status: int, usage: Any) -> Result:
        said = (self.folder / "stderr").read_bytes().decode("utf-8", "replace")
        made = self.folder / "case.json"
        if not made.is_file():
            raise RuntimeError(f"the case of {self.folder} can't be made: {said}")
        content = json.loads(made.read_text())
        result = Result(Case(**content["case"]), seconds=usage.ru_utime + usage.ru_stime)
        result.memory = max(usage.ru_maxrss * 1024 - content["memory"], 0)
        answer = self.folder / "answer.json"
        notes: list[str] = []
        if answer.is_file():
            content = json.loads(answer.read_text())
            result.code, notes = content["code"], content["noted"]
            if TARGETS[result.case.target].reads_outside:
                notes = [note for note in notes if not note.startswith("open: reads")]
        result.kind = self._kind(result, status, notes, said)
        if result.kind:
            result.place = notes[0].split("/")[0] if result.kind == "forbidden" else _place_in(said)
            result.details = "\n".join([*notes, *said.strip().splitlines()[-12:]])
        return result

    def _kind(self, result: Result, status: int, notes: list[str], said: str) -> str:
        """What is wrong, if anything is."""
        if notes:
            return "forbidden"
        if os.WIFSIGNALED(status) or result.code is None:
            is_slow = os.WIFSIGNALED(status) and os.WTERMSIG(status) in (signal.SIGXCPU, signal.SIGKILL)
            return "hang" if is_slow else "crash"
        if "Traceback (most recent call last)" in said:
            return "traceback"
        if result.code not in (0, _FAULTS_EXIT, _ERROR_EXIT):
            return "exit code"
        if result.code == _ERROR_EXIT and not re.search(r"error: |skipped: |^warning: ", said, re.MULTILINE):
            return "silent"
        if result.memory > self._limits.memory:
            return "memory"
        patience = TARGETS[result.case.target].patience
        return "slow" if result.seconds > self._limits.extended(patience).cpu_seconds else ""


def _be_the_case(case: Case, folder: Path, limits: Limits, run: Callable[[str, list[str]], int]) -> None:
    """Runs the command in this process, writes its exit code and what was noted, and ends the process."""
    folders = {"HOME": "home", "FVCORE_CACHE": "home", "TMPDIR": "tmp", "TORCHINDUCTOR_CACHE_DIR": "tmp"}
    os.environ.update({name: str(folder / place) for name, place in folders.items()})
    tempfile.tempdir = None
    os.chdir(folder / "work")
    limits.apply()
    writable = [folder / "out", folder / "tmp", *_outputs_among_inputs(case, folder)]
    guard = Guard(writable, folder / "outside")
    program, *words = case.command
    code = guard.watch(lambda: _code_of(program, words, run))
    sys.stdout.flush()
    sys.stderr.flush()
    (folder / "answer.json").write_text(json.dumps({"code": code, "noted": guard.noted}))
    os._exit(0)


def _memory_now() -> int:
    """Bytes of this process that are in memory; what it has used before no longer counts as its peak."""
    Path("/proc/self/clear_refs").write_text("5")
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _redirect(folder: Path) -> None:
    """What this process says goes into files, also what libraries say beside Python's streams."""
    for number, name in ((1, "stdout"), (2, "stderr")):
        descriptor = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.stdout, sys.stderr = (io.TextIOWrapper(io.FileIO(n, "w"), "utf-8", "backslashreplace") for n in (1, 2))


def _code_of(program: str, words: list[str], run: Callable[[str, list[str]], int]) -> int:
    try:
        return run_command(lambda: run(program, words))
    except SystemExit as left:
        return left.code if isinstance(left.code, int) else int(left.code is not None)
    except Exception:  # as the interpreter would say it
        traceback.print_exc()
        return _FAULTS_EXIT


def _outputs_among_inputs(case: Case, folder: Path) -> list[Path]:
    """Folders of the inputs that the command is told to write to."""
    places = [
        case.command[index + 1] for index, word in enumerate(case.command[:-1]) if word in ("--out", "OUTPUT_DIR")
    ]
    return [Path(place) for place in places if Path(place).is_relative_to(folder / "in")]


def _place_in(said: str) -> str:
    """The innermost place of the last traceback that is in the project, and its error."""
    start = max(said.rfind("Traceback (most recent call last)"), 0)
    frames = _FRAME.findall(said[start:])
    own = [(path, line) for path, line in frames if "detr_d2/" in path or path.endswith(("train_net.py", "demo.py"))]
    path, line = (own or frames or [("", "0")])[-1]
    lines = said.strip().splitlines()
    error = lines[-1].split(":")[0][:60] if lines else ""
    return f"{Path(path).name}:{line} {error}"
