"""`mirst evaluate` on one model and a data set."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from mirst.cli.suite_option import SuiteOption, print_warnings, rounded
from mirst.errors import MirstError

if TYPE_CHECKING:
    from torch import nn

    from mirst.attacks import StandIns
    from mirst.evaluation import SuiteName
    from mirst.evaluation.progress import OnProgress
    from mirst.nn import ModelCard


@contextmanager
def shown() -> Iterator[tuple["OnProgress", list[str]]]:
    """Show progress, and print each warning about the data and the model once.

    Yields the function that receives progress, and the list of warnings about the model.
    """
    from rich.console import Console

    from mirst.display import EvaluationDisplay
    from mirst.evaluation import DataWarning, ModelWarning

    model_warnings: list[str] = []
    printed: set[str] = set()
    with warnings.catch_warnings(), EvaluationDisplay(Console(stderr=True)) as display:
        warnings.simplefilter("always", ModelWarning)
        warnings.simplefilter("always", DataWarning)
        show = warnings.showwarning

        def print_warning(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
            if issubclass(category, ModelWarning):
                model_warnings.append(str(message))
                typer.echo(f"MODEL: {message}.")
            elif issubclass(category, DataWarning):
                if str(message) not in printed:
                    typer.echo(f"Data: {message}.")
                printed.add(str(message))
            else:
                show(message, category, *place, **more)

        warnings.showwarning = print_warning
        yield partial(display.progress, ""), model_warnings


def evaluate_weak(
    model: "nn.Module",
    card: "ModelCard",
    data: Path,
    suite: SuiteOption,
    attacks: list[str],
    auc: bool,
    modality: str | None,
    out: Path | None,
) -> None:
    """Corruptions, misplaced boxes, distances, or single attacks."""
    from mirst.evaluation import attacked_auc, boxes_on, corrupt_on, curve, distances_on, evaluate_on, metrics_of
    from mirst.evaluation.corruptions import set_in_words
    from mirst.files import write_csv
    from mirst.report import constant_predictions
    from mirst.study import parse_attacks

    with shown() as (on_progress, _):
        if suite is SuiteOption.corruptions:
            clean_rows = evaluate_on(model, card, data, {})
            typer.echo(set_in_words(modality or card.modality, 3 if card.channels == 3 else 1))
            table = rows = corrupt_on(model, card, data, on_progress, modality=modality)
        elif suite is SuiteOption.boxes:
            rows = boxes_on(model, card, data, on_progress)
            clean_rows = evaluate_on(model, card, data, {})
            table = rows[rows["placement"] != "moved"]
        elif suite is SuiteOption.distances:
            rows = distances_on(model, card, data, on_progress)
            clean_rows = rows.assign(attack="none", eps=0.0)
            table = curve(rows, [level / 255 for level in range(17)], card.classes, card.positive)
        elif suite is not SuiteOption.paper:
            raise MirstError(f"--suite {suite} is for the models of a study; give its results folder")
        else:
            clean_rows = rows = evaluate_on(model, card, data, parse_attacks(attacks), on_progress, auc=auc)
            table = metrics_of(rows, card)
    typer.echo(table.to_string(index=False, float_format=rounded))
    if auc:
        typer.echo(f"AUC under the worst of all attacks for each image: {attacked_auc(rows, card):.4f}")
    print_warnings(constant_predictions(clean_rows, card.classes, card.positive))
    if out is not None:
        path = out / ("outcomes.csv" if suite is SuiteOption.paper else f"{suite}.csv")
        write_csv(path, rows)
        typer.echo(f"Rows: {path}")


def evaluate_strong(
    model: "nn.Module",
    card: "ModelCard",
    data: Path,
    suite: "SuiteName",
    eps: list[float],
    twin: "nn.Module | None",
    stand_ins: "StandIns",
    draws: int,
    auc: bool,
    out: Path | None,
) -> None:
    from mirst.evaluation import metrics_of, robustness_on
    from mirst.report import constant_predictions, verdict_lines, write_robustness

    with shown() as (on_progress, model_warnings):
        found = robustness_on(model, card, data, suite, eps, twin, stand_ins, draws, on_progress, auc=auc)
    table = metrics_of(found.rows, card)
    typer.echo("\n".join(verdict_lines(found, [])) + "\n")
    typer.echo(table.to_string(index=False, float_format=rounded))
    print_warnings(constant_predictions(found.rows, card.classes, card.positive))
    if out is not None:
        typer.echo(f"Rows, costs, verdict and curve: {write_robustness(out, found, model_warnings, table)}")


def parse_stand_ins(entries: list[str], model: "nn.Module") -> "StandIns":
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


def open_named_model(name: str, data: Path, override: list[str], trust: str | None) -> "tuple[nn.Module, ModelCard]":
    from mirst.evaluation import open_model
    from mirst.study import load_spec

    settings = load_spec(None, override).data
    return open_model(
        name,
        data,
        settings.classes,
        settings.positive,
        size=settings.size,
        channels=settings.channels,
        view=settings.view,
        margin=settings.margin,
        without_box=settings.without_box,
        trusted=trust,
    )
