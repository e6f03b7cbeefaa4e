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

EngineOption = Annotated[str, typer.Option("--engine", help="Where to run the trials: local or ray.")]
RayAddressOption = Annotated[
    str | None, typer.Option("--ray-address", help="HOST:PORT of the head of a Ray cluster, or auto.")
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
        help="Allow checkpoints that name this factory to run its code.",
    ),
]
QuietOption = Annotated[bool, typer.Option("--quiet", help="Print only the path of the results.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print progress as one JSON object per line.")]
TrackOption = Annotated[str | None, typer.Option("--track", help="Log every epoch to a tracker: tensorboard.")]
