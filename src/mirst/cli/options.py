"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

DataOption = Annotated[Path | None, typer.Option("--data", help="Image folder; replaces data.path.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a study key: training.epochs=5."),
]

JobsOption = Annotated[
    int | None, typer.Option("--jobs", help="Trials at a time; by default as many as the cores allow.")
]
