"""`mirst ensemble`."""

from pathlib import Path
from typing import Annotated

import typer

from mirst.cli.options import DeviceOption, EngineOption, GpusOption, JobsOption, RayAddressOption
from mirst.cli.outputs import require_no_input
from mirst.cli.run import engine_of
from mirst.cli.stop import stops_in_order


@stops_in_order("run the same command again to continue with the remaining ensembles")
def ensemble(
    results: Annotated[Path, typer.Argument(help="Results folder of a finished study of several seeds.")],
    out: Annotated[
        Path | None, typer.Option("--out", help="Results folder of the ensembles. Default: RESULTS-ensemble.")
    ] = None,
    data: Annotated[Path | None, typer.Option("--data", help="Where the images of the study are now.")] = None,
    jobs: JobsOption = None,
    engine: EngineOption = "local",
    ray_address: RayAddressOption = None,
    gpus_per_trial: GpusOption = None,
    device: DeviceOption = "auto",
) -> None:
    """Combine the models of all seeds of a study, for each defense and fold, and attack the ensembles.

    Run the same command again to resume an interrupted run.
    """
    from rich.console import Console

    from mirst.display import EvaluationDisplay, show_table
    from mirst.report import write_report
    from mirst.study import ensemble_study, read_results

    folder = out or Path(f"{results.resolve()}-ensemble")
    require_no_input(folder, [results])
    where = engine_of(engine, jobs, ray_address, gpus_per_trial)
    with EvaluationDisplay(Console(stderr=True)) as display:
        ensemble_study(results, folder, data=data, engine=where, on_trial=display.end, on_progress=display.progress)
    page = write_report(folder, trusted=read_results(folder).spec.model.name)
    show_table(Console(), folder)
    typer.echo(f"Results: {folder}\nReport: {page}")
