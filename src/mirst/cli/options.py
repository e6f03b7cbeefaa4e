"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

DataOption = Annotated[Path | None, typer.Option("--data", help="Data set; overrides the study key data.path.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a study key, for example training.epochs=5."),
]

JobsOption = Annotated[
    int | None, typer.Option("--jobs", help="Number of trials to run in parallel. Default: as many as the cores allow.")
]

EngineOption = Annotated[str, typer.Option("--engine", help="Where the trials run, such as local or ray.")]
RayAddressOption = Annotated[
    str | None, typer.Option("--ray-address", help="HOST:PORT of a Ray cluster's head, or auto.")
]
GpusOption = Annotated[
    float | None,
    typer.Option(
        "--gpus-per-trial",
        help="GPUs per trial on a Ray cluster; may be a fraction. Default: 1 if the cluster has GPUs, otherwise 0.",
    ),
]

TrustOption = Annotated[
    str | None,
    typer.Option(
        "--trust",
        metavar="PACKAGE.MODULE:FACTORY",
        help="Allow a checkpoint to run the code of this factory, if the checkpoint names it.",
    ),
]
QuietOption = Annotated[bool, typer.Option("--quiet", help="Print only the path of the results.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")]
TrackOption = Annotated[
    str | None, typer.Option("--track", help="Also write the numbers of every epoch to: tensorboard.")
]
