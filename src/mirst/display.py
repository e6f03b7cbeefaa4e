"""Progress of a running study: on the terminal, in plain lines where there is none, in JSON lines for machines."""

import json
import math
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.markdown import Markdown
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Column

from mirst.study import Estimate, Plan, Status, Step
from mirst.study.layout import StudyFolder

PLAIN_EVERY = 30.0
"""Seconds between two plain lines about epochs."""


class StudyDisplay:
    """Shows trials, epochs, losses and the time left."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.animated = can_animate(console)
        self.bars = bars(console)
        self.clock = Clock()
        self.overall: TaskID | None = None
        self.tasks: dict[str, TaskID] = {}
        self.last_line = time.monotonic()

    def __enter__(self) -> Self:
        if self.animated:
            self.bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bars.stop()

    def plan(self, plan: Plan) -> None:
        self.clock.plan(plan)
        for remark in plan.remarks:
            self._line(f"Data: {remark}")
        before = f", {plan.done} done before" if plan.done else ""
        before += f" ({plan.reused} reused)" if plan.reused else ""
        self._line(f"{plan.done + len(plan.pending)} trials of {plan.epochs} epochs{before}; {plan.jobs} at a time")
        if plan.weights is not None:
            self._line(f"Weights: {plan.weights}")
        self.overall = self.bars.add_task("all epochs", total=len(plan.pending) * plan.epochs, note="")

    def step(self, step: Step) -> None:
        self.clock.step(step)
        seconds = self.clock.left()
        left = "time left not known yet" if seconds is None else f"{timedelta(seconds=round(seconds))} left"
        if step.epoch is None:
            left = f"it is retried {step.retry}" if step.retry else left
            self._end(step.trial, step.diverged or step.killed or "done", left)
            return
        note = f"loss {step.epoch.loss:.3f}"
        if step.trial not in self.tasks:
            self.tasks[step.trial] = self.bars.add_task(step.trial, total=self.clock.epochs, note=note)
        self.bars.update(self.tasks[step.trial], completed=step.epoch.number, note=note)
        if self.overall is not None:
            self.bars.update(self.overall, completed=self.clock.finished(), note=left)
        if not self.animated and time.monotonic() - self.last_line > PLAIN_EVERY:
            self._line(f"{step.trial}: epoch {step.epoch.number}/{self.clock.epochs}, {note}; {left}")

    def result(self, results: Path, report: Path) -> None:
        """The table, and where to find more: of all this a quiet console shows only the place."""
        show_table(self.console, results)
        print(f"Results: {results}\nReport: {report}", file=self.console.file)

    def _end(self, trial: str, how: str, left: str) -> None:
        if trial in self.tasks:
            self.bars.remove_task(self.tasks.pop(trial))
        self._line(f"{trial}: {how}; {left}")

    def _line(self, text: str) -> None:
        self.console.print(text, highlight=False, markup=False, soft_wrap=not self.animated)
        self.last_line = time.monotonic()


def show_table(console: Console, results: Path) -> None:
    """Print `table.md` of a results folder."""
    table = StudyFolder(results).paper_table.read_text(encoding="utf-8")
    shown = Markdown(table) if console.is_terminal else table
    console.print(shown, highlight=False, markup=False, soft_wrap=True)


def bars(console: Console) -> Progress:
    """A bar per task, which has a `note`, drawn once `start` is called."""
    return Progress(
        TextColumn("{task.description}", table_column=_cut()),
        BarColumn(bar_width=None, table_column=Column(ratio=1, max_width=40)),
        TextColumn("{task.completed:.0f}/{task.total:.0f}", table_column=_cut()),
        TextColumn("{task.fields[note]}", table_column=_cut()),
        TimeElapsedColumn(table_column=_cut()),
        console=console,
    )


class JsonLines:
    """One JSON object a line: `event` is `plan`, `epoch`, `kill`, `end` or `result`; the keys are told in the guide."""

    def __init__(self, write: Callable[[str], object]) -> None:
        self.write = write
        self.clock = Clock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def plan(self, plan: Plan) -> None:
        self.clock.plan(plan)
        names = {"done": plan.done, "reused": plan.reused, "epochs": plan.epochs, "jobs": plan.jobs}
        self._tell("plan", pending=list(plan.pending), **names, remarks=list(plan.remarks))

    def step(self, step: Step) -> None:
        self.clock.step(step)
        if step.retry:
            self._tell("kill", trial=step.trial, killed=step.killed, retry=step.retry)
        elif step.epoch is None:
            self._tell("end", trial=step.trial, diverged=step.diverged, killed=step.killed)
        else:
            self._tell("epoch", trial=step.trial, **asdict(step.epoch), seconds_left=self.clock.left())

    def result(self, results: Path, report: Path) -> None:
        self._tell("result", results=str(results), report=str(report))

    def _tell(self, event: str, **fields: Any) -> None:
        self.write(as_json({"event": event, **fields}))


def as_json(value: Any) -> str:
    """`value` on one line; numbers that JSON does not know, such as NaN, become null."""
    return json.dumps(_finite(value), allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def can_animate(console: Console) -> bool:
    """Whether lines can be drawn over: on a terminal that is not a dumb one, whatever colours are forced."""
    return console.is_interactive and console.file.isatty()


def _cut() -> Column:
    return Column(no_wrap=True, overflow="ellipsis")


class ByteLines:
    """A line for every tenth of a download, or every 10 MB of one of unknown size."""

    def __init__(self, write: Callable[[str], object]) -> None:
        self.write = write
        self.told = 0

    def __call__(self, there: int, total: int | None) -> None:
        if there - self.told < (total or 10**8) / 10:
            return
        self.told = there
        whole = "" if total is None else f" of {total / 1e6:.1f}"
        self.write(f"{there / 1e6:.1f}{whole} MB")


class Clock:
    """Estimates the time left from the epochs seen so far of each defense."""

    def plan(self, plan: Plan) -> None:
        self.epochs, self.jobs = plan.epochs, plan.jobs
        self.left_of = dict.fromkeys(plan.pending, plan.epochs)
        self.defense_of = plan.pending
        self.planned = len(plan.pending) * plan.epochs
        self.seen: defaultdict[str, list[float]] = defaultdict(list)
        self.last = dict.fromkeys(plan.pending, 0.0)
        """When a trial's last epoch ended; 0 before its first."""

    def step(self, step: Step) -> None:
        now = time.monotonic()
        if step.epoch is None:
            self.last[step.trial] = 0.0
            self.left_of[step.trial] = self.left_of[step.trial] if step.retry else 0
            return
        if self.last[step.trial]:
            self.seen[self.defense_of[step.trial]].append(now - self.last[step.trial])
        self.last[step.trial] = now
        self.left_of[step.trial] = self.epochs - step.epoch.number

    def finished(self) -> int:
        """Epochs done, of all that were planned."""
        return self.planned - sum(self.left_of.values())

    def left(self) -> float | None:
        """Seconds to the end; a defense not seen yet is taken to cost what the others do."""
        everything = [seconds for times in self.seen.values() for seconds in times]
        if not everything:
            return None
        total = 0.0
        for trial, epochs in self.left_of.items():
            times = self.seen.get(self.defense_of[trial]) or everything
            total += epochs * sum(times) / len(times)
        return total / min(self.jobs, max(1, sum(epochs > 0 for epochs in self.left_of.values())))


