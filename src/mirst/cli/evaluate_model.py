"""`mirst evaluate` on one model and a data set."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mirst.cli.answer import Answer
from mirst.cli.suite_option import SuiteOption, rounded
from mirst.errors import MirstError

if TYPE_CHECKING:
    from torch import nn

    from mirst.attacks import StandIns
    from mirst.evaluation import SuiteName
    from mirst.evaluation.progress import OnProgress
    from mirst.nn import ModelCard


@contextmanager
def shown(answer: Answer) -> Iterator[tuple["OnProgress", list[str]]]:
    """Show progress, and say each warning about the data and the model once; they are the entry `remarks`.

    Yields the function that receives progress, and the list of warnings about the model.
    """
    from rich.console import Console

    from mirst.display import EvaluationDisplay
    from mirst.evaluation import DataWarning, ModelWarning

    model_warnings: list[str] = []
    remarks: list[str] = []
    with warnings.catch_warnings(), EvaluationDisplay(Console(stderr=True)) as display:
        warnings.simplefilter("always", ModelWarning)
        warnings.simplefilter("always", DataWarning)
        show = warnings.showwarning

        def print_warning(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
            if issubclass(category, ModelWarning):
                model_warnings.append(str(message))
                remark(f"MODEL: {message}.")
            elif issubclass(category, DataWarning):
                if f"Data: {message}." not in remarks:
                    remark(f"Data: {message}.")
            else:
                show(message, category, *place, **more)

        def remark(sentence: str) -> None:
            answer.say(sentence)
            remarks.append(sentence)

        warnings.showwarning = print_warning
        yield partial(display.progress, ""), model_warnings
    answer.add(remarks=remarks)


def warn_of_training_images(model: str, card: "ModelCard", data: Path, answer: Answer) -> None:
    from mirst.data import read_dataset
    from mirst.study.image_use import training_overlap

    if Path(model).is_file():
        records = read_dataset(data, card.classes)
        count = training_overlap(Path(model), records)
        if count:
            answer.warn(
                [
                    f"{count} of {len(records)} images were used to train this model or to choose its settings: its "
                    "numbers on them say nothing about new images."
                ]
            )


def evaluate_weak(
    model: "nn.Module",
    card: "ModelCard",
    data: Path,
    suite: SuiteOption,
    attacks: list[str],
    auc: bool,
    modality: str | None,
    out: Path | None,
    answer: Answer,
) -> None:
    """Corruptions, misplaced boxes, distances, or single attacks."""
    from mirst.evaluation import attacked_auc, boxes_on, corrupt_on, curve, distances_on, evaluate_on, metrics_of
    from mirst.evaluation.corruptions import set_in_words
    from mirst.files import write_csv
    from mirst.report import constant_predictions
    from mirst.study import parse_attacks

    with shown(answer) as (on_progress, _):
        if suite is SuiteOption.corruptions:
            clean_rows = evaluate_on(model, card, data, {})
            answer.say(set_in_words(modality or card.modality, 3 if card.channels == 3 else 1))
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
    answer.say(table.to_string(index=False, float_format=rounded))
    answer.add(metrics=table)
    if auc:
        worst = attacked_auc(rows, card)
        answer.say(f"AUC under the worst of all attacks for each image: {worst:.4f}")
        answer.add(auc_attacked=worst)
    answer.warn(constant_predictions(clean_rows, card.classes, card.positive))
    if out is not None:
        path = out / ("outcomes.csv" if suite is SuiteOption.paper else f"{suite}.csv")
        write_csv(path, rows)
        answer.say(f"Rows: {path}")
        answer.add(rows=path)


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
    answer: Answer,
) -> None:
    from mirst.evaluation import metrics_of, robustness_on
    from mirst.report import constant_predictions, verdict_lines, write_robustness

    with shown(answer) as (on_progress, model_warnings):
        found = robustness_on(model, card, data, suite, eps, twin, stand_ins, draws, on_progress, auc=auc)
    table = metrics_of(found.rows, card)
    lines = verdict_lines(found, [])
    answer.say("\n".join(lines) + "\n")
    answer.say(table.to_string(index=False, float_format=rounded))
    answer.add(metrics=table, verdict=lines)
    answer.warn(constant_predictions(found.rows, card.classes, card.positive))
    if out is not None:
        written = write_robustness(out, found, model_warnings, table)
        answer.say(f"Rows, costs, verdict and curve: {written}")
        answer.add(rows=out / "outcomes.csv")


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
