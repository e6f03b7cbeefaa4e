"""`mirst data`: audit, fetch and prepare data sets."""

from pathlib import Path
from typing import Annotated

import typer

from mirst.cli.outputs import require_no_input

data_app = typer.Typer(no_args_is_help=True, help="Audit, fetch and prepare data sets.")


@data_app.command("audit")
def audit_data(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Data sets.")],
    out: Annotated[Path | None, typer.Option("--out", help="Folder for groups.csv and the gallery audit.html.")] = None,
) -> None:
    """Look for copies, conflicting labels, unreadable images, ignored files and small classes.

    The exit code is 1 if labels conflict.
    """
    from mirst.data import audit_records, read_for_audit, warn_of_folds
    from mirst.report import write_audit

    if out:
        require_no_input(out, paths)
    notes: list[str] = []
    findings = warn_of_folds(audit_records(read_for_audit(paths, notes.append), notes))
    for sentence in findings.summary():
        typer.echo(sentence)
    if out:
        typer.echo(f"Gallery: {write_audit(findings, out)}")
    if findings.conflicts:
        raise typer.Exit(1)


@data_app.command("fetch")
def fetch_data(
    name: Annotated[str, typer.Argument(help="busi, busbra or breastmnist.")],
    out: Annotated[Path, typer.Option("--out", help="Folder to put it into.")] = Path("data"),
) -> None:
    """Print the licence of a public data set and download it. The same command resumes."""
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
    size: Annotated[int, typer.Option("--size", min=16, max=2048, help="Side of the letterboxed images.")] = 224,
    channels: Annotated[int, typer.Option("--channels", min=1, max=3, help="1 gray, 3 colour.")] = 1,
) -> None:
    """Letterbox all images into one folder that can be copied to another machine and used there with --data."""
    from mirst.data import read_for_audit, write_prepared

    typer.echo(f"Prepared: {write_prepared(read_for_audit(paths), out, size, 3 if channels > 1 else 1)}")