def estimate_text(estimate: Estimate) -> str:
    """What to know of the data, a table of the defenses, and a sentence about the whole study."""
    remarks = [f"Data: {remark}" for remark in estimate.remarks]
    done = f"{estimate.done} trials are done already"
    if not estimate.columns:
        return "\n".join([*remarks, f"Nothing left to run: all {done}."])
    head = ("defense", "trials", "a trial", "an epoch at full eps", "memory of a worker")
    rows = [
        (c.title, str(c.trials), _duration(c.trial_seconds), _duration(c.epoch_seconds), _size(c.memory))
        for c in estimate.columns
    ]
    widths = [max(map(len, cells)) for cells in zip(head, *rows, strict=True)]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in (head, *rows)]
    memory = f"about {_size(estimate.memory)} of memory"
    if estimate.gpu_memory:
        memory += f" and {_size(estimate.gpu_memory)} of the GPU's"
    left = f"; {done}" if estimate.done else ""
    at_once = f"{min(estimate.jobs, estimate.trials)} at a time"
    about = f"About {_duration(estimate.seconds)} for {estimate.trials} trials, {at_once}; {memory}{left}."
    return "\n".join([*remarks, *lines, about])


def _duration(seconds: float) -> str:
    """To about two digits: 41 s, 4.1 min, 5 h 10 min, 3 days 4 h."""
    minutes, hours = round(seconds / 60), round(seconds / 3600)
    if seconds < 99.5:
        return f"{seconds:.2g} s"
    if minutes < 99.5:
        return f"{seconds / 60:.2g} min"
    if hours < 48:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{hours // 24} days {hours % 24} h"


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB"


def status_text(status: Status) -> str:
    """Counts, who runs it, and every trial that is not simply done or waiting."""
    counts = Counter(trial.state for trial in status.trials)
    told = ", ".join(
        f"{counts[state]} {state}" for state in ("done", "running", "diverged", "killed", "waiting") if counts[state]
    )
    lines = [
        f"{len(status.trials)} trials: {told}. " + (f"In use by {status.holder}." if status.holder else "Not running.")
    ]
    for trial in status.trials:
        if trial.state == "running":
            lines.append(f"{trial.trial}: epoch {trial.epochs}/{status.epochs}")
        elif trial.reason is not None:
            lines.append(f"{trial.trial}: {trial.reason}")
    return "\n".join(lines)
