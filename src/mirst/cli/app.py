"""`mirst app`."""

from pathlib import Path
from typing import Annotated

import typer

from mirst.cli.options import DeviceOption, TrustOption
from mirst.errors import MirstError


def explorer(
    checkpoints: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[CHECKPOINT] [CHECKPOINT2]", help="One or two checkpoints (model.safetensors)."),
    ] = None,
    data: Annotated[Path | None, typer.Option("--data", help="Images to choose from.")] = None,
    demo: Annotated[
        bool,
        typer.Option("--demo", help="Use phantoms and two small models, which are trained on first use."),
    ] = False,
    host: Annotated[
        str, typer.Option("--host", help="Address to serve on; 0.0.0.0 allows access from every network.")
    ] = "127.0.0.1",
    port: Annotated[
        int | None,
        typer.Option("--port", min=1, max=65535, help="Port to serve on. Default: the first free port from 7860."),
    ] = None,
    trust: TrustOption = None,
    device: DeviceOption = "auto",
) -> None:
    """Explore attacks on single images in a browser. Not a medical device."""
    from mirst.app import launch

    paths = checkpoints or []
    if demo and (paths or data is not None):
        raise MirstError("--demo has its own models and images; leave out checkpoints and --data")
    if len(paths) > 2 or not (paths or demo):
        raise MirstError("app takes one or two checkpoints, or --demo")
    launch(paths, data, trusted=trust, host=host, port=port, tell=typer.echo)
