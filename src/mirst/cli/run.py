"""What `mirst run`, `mirst demo` and `mirst evaluate` share: engines, and a study with its progress and report."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from mirst.errors import MirstError

if TYPE_CHECKING:
    from mirst.study import Engine, Plan, Step, StudySpec


def engine_of(name: str, jobs: int | None, address: str | None = None, gpus: float | None = None) -> "Engine":
    """The engine of that name.

    Raises:
        MirstError: no such engine, or an option that belongs to another one.
    """
    from mirst.study import ENGINES

    if name not in ENGINES:
        raise MirstError(f"--engine is {name}; choose {' or '.join(ENGINES)}")
    if name != "ray" and (address is not None or gpus is not None):
        raise MirstError("--ray-address and --gpus-per-trial need --engine ray; add it or leave them out")
    return ENGINES[name](jobs=jobs) if name != "ray" else ENGINES[name](jobs=jobs, gpus=gpus, address=address)


def run_and_report(
    spec: "StudySpec",
    out: Path,
    engine: "Engine",
    *,
    quiet: bool,
    json_lines: bool,
    track: str | None,
) -> None:
    """Run a study, show its progress, and write its report."""
    from rich.console import Console

    from mirst.display import JsonLines, StudyDisplay
    from mirst.report import write_report
    from mirst.study import run_study
    from mirst.tracking import open_tracker

    if quiet and json_lines:
        raise MirstError("--quiet and --json cannot be combined; leave one out")
    display = JsonLines(typer.echo) if json_lines else StudyDisplay(Console(quiet=quiet))
    listeners = [display, *([] if track is None else [open_tracker(track, out)])]

    def on_plan(plan: "Plan") -> None:
        for listener in listeners:
            listener.plan(plan)

    def on_step(step: "Step") -> None:
        for listener in listeners:
            listener.step(step)

    with display:
        run_study(
            spec,
            out,
            engine=engine,
            on_stage=display.stage,
            on_plan=on_plan,
            on_step=on_step,
            on_certificates=display.certificates,
            on_held_out=display.held_out,
        )
    display.result(out, write_report(out, trusted=spec.model.name))
