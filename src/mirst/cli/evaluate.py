"""`mirst evaluate`: attacks or corruptions, on a model or on a whole study."""

from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from mirst.cli.options import JobsOption, SetOption, TrustOption
from mirst.cli.stop import stops_in_order
from mirst.errors import MirstError

if TYPE_CHECKING:
    from torch import nn

    from mirst.evaluation import SuiteName
    from mirst.nn import ModelCard


class Suite(StrEnum):
    paper = "paper"
    standard = "standard"
    adaptive = "adaptive"
    distances = "distances"
    corruptions = "corruptions"


def evaluate(
    model: Annotated[
        str,
        typer.Argument(
            help="A model.safetensors that mirst wrote, package.module:factory, or a study's results folder."
        ),
    ],
    data: Annotated[Path | None, typer.Option("--data", help="Images that the model was not trained on.")] = None,
    suite: Annotated[
        Suite,
        typer.Option(
            "--suite",
            help="The paper's weak attacks, strong ones, adaptive ones, the smallest eps that breaks each image, "
            "or natural corruptions.",
        ),
    ] = Suite.paper,
    eps: Annotated[
        str | None, typer.Option("--eps", help="Radii for standard and adaptive: 1/255,2/255,5/255; 5/255 by default.")
    ] = None,
    source: Annotated[
        str | None, typer.Option("--source", help="Model whose attacks are transferred, for adaptive.")
    ] = None,
    attack: Annotated[
        list[str] | None,
        typer.Option("--attack", help="Instead of the suite: fgsm, pgd, cw, or {name: pgd, steps: 100}; repeatable."),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder for the rows, and the curve over eps.")] = None,
    override: SetOption = None,
    jobs: JobsOption = None,
    trust: TrustOption = None,
) -> None:
    """Attack or corrupt a model on every image of a data set, or all models of a study on their test folds."""
    from mirst.nn import plainly
    from mirst.study import load_spec, parse_eps

    strong = suite in (Suite.standard, Suite.adaptive)
    if eps and not strong:
        raise MirstError(
            "--eps is for --suite standard or adaptive; other attacks take theirs: --attack '{name: pgd, eps: 8/255}'"
        )
    if source and suite is not Suite.adaptive:
        raise MirstError("--source is for transfer; add --suite adaptive")
    if attack and suite is not Suite.paper:
        raise MirstError(f"--attack and --suite {suite} exclude each other; leave one out")
    radii = parse_eps(eps or "5/255") if strong else []
    if Path(model).is_dir():
        if source or attack or out:
            raise MirstError(
                f"{model} is a study: its results are written into it; leave out --source, --attack and --out"
            )
        _study(Path(model), data, suite, radii, jobs)
        return
    if data is None:
        raise MirstError("name the images to evaluate on with --data PATH")
    with plainly(not load_spec(None, override or []).training.fast):
        _model(model, data, suite, radii, source, attack or ["fgsm", "pgd", "cw"], out, override or [], trust)


@stops_in_order("the same command goes on with the trials that are left")
def _study(folder: Path, data: Path | None, suite: Suite, eps: list[float], jobs: int | None) -> None:
    from rich.console import Console

    from mirst.evaluation_display import EvaluationDisplay
    from mirst.report import write_report
    from mirst.study import attack_study, corrupt_study, locked, measure_distances

    if suite is Suite.paper:
        raise MirstError(
            f"{folder} is a study, which has its attacks already; add --suite standard, adaptive, distances "
            "or corruptions"
        )
    with locked(folder), EvaluationDisplay(Console(stderr=True)) as display:
        if suite is Suite.corruptions:
            rows = corrupt_study(folder, data, display.end, display.progress)
        elif suite is Suite.distances:
            rows = measure_distances(folder, data=data, jobs=jobs, on_trial=display.end, on_progress=display.progress)
        else:
            rows = attack_study(
                folder, _strong(suite), eps, data=data, jobs=jobs, on_trial=display.end, on_progress=display.progress
            )
    page = write_report(folder)
    _print_study(folder, suite)
    typer.echo(f"Rows: {rows}\nReport: {page}")


def _print_study(folder: Path, suite: Suite) -> None:
    from rich.console import Console

    from mirst.display import show_table
    from mirst.report import corruption_grid, f1_over_eps
    from mirst.study import read_results

    if suite is Suite.corruptions:
        grid = corruption_grid(read_results(folder), "f1")
        assert grid is not None
        typer.echo("F1, mean over folds and seeds:\n" + grid.to_string(float_format=_rounded))
    elif suite is Suite.distances:
        curves = f1_over_eps(read_results(folder))
        typer.echo("F1, pooled over folds and seeds, at eps:\n" + curves.to_string(float_format=_rounded))
    else:
        show_table(Console(), folder)


def _rounded(value: float) -> str:
    return f"{value:.4f}"


def _model(
    name: str,
    data: Path,
    suite: Suite,
    eps: list[float],
    source: str | None,
    attacks: list[str],
    out: Path | None,
    override: list[str],
    trust: str | None,
) -> None:
    from rich.console import Console

    from mirst.evaluation import corrupt_on, curve, distances_on, evaluate_on, metrics_of, robustness_on
    from mirst.evaluation_display import EvaluationDisplay
    from mirst.files import write_csv
    from mirst.report import verdict_lines, write_robustness
    from mirst.study import parse_attacks

    model, card = _open(name, data, override, trust)
    twin = None if source is None else _open(source, data, override, trust)[0]
    with EvaluationDisplay(Console(stderr=True)) as display:
        tell = partial(display.progress, "")
        if suite is Suite.corruptions:
            table = rows = corrupt_on(model, card, data, tell)
        elif suite is Suite.distances:
            rows = distances_on(model, card, data, tell)
            table = curve(rows, [level / 255 for level in range(17)], card.classes, card.positive)
        elif suite is Suite.paper:
            rows = evaluate_on(model, card, data, parse_attacks(attacks), tell)
            table = metrics_of(rows, card)
        else:
            found, flaws = robustness_on(model, card, data, _strong(suite), eps, twin, tell)
            table = metrics_of(found.rows, card)
    if suite in (Suite.standard, Suite.adaptive):
        typer.echo("\n".join(verdict_lines(found, flaws)) + "\n")
    typer.echo(table.to_string(index=False, float_format=_rounded))
    if out is None:
        return
    if suite in (Suite.standard, Suite.adaptive):
        typer.echo(f"Rows, costs, verdict and curve: {write_robustness(out, found, flaws, table)}")
    else:
        path = out / ("outcomes.csv" if suite is Suite.paper else f"{suite}.csv")
        write_csv(path, rows)
        typer.echo(f"Rows: {path}")


def _open(name: str, data: Path, override: list[str], trust: str | None) -> "tuple[nn.Module, ModelCard]":
    from mirst.evaluation import open_model
    from mirst.study import load_spec

    told = load_spec(None, override).data
    return open_model(name, data, told.classes, told.positive, size=told.size, channels=told.channels, trusted=trust)


def _strong(suite: Suite) -> "SuiteName":
    return cast("SuiteName", suite.value)
