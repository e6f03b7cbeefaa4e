"""`mirst evaluate` on a study: all of its models, each on its own test fold."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from mirst.cli.answer import Answer
from mirst.cli.stop import stops_in_order
from mirst.cli.suite_option import SuiteOption, rounded
from mirst.errors import MirstError

if TYPE_CHECKING:
    from mirst.study import Engine, Results


@stops_in_order("run the same command again to continue with the remaining trials")
def evaluate_study(
    folder: Path,
    data: Path | None,
    suite: SuiteOption,
    eps: list[float],
    auc: bool,
    modality: str | None,
    engine: "Engine",
    answer: Answer,
) -> None:
    from rich.console import Console

    from mirst.display import EvaluationDisplay
    from mirst.evaluation.corruptions import set_in_words
    from mirst.report import constant_predictions, every_row, write_report
    from mirst.study import attack_study, corrupt_study, locked, measure_distances, misplace_boxes, read_results

    analyses: dict[str, Callable[..., Path]] = {
        "standard": partial(attack_study, suite="standard", eps=eps, auc=auc),
        "adaptive": partial(attack_study, suite="adaptive", eps=eps, auc=auc),
        "distances": measure_distances,
        "corruptions": partial(corrupt_study, modality=modality),
        "boxes": misplace_boxes,
    }
    if suite not in analyses:
        raise MirstError(
            f"{folder} is a study whose own attacks have already been run; add --suite "
            f"{', '.join(list(analyses)[:-1])} or {list(analyses)[-1]}"
        )
    with locked(folder), EvaluationDisplay(Console(stderr=True)) as display:
        rows = analyses[suite](folder, data=data, engine=engine, on_trial=display.end, on_progress=display.progress)
    results = read_results(folder)
    if suite is SuiteOption.corruptions:
        answer.say(set_in_words(modality or results.spec.data.modality, results.spec.data.channels))
    page = write_report(folder, trusted=results.spec.model.name)
    _say_study(results, suite, answer)
    answer.warn(constant_predictions(every_row(results), results.classes, results.positive))
    answer.say(f"Rows: {rows}\nReport: {page}")
    answer.add(rows=rows, report=page)


def _say_study(results: "Results", suite: SuiteOption, answer: Answer) -> None:
    import pandas as pd
    from rich.console import Console

    from mirst.display import show_table
    from mirst.report import box_grid, corruption_grid, f1_over_eps
    from mirst.study.summary import summarise

    if suite is SuiteOption.corruptions:
        grid = corruption_grid(results, "f1", results.files)
        assert grid is not None
        answer.say("F1, mean over folds and seeds:\n" + grid.to_string(float_format=rounded))
        answer.add(f1=grid.reset_index())
    elif suite is SuiteOption.boxes:
        boxes = box_grid(results, "f1")
        assert boxes is not None
        answer.say("F1, mean over folds and seeds:\n" + boxes.to_string(float_format=rounded))
        answer.add(f1=boxes.reset_index())
    elif suite is SuiteOption.distances:
        curves = f1_over_eps(results)
        answer.say("F1, pooled over folds and seeds, at eps:\n" + curves.to_string(float_format=rounded))
        answer.add(f1=curves.rename_axis("eps").reset_index())
    else:
        show_table(Console(stderr=answer.as_json), results.folder)
        clean = results.outcomes[results.outcomes["attack"] == "none"]
        rows = pd.concat([clean, results.suites[suite.value]])
        answer.add(metrics=summarise(rows, results.classes, results.positive))
