"""What all displays share: progress bars on a terminal, sparse plain lines elsewhere."""

import time
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Column

PLAIN_EVERY = 30.0
"""Seconds between two plain lines about progress."""


class Lines:
    """A console with progress bars if it can animate them. Use it as a context manager.

    >>> import sys
    >>> with Lines(Console(file=sys.stdout, width=40)) as lines:
    ...     lines.line("ce-fold0-seed0: done")
    ce-fold0-seed0: done
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self.animated = can_animate(console)
        self.bars = bars(console)
        self.last_line = time.monotonic()
        self.stages: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        if self.animated:
            self.bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.animated:  # otherwise `stop` prints an empty line
            self.bars.stop()

    def line(self, text: str) -> None:
        """Print a line above the bars."""
        self.console.print(text, highlight=False, markup=False, soft_wrap=not self.animated)
        self.last_line = time.monotonic()

    def sparse_line(self, text: str) -> None:
        """Print a line if there are no bars and the last line is `PLAIN_EVERY` seconds old."""
        if not self.animated and time.monotonic() - self.last_line > PLAIN_EVERY:
            self.line(text)

    def stage(self, stage: str, done: int, items: int) -> None:
        """Update the bar of a stage of the audit, an `OnStage`."""
        if stage not in self.stages:
            self.stages[stage] = self.bars.add_task(stage, total=items, note="")
        self.bars.update(self.stages[stage], completed=done)
        if done == items:
            self.bars.remove_task(self.stages.pop(stage))
        else:
            self.sparse_line(f"{stage}: {done} of {items}")


def bars(console: Console) -> Progress:
    """One bar per task, each with a `note`; they appear when `start` is called."""
    return Progress(
        TextColumn("{task.description}", table_column=_cut()),
        BarColumn(bar_width=None, table_column=Column(ratio=1, max_width=40)),
        TextColumn("{task.completed:.0f}/{task.total:.0f}", table_column=_cut()),
        TextColumn("{task.fields[note]}", table_column=_cut()),
        TimeElapsedColumn(table_column=_cut()),
        console=console,
    )


def can_animate(console: Console) -> bool:
    """Whether lines can be redrawn: on a terminal that is not a dumb one, even if colours are forced elsewhere."""
    return console.is_interactive and console.file.isatty()


def _cut() -> Column:
    return Column(no_wrap=True, overflow="ellipsis")
