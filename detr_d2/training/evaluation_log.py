"""``evaluations.jsonl``: a line for every evaluation of a training, and what can be read from it."""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from detectron2.engine import HookBase
from detectron2.utils import comm

logger = logging.getLogger(__name__)

FILE = "evaluations.jsonl"


class AfterEvaluation(HookBase):
    """What happens after each evaluation of Detectron2's ``EvalHook``, behind which it comes.

    Args:
        eval_period: that of the ``EvalHook``.
    """

    def __init__(self, eval_period: int) -> None:
        self._period = eval_period

    def after_step(self) -> None:
        """Every ``eval_period`` iterations, but not in the last."""
        done = self.trainer.iter + 1
        if self._period > 0 and done % self._period == 0 and done != self.trainer.max_iter:
            self.evaluated(is_last=False)

    def after_train(self) -> None:
        """After the last iteration."""
        if self.trainer.iter + 1 >= self.trainer.max_iter:
            self.evaluated(is_last=True)

    def evaluated(self, is_last: bool) -> None:
        """Called after an evaluation; ``is_last``: training is over."""
        raise NotImplementedError


class EvaluationLog(AfterEvaluation):
    """Appends each evaluation to ``evaluations.jsonl``, and keeps those of the run so far, resumed ones included.

    A line has "iteration", "time" (UTC), "lr", "total_loss" (the training's, median of 20 iterations), and every result
    by its name in ``metrics.json``; null where there is nothing to judge.

    Args:
        eval_period: that of the ``EvalHook``.
        folder: the run's output folder.
    """

    def __init__(self, eval_period: int, folder: str) -> None:
        super().__init__(eval_period)
        self.path = Path(folder) / FILE
        self.evaluations: list[dict[str, Any]] = []
        self.has_last = False

    def before_train(self) -> None:
        """A resumed run goes on from what it has found out before."""
        self.read()

    def read(self) -> None:
        """Reads what the file has of the run that begins; who needs it before the hooks' turn may ask for it."""
        known = read_evaluations(self.path) if self.path.is_file() else []
        start = self.trainer.start_iter
        self.evaluations = [line for line in known if line["iteration"] < start]
        # The final evaluation of a shorter run stands there with the number of its iterations.
        self.has_last = any(line["iteration"] in (start - 1, start) for line in known)

    def evaluated(self, is_last: bool) -> None:
        storage = self.trainer.storage
        line: dict[str, Any] = {
            "iteration": storage.iter,
            "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        }
        histories = storage.histories()
        line |= {"lr": histories["lr"].latest()} if "lr" in histories else {}
        line |= {"total_loss": histories["total_loss"].median(20)} if "total_loss" in histories else {}
        line |= dict(_flat(getattr(self.trainer, "_last_eval_results", None) or {}))
        line = {name: _json_number(value) for name, value in line.items()}
        self.evaluations.append(line)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path, "ab+") as file:
            # A run that was killed may have left a line without its end.
            is_cut = file.tell() > 0 and file.seek(-1, os.SEEK_END) >= 0 and file.read(1) != b"\n"
            file.write((b"\n" if is_cut else b"") + json.dumps(line, allow_nan=False).encode() + b"\n")


class MissedEvaluation(HookBase):
    """Evaluates first where a run was cut off between a checkpoint and the evaluation after the same iteration.

    Args:
        eval_period: that of the ``EvalHook``.
        log: the run's evaluations; None in processes that aren't the main one.
        evaluation: the hooks that evaluate, and deal with the results.
    """

    def __init__(self, eval_period: int, log: EvaluationLog | None, evaluation: Sequence[HookBase]) -> None:
        self._period, self._log, self._evaluation = eval_period, log, evaluation

    def before_train(self) -> None:
        """Raises what the hooks raise."""
        done = self.trainer.start_iter
        if not 0 < done < self.trainer.max_iter or self._period <= 0 or done % self._period:
            return
        if comm.all_gather(self._log is not None and not self._log.has_last)[0]:
            logger.info("The evaluation after iteration %d is made up for.", done - 1)
            with in_iteration_before(self.trainer):
                for hook in self._evaluation:
                    hook.after_step()


@contextmanager
def in_iteration_before(trainer: Any) -> Iterator[None]:
    """Within, a trainer that is about to start is in the iteration that its checkpoint was written in."""
    trainer.iter = trainer.storage.iter = trainer.start_iter - 1
    try:
        yield
    finally:
        trainer.iter = trainer.storage.iter = trainer.start_iter


def read_evaluations(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """The evaluations of a run, in order of iterations.

    Lines that are incomplete, as a run that was killed leaves them, are left out. When a run was started again in the
    same folder, its lines replace the older ones from there on.

    Args:
        path: an ``evaluations.jsonl``.

    Raises:
        FileNotFoundError: there is no such file.
    """
    lines: list[dict[str, Any]] = []
    for text in Path(path).read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            line = json.loads(text)
            iteration = line["iteration"]
            _ = iteration < math.inf
        except (ValueError, KeyError, TypeError, RecursionError):
            logger.info("Left out a line of %s that isn't complete: %.60s", path, text)
            continue
        lines = [earlier for earlier in lines if earlier["iteration"] < iteration] + [line]
    return lines


def _flat(results: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested results by the names that they have in ``metrics.json``."""
    for name, value in results.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}/")
        else:
            yield prefix + name, value


def _json_number(value: Any) -> Any:
    """Numbers of any library as JSON has them; what isn't finite, or no number, is null."""
    if isinstance(value, str | int):
        return value
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None
