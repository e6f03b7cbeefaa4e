"""`mirst data`: audit, fetch and prepare data sets."""

from pathlib import Path
from typing import Annotated

import typer

from mirst.cli.exit_codes import ExitCode
from mirst.cli.outputs import require_no_input
from mirst.errors import MirstError

data_app = typer.Typer(no_args_is_help=True, help="Audit, download and prepare data sets.")


@data_app.command("audit")
def audit_data(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Data sets.")],
    out: Annotated[Path | None, typer.Option("--out", help="Folder for groups.csv and the gallery audit.html.")] = None,
) -> None:
    """Look for duplicates, conflicting labels, unreadable images, ignored files and small classes.

    Where both classes have masks, also test whether the outlines of the masks give away the class.
    The exit code is 1 if labels conflict.
    """
    from rich.console import Console

    from mirst.data import audit_records, read_for_audit, warn_of_folds, warn_of_split
    from mirst.display.lines import Lines
    from mirst.evaluation.outline_leak import outline_finding
    from mirst.report import write_audit

    if out:
        require_no_input(out, paths)
    notes: list[str] = []
    with Lines(Console(stderr=True)) as display:
        audited = audit_records(read_for_audit(paths, notes.append), notes, on_stage=display.stage)
    findings = warn_of_split(warn_of_folds(audited))
    for sentence in findings.summary():
        typer.echo(sentence)
    if outlines := outline_finding(findings.grouped()):
        typer.echo(outlines)
    if out:
        typer.echo(f"Gallery: {write_audit(findings, out)}")
    if findings.conflicts:
        raise typer.Exit(ExitCode.finding)


@data_app.command("fetch")
def fetch_data(
    name: Annotated[str, typer.Argument(help="Data set: busi, busbra or breastmnist.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the data set.")] = Path("data"),
) -> None:
    """Print the licence of a public data set and download it.

    Run the same command again to resume an interrupted download.
    """
    from mirst.data.fetch import SOURCES, fetch
    from mirst.display import ByteLines

    if name in SOURCES:
        source = SOURCES[name]
        typer.echo(f"Licence: {source.licence}\nCite: {source.citation}\nFrom: {source.url}")
    typer.echo(f"Data: {fetch(name, out, ByteLines(typer.echo))}")


@data_app.command("prepare")
def prepare_data(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Data sets.")],
    out: Annotated[Path, typer.Option("--out", help="New folder to write.")],
    size: Annotated[
        int, typer.Option("--size", min=16, max=2048, help="Side of the letterboxed images in pixels.")
    ] = 224,
    channels: Annotated[
        str, typer.Option("--channels", help="1 for gray, 3 for colour; auto: colour if the images have any.")
    ] = "auto",
) -> None:
    """Letterbox all images into one folder that you can copy to another machine and pass to --data.

    The lesion view needs the original images.
    """
    from mirst.data import Channels, read_for_audit, write_prepared

    known: dict[str, Channels] = {"1": 1, "3": 3, "auto": "auto"}
    if channels not in known:
        raise MirstError(f"--channels is {channels}; choose 1 (gray), 3 (colour) or auto")
    typer.echo(f"Prepared: {write_prepared(read_for_audit(paths), out, size, known[channels])}")
