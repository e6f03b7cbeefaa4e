"""Progress of `mirst evaluate` on a console."""

from rich.console import Console
from rich.progress import TaskID

from mirst.display.lines import Lines
from mirst.evaluation import Progress


class EvaluationDisplay(Lines):
    """Shows for each model which attacks are running and how many images are left.

    >>> import sys
    >>> with EvaluationDisplay(Console(file=sys.stdout, width=40)) as display:
    ...     display.end("ce-fold0-seed0")
    ce-fold0-seed0: done
    """

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self.tasks: dict[tuple[str, str], TaskID] = {}

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
        self.sparse_line(", ".join([": ".join(filter(None, key)), left]))

    def end(self, trial: str) -> None:
        """Print that the trial has ended."""
        for key in [key for key in self.tasks if key[0] == trial]:
            self._remove(key)
        self.line(f"{trial}: done")

    def _remove(self, key: tuple[str, str]) -> None:
        if key in self.tasks:
            self.bars.remove_task(self.tasks.pop(key))


def _title(progress: Progress) -> str:
    if not progress.eps:
        return "no attack" if progress.what == "none" else progress.what
    return f"{progress.what}, eps {progress.eps * 255:.3g}/255"
