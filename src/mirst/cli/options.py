"""Options that several commands share."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mirst.errors import MirstError

if TYPE_CHECKING:
    from mirst.data import Box

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


def _use_device(name: str) -> str:
    """Set the device for this process and its workers; only `auto` and `cpu` are everywhere."""
    os.environ["MIRST_DEVICE"] = name
    if name not in ("auto", "cpu"):
        from mirst.nn.device import default_device

        default_device()
    return name


DeviceOption = Annotated[
    str,
    typer.Option(
        "--device",
        metavar="[auto|cpu|cuda|mps]",
        envvar="MIRST_DEVICE",
        callback=_use_device,
        help="Where models run. auto: the CUDA GPU if there is one, otherwise the CPU; mps: Apple's GPU.",
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
TrackOption = Annotated[
    str | None, typer.Option("--track", help="Log every epoch to a tracker: tensorboard, mlflow or wandb.")
]
BoxOption = Annotated[
    str | None,
    typer.Option("--box", metavar="x0,y0,x1,y1", help="Box of the lesion in the image, in pixels."),
]
MaskOption = Annotated[
    Path | None, typer.Option("--mask", help="Mask of the lesion in the image; only its box is used.")
]


def box_of_options(text: str | None, mask: Path | None) -> "Box | None":
    """The box that `--box` or `--mask` gives; `None` without both.

    Raises:
        MirstError: both, no box, or a mask that cannot be read or is blank.
    """
    from mirst.data import box_around, parse_box

    if text is not None and mask is not None:
        raise MirstError("--box and --mask both give the box of the lesion; leave out one of them")
    if text is not None:
        return parse_box(text)
    if mask is None:
        return None
    found = box_around([mask])
    if found is None:
        raise MirstError(f"{mask} is blank, so it has no box; give another mask, or --box")
    return found
