"""What `mirst run` and `mirst demo` share: a study is run, listened to, and reported."""

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from mirst.errors import MirstError

if TYPE_CHECKING:
    from mirst.study import Engine, Plan, Step, StudySpec


def open_engine(
    name: str, spec: "StudySpec", jobs: int | None, address: str | None = None, gpus: float | None = None
) -> "AbstractContextManager[Engine]":
    """The engine of that name, for this study.

    Raises:
        MirstError: no such engine, or an option that belongs to another one.
    """
    from mirst.study import Local

    if name not in ("local", "ray"):
        raise MirstError(f"--engine is {name}; choose local or ray")
    if name == "local":
        if address is not None or gpus is not None:
            raise MirstError("--ray-address and --gpus-per-trial belong to --engine ray; add it or leave them out")
        return nullcontext(Local(jobs))
    from mirst.study.engines.ray import ray_engine

    return ray_engine(address, jobs=jobs, gpus=gpus, model=spec.model.name)


def run_and_report(
    spec: "StudySpec",
    out: Path,
    engine: "AbstractContextManager[Engine]",
    *,
    quiet: bool,
    json_lines: bool,
    track: str | None,
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

    with display, engine as opened:
        run_study(spec, out, engine=opened, on_plan=plan, on_step=step)
    display.result(out, write_report(out, trusted=spec.model.name))
