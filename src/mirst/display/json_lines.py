"""Progress as JSON lines, for programs."""

import json
import math
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

from mirst.display.clock import Clock
from mirst.evaluation import Progress
from mirst.study import Plan, Step


class JsonLines:
    """One JSON object a line; the guide lists the keys.

    `event` is `plan`, `epoch`, `kill`, `end`, `certificates` or `result`.

    >>> with JsonLines(print) as lines:
    ...     lines.result(Path("results"), Path("results/report.html"))
    {"event": "result", "results": "results", "report": "results/report.html"}
    """

    def __init__(self, write: Callable[[str], object]) -> None:
        self.write = write
        self.clock = Clock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def stage(self, stage: str, done: int, items: int) -> None:
        pass

    def plan(self, plan: Plan) -> None:
        self.clock.plan(plan)
        names = {"done": plan.done, "reused": plan.reused, "epochs": plan.epochs, "jobs": plan.jobs}
        self._write("plan", pending=list(plan.pending), **names, remarks=list(plan.remarks))

    def step(self, step: Step) -> None:
        self.clock.step(step)
        if step.retry:
            self._write("kill", trial=step.trial, killed=step.killed, retry=step.retry)
        elif step.epoch is None:
            self._write("end", trial=step.trial, diverged=step.diverged, killed=step.killed)
        else:
            self._write("epoch", trial=step.trial, **asdict(step.epoch), seconds_left=self.clock.left())

    def certificates(self, trial: str, progress: Progress) -> None:
        self._write("certificates", trial=trial, **progress._asdict())

    def held_out(self, trial: str, progress: Progress) -> None:
        self._write("held_out", trial=trial, **progress._asdict())

    def result(self, results: Path, report: Path) -> None:
        self._write("result", results=str(results), report=str(report))

    def _write(self, event: str, **fields: Any) -> None:
        self.write(as_json({"event": event, **fields}))


def as_json(value: Any) -> str:
    """`value` on one line; numbers that JSON lacks, such as NaN, become null.

    >>> as_json({"auc": float("nan")})
    '{"auc": null}'
    """
    return json.dumps(_finite(value), allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
