"""`mirst certify`: what no attack within eps can change, on a model or on a whole study."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mirst.cli.answer import Answer, AsJsonOption
from mirst.cli.evaluate_model import open_named_model, shown
from mirst.cli.evaluation_input import require_effect, require_folder
from mirst.cli.options import (
    DeviceOption,
    EngineOption,
    GpusOption,
    JobsOption,
    RayAddressOption,
    SetOption,
    TrustOption,
)
from mirst.cli.run import engine_of
from mirst.cli.stop import RESUMES, stops_in_order
from mirst.errors import MirstError

if TYPE_CHECKING:
    import pandas as pd

    from mirst.study import Engine


def certify(
    model: Annotated[
        str,
        typer.Argument(
            help="A model.safetensors that mirst wrote, package.module:factory, or the results folder of a study."
        ),
    ],
    data: Annotated[Path | None, typer.Option("--data", help="Data set that the model was not trained on.")] = None,
    eps: Annotated[str, typer.Option("--eps", help="Values of eps, for example 1/255,2/255,5/255.")] = "5/255",
    method: Annotated[
        str, typer.Option("--method", help="How to bound the logits: interval, or crown, which is tighter and slower.")
    ] = "interval",
    out: Annotated[Path | None, typer.Option("--out", help="Folder for the certificates and the table.")] = None,
    override: SetOption = None,
    jobs: JobsOption = None,
    engine: EngineOption = "local",
    ray_address: RayAddressOption = None,
    gpus_per_trial: GpusOption = None,
    as_json: AsJsonOption = False,
    trust: TrustOption = None,
    device: DeviceOption = "auto",
) -> None:
    """Prove for each image whether a change of at most eps per pixel can alter the prediction.

    Prints every metric from both sides: no attack within eps can reduce it below the certified value, and an attack
    has reduced it to the attacked value. On a study, every model is certified on its own test fold.
    """
    from mirst.bounds import METHODS
    from mirst.study import parse_eps

    radii = parse_eps(eps)
    if method not in METHODS:
        raise MirstError(f"--method is {method}; choose {' or '.join(METHODS)}")
    require_effect(override or [], [model])
    if Path(model).is_dir():
        if out is not None:
            raise MirstError(f"{model} is the results folder of a study, which keeps its certificates; leave out --out")
        answer = Answer(as_json, results=model, method=method, eps=radii)
        _certify_study(Path(model), data, radii, method, engine_of(engine, jobs, ray_address, gpus_per_trial), answer)
        answer.end()
        return
    if engine != "local" or ray_address is not None or gpus_per_trial is not None or jobs is not None:
        raise MirstError(
            "--jobs, --engine, --ray-address and --gpus-per-trial are for the trials of a study; leave them out"
        )
    if data is None:
        raise MirstError("give the images to certify with --data PATH")
    if out is not None:
        require_folder(out, [data, Path(model)])
    answer = Answer(as_json, model=model, data=str(data), method=method, eps=radii)
    _certify_model(model, data, radii, method, out, override or [], trust, answer)
    answer.end()


@stops_in_order(RESUMES)
def _certify_model(
    name: str,
    data: Path,
    eps: list[float],
    method: str,
    out: Path | None,
    override: list[str],
    trust: str | None,
    answer: Answer,
) -> None:
    from mirst.evaluation import certify_on, two_sided
    from mirst.files import write_csv
    from mirst.nn import reference_mode
    from mirst.study import load_spec

    with reference_mode(not load_spec(None, override).training.fast), shown(answer) as (on_progress, _):
        model, card = open_named_model(name, data, override, trust)
        rows = certify_on(model, card, data, eps, method, on_progress)
    table = two_sided(rows, card.classes, card.positive)
    answer.say(_in_text(table))
    answer.say(_of_images(rows))
    answer.add(metrics=table, images=rows)
    if out is not None:
        write_csv(out / "certificates.csv", rows)
        write_csv(out / "certified-metrics.csv", table)
        answer.say(f"Certificates: {out / 'certificates.csv'}\nTable: {out / 'certified-metrics.csv'}")
        answer.add(rows=out / "certificates.csv")


@stops_in_order("run the same command again to continue with the remaining trials")
def _certify_study(
    folder: Path, data: Path | None, eps: list[float], method: str, engine: "Engine", answer: Answer
) -> None:
    from rich.console import Console

    from mirst.display import EvaluationDisplay
    from mirst.report import certified_tables, write_report
    from mirst.study import certify_study, locked, read_results

    with locked(folder), EvaluationDisplay(Console(stderr=True)) as display:
        rows = certify_study(
            folder, eps, method=method, data=data, engine=engine, on_trial=display.end, on_progress=display.progress
        )
    results = read_results(folder)
    page = write_report(folder, trusted=results.spec.model.name)
    tables = certified_tables(results)
    for title, table in tables.items():
        answer.say(f"{title}:\n{_in_text(table)}\n")
    answer.say(f"Certificates: {rows}\nReport: {page}")
    answer.add(metrics=tables, rows=rows, report=page)


def _in_text(table: "pd.DataFrame") -> str:
    """The table of `two_sided` for readers."""
    from mirst.report import two_sided_text

    return two_sided_text(table).to_string(index=False)


def _of_images(rows: "pd.DataFrame") -> str:
    """How far the images are certified, in a sentence."""
    largest = 255 * rows.drop_duplicates(["source", "image"])["largest_eps"]
    return (
        f"Of {len(largest)} images {int((largest > 0).sum())} are certified at some eps; the median of the largest "
        f"certified eps is {largest.median():.2f}/255 and the maximum {largest.max():.2f}/255."
    )
