"""`mirst validate`."""

from pathlib import Path
from typing import Annotated, cast, get_args

import typer

from mirst.cli.options import DeviceOption, EngineOption, GpusOption, JobsOption, RayAddressOption
from mirst.cli.run import engine_of
from mirst.cli.stop import stops_in_order
from mirst.errors import MirstError


@stops_in_order("run the same command again to continue with the remaining models")
def validate(
    results: Annotated[Path, typer.Argument(help="Results folder of a finished study.")],
    data: Annotated[Path, typer.Option("--data", help="Another data set, with the classes of the study.")],
    labels: Annotated[
        str | None,
        typer.Option("--labels", help="New names of its classes, as {theirs: ours, other: null}; null leaves one out."),
    ] = None,
    source: Annotated[
        str | None, typer.Option("--source", help="Name of the data set. Default: the one that it has.")
    ] = None,
    suite: Annotated[
        str | None,
        typer.Option(
            "--suite",
            metavar="[standard|adaptive|corruptions]",
            help="Also attack the models with strong attacks (standard or adaptive), or corrupt the images.",
        ),
    ] = None,
    eps: Annotated[
        str | None, typer.Option("--eps", help="Values of eps for --suite, for example 1/255,5/255. Default: 5/255.")
    ] = None,
    study_data: Annotated[
        Path | None, typer.Option("--study-data", help="Where the images of the study are now.")
    ] = None,
    jobs: JobsOption = None,
    engine: EngineOption = "local",
    ray_address: RayAddressOption = None,
    gpus_per_trial: GpusOption = None,
    device: DeviceOption = "auto",
) -> None:
    """Test the models of a study, and the ensembles of its folds, on a data set from elsewhere.

    Run the same command again to resume an interrupted run.
    """
    from rich.console import Console

    from mirst.display import EvaluationDisplay
    from mirst.report import external_changes, left_out_sentence, write_report
    from mirst.study import ExternalSuite, load_source, locked, parse_eps, read_externals, read_results, validate_study

    if suite not in (None, *get_args(ExternalSuite)):
        raise MirstError(f"--suite is {suite}; choose standard, adaptive or corruptions")
    if eps is not None and suite not in ("standard", "adaptive"):
        raise MirstError("--eps is for --suite standard or adaptive; the study's own attacks have their own eps")
    other, radii = load_source(data, labels, source), parse_eps(eps or "5/255")
    where = engine_of(engine, jobs, ray_address, gpus_per_trial)
    study = read_results(results)
    with locked(results), EvaluationDisplay(Console(stderr=True)) as display:
        folder = validate_study(
            results,
            other,
            suite=cast("ExternalSuite | None", suite),
            eps=radii,
            data=study_data,
            engine=where,
            on_trial=display.end,
            on_progress=display.progress,
        )
    (external,) = (one for one in read_externals(study) if one.folder.path == folder)
    typer.echo(f"{external.record['images']} images. {left_out_sentence(external.record['left_out'])}")
    typer.echo(external_changes(study, external).shown.to_string(index=False))
    page = write_report(results, trusted=study.spec.model.name)
    typer.echo(f"Rows: {folder}\nReport: {page}")
