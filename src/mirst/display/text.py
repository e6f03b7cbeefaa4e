"""Estimates, states and downloads in plain text."""

from collections import Counter
from collections.abc import Callable

from mirst.study import Estimate, Status


class ByteLines:
    """Writes a line for every tenth of a download, or every 10 MB if its size is unknown.

    >>> ByteLines(print)(5_000_000, 10_000_000)
    5.0 of 10.0 MB
    """

    def __init__(self, write: Callable[[str], object]) -> None:
        self.write = write
        self.reported = 0

    def __call__(self, there: int, total: int | None) -> None:
        if there - self.reported < (total or 10**8) / 10:
            return
        self.reported = there
        whole = "" if total is None else f" of {total / 1e6:.1f}"
        self.write(f"{there / 1e6:.1f}{whole} MB")


def estimate_text(estimate: Estimate) -> str:
    """Remarks on the data, a table of the defenses, and a sentence about the whole study."""
    remarks = [f"Data: {remark}" for remark in estimate.remarks]
    done = f"{estimate.done} trials are done"
    if not estimate.columns:
        return "\n".join([*remarks, f"Nothing left to run: all {done}."])
    head = ("defense", "trials", "a trial", "an epoch at full eps", "memory of a worker")
    rows = [
        (c.title, str(c.trials), _duration(c.trial_seconds), _duration(c.epoch_seconds), _memory(c.memory))
        for c in estimate.columns
    ]
    widths = [max(map(len, cells)) for cells in zip(head, *rows, strict=True)]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in (head, *rows)]
    memory = f"about {_size(estimate.memory)} of memory" if estimate.memory else "unknown memory"
    if estimate.gpu_memory:
        memory += f" and {_size(estimate.gpu_memory)} of the GPU's"
    left = f"; {done}" if estimate.done else ""
    at_once = f"{min(estimate.jobs, estimate.trials)} in parallel"
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


def _memory(count: int) -> str:
    return _size(count) if count else "unknown"


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB"


def status_text(status: Status) -> str:
    """Counts, who runs the study, and every trial that is neither done nor waiting."""
    counts = Counter(trial.state for trial in status.trials)
    words = {"running": "running" if status.holder else "interrupted"}
    states = ", ".join(
        f"{counts[state]} {words.get(state, state)}"
        for state in ("done", "running", "diverged", "killed", "waiting")
        if counts[state]
    )
    lines = [
        f"{len(status.trials)} trials: {states}. "
        + (f"In use by {status.holder}." if status.holder else "Not running.")
    ]
    for trial in status.trials:
        if trial.state == "running":
            lines.append(f"{trial.trial}: epoch {trial.epochs}/{status.epochs}")
        elif trial.reason is not None:
            lines.append(f"{trial.trial}: {trial.reason}")
    return "\n".join(lines)
