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

EngineOption = Annotated[str, typer.Option("--engine", help="Where the trials run: local or ray.")]
RayAddressOption = Annotated[
    str | None, typer.Option("--ray-address", help="HOST:PORT of a Ray cluster's head, or auto.")
]
GpusOption = Annotated[
    float | None,
    typer.Option("--gpus-per-trial", help="Of a Ray cluster, also a part of one; 1 by default where it has any."),
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
