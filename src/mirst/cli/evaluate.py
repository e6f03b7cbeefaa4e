"""`mirst evaluate`: attacks or corruptions, on a model or on a whole study."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from mirst.cli.evaluation_input import require_effect, require_folder
from mirst.cli.options import EngineOption, GpusOption, JobsOption, RayAddressOption, SetOption, TrustOption
from mirst.cli.run import engine_of
from mirst.cli.stop import stops_in_order
from mirst.errors import MirstError

if TYPE_CHECKING:
    from torch import nn

    from mirst.attacks import StandIns
    from mirst.evaluation import SuiteName
    from mirst.evaluation.progress import OnProgress
    from mirst.nn import ModelCard
    from mirst.study import Engine


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
    stand_in: Annotated[
        list[str] | None,
        typer.Option(
            "--stand-in",
            metavar="LAYER=FACTORY",
            help="For adaptive: differentiate this instead: package.module:factory or identity; repeatable.",
        ),
    ] = None,
    draws: Annotated[
        int, typer.Option("--draws", help="For adaptive: calls of a randomised model that a gradient is averaged over.")
    ] = 1,
    attack: Annotated[
        list[str] | None,
        typer.Option("--attack", help="Instead of the suite: fgsm, pgd, cw, or {name: pgd, steps: 100}; repeatable."),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder for the rows, and the curve over eps.")] = None,
    override: SetOption = None,
    jobs: JobsOption = None,
    engine: EngineOption = "local",
    ray_address: RayAddressOption = None,
    gpus_per_trial: GpusOption = None,
    trust: TrustOption = None,
) -> None:
    """Attack or corrupt a model on every image of a data set, or all models of a study on their test folds."""
    from mirst.nn import reference_mode
    from mirst.study import load_spec, parse_eps

    strong = suite in (Suite.standard, Suite.adaptive)
    if eps and not strong:
        raise MirstError(
            "--eps is for --suite standard or adaptive; other attacks take theirs: --attack '{name: pgd, eps: 8/255}'"
        )
    if source and suite is not Suite.adaptive:
        raise MirstError("--source is for transfer; add --suite adaptive")
    if (stand_in or draws != 1) and suite is not Suite.adaptive:
        raise MirstError("--stand-in and --draws are for adaptive attacks; add --suite adaptive")
    if attack and suite is not Suite.paper:
        raise MirstError(f"--attack and --suite {suite} exclude each other; leave one out")
    radii = parse_eps(eps or "5/255") if strong else []
    require_effect(override or [], [model, *([source] if source else [])])
    if Path(model).is_dir():
        if source or attack or out or stand_in or draws != 1:
            raise MirstError(
                f"{model} is a study: its results are written into it; leave out --source, --stand-in, --draws, "
                "--attack and --out"
            )
        _study(Path(model), data, suite, radii, engine_of(engine, jobs, ray_address, gpus_per_trial))
        return
    if engine != "local" or ray_address is not None or gpus_per_trial is not None or jobs is not None:
        raise MirstError(
            "--jobs, --engine, --ray-address and --gpus-per-trial are for the trials of a study; leave them out"
        )
    if data is None:
        raise MirstError("name the images to evaluate on with --data PATH")
    if out is not None:
        require_folder(out, [data, *map(Path, (model, source or model))])
    with reference_mode(not load_spec(None, override or []).training.fast):
        opened, card = _open(model, data, override or [], trust)
        if strong:
            twin = None if source is None else _open(source, data, override or [], trust)[0]
            layers = _stand_ins(stand_in or [], opened)
            _strong(opened, card, data, cast("SuiteName", suite.value), radii, twin, layers, draws, out)
        else:
            _weak(opened, card, data, suite, attack or ["fgsm", "pgd", "cw"], out)


@stops_in_order("the same command goes on with the trials that are left")
def _study(folder: Path, data: Path | None, suite: Suite, eps: list[float], engine: "Engine") -> None:
    from rich.console import Console

    from mirst.display import EvaluationDisplay
    from mirst.report import constant_predictions, every_row, write_report
    from mirst.study import attack_study, corrupt_study, locked, measure_distances, read_results

    if suite is Suite.paper:
        raise MirstError(
            f"{folder} is a study, which has its attacks already; add --suite standard, adaptive, distances "
            "or corruptions"
        )
    with locked(folder), EvaluationDisplay(Console(stderr=True)) as display:
        analyse: Callable[..., Path] = {
            Suite.corruptions: corrupt_study,
            Suite.distances: measure_distances,
        }.get(suite, partial(attack_study, suite=cast("SuiteName", suite.value), eps=eps))
        rows = analyse(folder, data=data, engine=engine, on_trial=display.end, on_progress=display.progress)
    results = read_results(folder)
    page = write_report(folder, trusted=results.spec.model.name)
    _print_study(folder, suite)
    _warn(constant_predictions(every_row(results), results.classes, results.positive))
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


@contextmanager
def _shown() -> Iterator[tuple["OnProgress", list[str]]]:
    """Shows progress, and prints once what the data and the checks of the model warn of.

    Gives the place to on_progress, and the sentences about the model.
    """
    from rich.console import Console

    from mirst.display import EvaluationDisplay
    from mirst.evaluation import DataWarning, ModelWarning

    flaws: list[str] = []
    left_out: set[str] = set()
    with warnings.catch_warnings(), EvaluationDisplay(Console(stderr=True)) as display:
        warnings.simplefilter("always", ModelWarning)
        warnings.simplefilter("always", DataWarning)
        show = warnings.showwarning

        def told(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
            if issubclass(category, ModelWarning):
                flaws.append(str(message))
                typer.echo(f"MODEL: {message}.")
            elif issubclass(category, DataWarning):
                if str(message) not in left_out:
                    typer.echo(f"Data: {message}.")
                left_out.add(str(message))
            else:
                show(message, category, *place, **more)

        warnings.showwarning = told
        yield partial(display.progress, ""), flaws


def _weak(
    model: "nn.Module", card: "ModelCard", data: Path, suite: Suite, attacks: list[str], out: Path | None
) -> None:
    """Corruptions, distances, or single attacks."""
    from mirst.evaluation import corrupt_on, curve, distances_on, evaluate_on, metrics_of
    from mirst.files import write_csv
    from mirst.report import constant_predictions
    from mirst.study import parse_attacks

    with _shown() as (on_progress, _):
        if suite is Suite.corruptions:
            answers = evaluate_on(model, card, data, {})
            table = rows = corrupt_on(model, card, data, on_progress)
        elif suite is Suite.distances:
            rows = distances_on(model, card, data, on_progress)
            answers = rows.assign(attack="none", eps=0.0)
            table = curve(rows, [level / 255 for level in range(17)], card.classes, card.positive)
        else:
            answers = rows = evaluate_on(model, card, data, parse_attacks(attacks), on_progress)
            table = metrics_of(rows, card)
    typer.echo(table.to_string(index=False, float_format=_rounded))
    _warn(constant_predictions(answers, card.classes, card.positive))
    if out is not None:
        path = out / ("outcomes.csv" if suite is Suite.paper else f"{suite}.csv")
        write_csv(path, rows)
        typer.echo(f"Rows: {path}")


def _strong(
    model: "nn.Module",
    card: "ModelCard",
    data: Path,
    suite: "SuiteName",
    eps: list[float],
    twin: "nn.Module | None",
    stand_ins: "StandIns",
    draws: int,
    out: Path | None,
) -> None:
    from mirst.evaluation import metrics_of, robustness_on
    from mirst.report import constant_predictions, verdict_lines, write_robustness

    with _shown() as (on_progress, flaws):
        found = robustness_on(model, card, data, suite, eps, twin, stand_ins, draws, on_progress)
    table = metrics_of(found.rows, card)
    typer.echo("\n".join(verdict_lines(found, [])) + "\n")
    typer.echo(table.to_string(index=False, float_format=_rounded))
    _warn(constant_predictions(found.rows, card.classes, card.positive))
    if out is not None:
        typer.echo(f"Rows, costs, verdict and curve: {write_robustness(out, found, flaws, table)}")


def _stand_ins(entries: list[str], model: "nn.Module") -> "StandIns":
    """By layer, from LAYER=package.module:factory or LAYER=identity; on the device of the model."""
    from torch import nn

    from mirst.attacks.stand_in import Layer
    from mirst.nn import load_factory
    from mirst.nn.device import device_of

    found: dict[Layer, nn.Module] = {}
    for entry in entries:
        layer, equals, factory = entry.partition("=")
        if not (layer and equals and factory) or layer in found:
            raise MirstError(
                f"--stand-in {entry}: write LAYER=package.module:factory or LAYER=identity, once for each layer"
            )
        stand_in = nn.Identity() if factory == "identity" else load_factory(factory)
        found[layer] = stand_in.eval().to(device_of(model))
    return found


def _warn(sentences: "list[str]") -> None:
    for sentence in sentences:
        typer.echo(f"WARNING: {sentence}")


def _open(name: str, data: Path, override: list[str], trust: str | None) -> "tuple[nn.Module, ModelCard]":
    from mirst.evaluation import open_model
    from mirst.study import load_spec

    told = load_spec(None, override).data
    return open_model(name, data, told.classes, told.positive, size=told.size, channels=told.channels, trusted=trust)
