"""`mirst dossier` and `mirst verify`."""

from pathlib import Path
from typing import Annotated

import typer

from mirst.cli.exit_codes import ExitCode
from mirst.cli.options import DataOption, DeviceOption, JobsOption
from mirst.cli.outputs import require_output
from mirst.cli.run import engine_of
from mirst.cli.stop import RESUMES, stops_in_order


@stops_in_order(RESUMES)
def dossier(
    results: Annotated[Path, typer.Argument(help="Results folder of a finished study.")],
    out: Annotated[Path, typer.Option("--out", help="Zip file to write.")],
    data: DataOption = None,
    with_images: Annotated[
        bool, typer.Option("--with-images", help="Also store the files of the images; by default no image is stored.")
    ] = False,
    jobs: JobsOption = None,
    device: DeviceOption = "auto",
) -> None:
    """Write the evidence for the numbers of a study into one archive: models, rows, witnesses and certificates."""
    from rich.console import Console

    from mirst.display import EvaluationDisplay
    from mirst.dossier import write_dossier
    from mirst.study import locked

    require_output(out, (".zip",), [results, *([data] if data else [])])
    with locked(results), EvaluationDisplay(Console(stderr=True)) as display:
        written = write_dossier(
            results,
            out,
            with_images=with_images,
            data=data,
            engine=engine_of("local", jobs, None, None),
            on_trial=display.end,
            on_progress=display.progress,
        )
    typer.echo(
        f"{written.models} models. {written.claims} rows call an image misclassified under attack; {written.witnesses} "
        f"witnesses prove {written.claims - written.unwitnessed} of them."
    )
    typer.echo(f"Digest: {written.digest}\nDossier: {written.path} ({written.path.stat().st_size / 1e6:.1f} MB)")


def verify(
    archive: Annotated[Path, typer.Argument(metavar="FILE.zip", help="A dossier that mirst dossier wrote.")],
    data: Annotated[
        Path | None, typer.Option("--data", help="Folder with the images, which are found by their hashes.")
    ] = None,
    device: DeviceOption = "auto",
) -> None:
    """Check the claims of a dossier without attacking anything, one line for each; exit code 1 on a contradiction."""
    from mirst.dossier import is_contradicted, verify_dossier

    answers = verify_dossier(archive, data)
    for answer in answers:
        typer.echo(str(answer))
    if is_contradicted(answers):
        raise typer.Exit(ExitCode.finding)
