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

TrustOption = Annotated[
    str | None,
    typer.Option(
        "--trust", metavar="PACKAGE.MODULE:FACTORY", help="Run the code of this factory where a checkpoint asks for it."
    ),
]
QuietOption = Annotated[bool, typer.Option("--quiet", help="Nothing but where the results are.")]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object a line, for machines.")]
TrackOption = Annotated[
    str | None, typer.Option("--track", help="Send the numbers of every epoch elsewhere too: tensorboard.")
]
