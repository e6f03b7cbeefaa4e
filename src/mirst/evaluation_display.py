"""Progress of `mirst evaluate`: bars on a terminal, sparse plain lines elsewhere."""

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import TaskID

from mirst.display import PLAIN_EVERY, bars, can_animate
from mirst.evaluation import Progress


class EvaluationDisplay:
    """Shows for each model which attacks are at work and how many images are left."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.animated = can_animate(console)
        self.bars = bars(console)
        self.tasks: dict[tuple[str, str], TaskID] = {}
        self.last_line = time.monotonic()

    def __enter__(self) -> Self:
        if self.animated:
            self.bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.animated:  # else `stop` prints an empty line
            self.bars.stop()

    def progress(self, trial: str, progress: Progress) -> None:
        """Update the bar of an attack; `trial` is empty for a single model."""
        title = _title(progress)
        left = "" if progress.images is None else f"{progress.images - progress.done} images left"
        key = (trial, title)
        if progress.done == progress.images:
            self._remove(key)
            return
        if key not in self.tasks:
            self.tasks[key] = self.bars.add_task(": ".join(filter(None, key)), total=progress.images or 0, note=left)
        self.bars.update(self.tasks[key], completed=progress.done, note=left)
        if not self.animated and time.monotonic() - self.last_line > PLAIN_EVERY:
            self._line(", ".join([": ".join(filter(None, key)), left]))

    def end(self, trial: str) -> None:
        """Say that the trial has ended."""
        for key in [key for key in self.tasks if key[0] == trial]:
            self._remove(key)
        self._line(f"{trial}: done")

    def _remove(self, key: tuple[str, str]) -> None:
        if key in self.tasks:
            self.bars.remove_task(self.tasks.pop(key))

    def _line(self, text: str) -> None:
        self.console.print(text, highlight=False, markup=False, soft_wrap=not self.animated)
        self.last_line = time.monotonic()


def _title(progress: Progress) -> str:
    if not progress.eps:
        return "no attack" if progress.what == "none" else progress.what
    return f"{progress.what}, eps {progress.eps * 255:.3g}/255"
