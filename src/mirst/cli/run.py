"""What `mirst run` and `mirst demo` share: a study is run, listened to, and reported."""

import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from mirst.errors import MirstError

if TYPE_CHECKING:
    from mirst.study import Plan, Step, StudySpec


class _Terminated(KeyboardInterrupt):
    """SIGTERM, which stops a study as Ctrl-C does."""


def run_and_report(
    spec: "StudySpec", out: Path, jobs: int | None, *, quiet: bool, json_lines: bool, track: str | None
) -> None:
    """Run a study, tell of it as it goes, and write its report."""
    from rich.console import Console

    from mirst.display import JsonLines, StudyDisplay
    from mirst.report import write_report
    from mirst.study import run_study
    from mirst.tracking import open_tracker

    if quiet and json_lines:
        raise MirstError("--quiet and --json exclude each other; name one")
    display = JsonLines(typer.echo) if json_lines else StudyDisplay(Console(quiet=quiet))
    listeners = [display, *([] if track is None else [open_tracker(track, out)])]

    def plan(told: "Plan") -> None:
        for listener in listeners:
            listener.plan(told)

    def step(told: "Step") -> None:
        for listener in listeners:
            listener.step(told)

    signal.signal(signal.SIGTERM, _terminate)
    try:
        with display:
            run_study(spec, out, jobs=jobs, on_plan=plan, on_step=step)
    except KeyboardInterrupt as stop:
        typer.echo("Stopped; the same command goes on from here.", err=True)
        raise typer.Exit(143 if isinstance(stop, _Terminated) else 130) from None
    display.result(out, write_report(out))


def _terminate(*_: Any) -> None:
    raise _Terminated
