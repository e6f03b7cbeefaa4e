"""Progress of a running study on a console."""

from datetime import timedelta
from pathlib import Path

from rich.console import Console
from rich.markdown import Markdown
from rich.progress import TaskID

from mirst.display.clock import Clock
from mirst.display.lines import Lines
from mirst.evaluation import Progress
from mirst.study import Plan, Step
from mirst.study.layout import StudyFolder


class StudyDisplay(Lines):
    """Shows trials, epochs, losses and the time left.

    >>> import sys
    >>> with StudyDisplay(Console(file=sys.stdout, width=80)) as display:
    ...     display.line("ce-fold0-seed0: done; 0:01:20 left")
    ce-fold0-seed0: done; 0:01:20 left
    """

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self.clock = Clock()
        self.overall: TaskID | None = None
        self.tasks: dict[str, TaskID] = {}

    def plan(self, plan: Plan) -> None:
        self.clock.plan(plan)
        for remark in plan.remarks:
            self.line(f"Data: {remark}")
        before = f", {plan.done} already done" if plan.done else ""
        before += f" ({plan.reused} reused)" if plan.reused else ""
        self.line(f"{plan.done + len(plan.pending)} trials of {plan.epochs} epochs{before}; {plan.jobs} in parallel")
        if plan.weights is not None:
            self.line(f"Weights: {plan.weights}")
        self.overall = self.bars.add_task("all epochs", total=len(plan.pending) * plan.epochs, note="")

    def step(self, step: Step) -> None:
        self.clock.step(step)
        seconds = self.clock.left()
        left = "remaining time not yet known" if seconds is None else f"{timedelta(seconds=round(seconds))} left"
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
        self.sparse_line(f"{step.trial}: epoch {step.epoch.number}/{self.clock.epochs}, {note}; {left}")

    def certificates(self, trial: str, progress: Progress) -> None:
        """Update the bar of a trial's certificates."""
        self._analysis(f"{trial}: certificates", progress)

    def held_out(self, trial: str, progress: Progress) -> None:
        """Update the bar of a trial's test on the images that are held out."""
        self._analysis(f"{trial}: held-out images", progress)

    def _analysis(self, key: str, progress: Progress) -> None:
        note = f"{progress.what}, eps {progress.eps * 255:.3g}/255" if progress.eps else progress.what
        if key not in self.tasks:
            self.tasks[key] = self.bars.add_task(key, total=progress.images or 0, note=note)
        self.bars.update(self.tasks[key], completed=progress.done, note=note)
        self.sparse_line(f"{key}, {note}")

    def result(self, results: Path, report: Path) -> None:
        """Print the table and the paths of the results; a quiet console shows only the paths."""
        show_table(self.console, results)
        print(f"Results: {results}\nReport: {report}", file=self.console.file)

    def _end(self, trial: str, how: str, left: str) -> None:
        if trial in self.tasks:
            self.bars.remove_task(self.tasks.pop(trial))
        self.line(f"{trial}: {how}; {left}")


def show_table(console: Console, results: Path) -> None:
    """Print `table.md` of a results folder."""
    table = StudyFolder(results).paper_table.read_text(encoding="utf-8")
    shown = Markdown(table) if console.is_terminal else table
    console.print(shown, highlight=False, markup=False, soft_wrap=True)
