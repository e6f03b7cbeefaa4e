"""`mirst figure`: the two figures of the paper, and the lesion view of an image."""

from pathlib import Path
from typing import Annotated

import typer

from mirst.cli.options import BoxOption, DeviceOption, MaskOption, TrustOption, box_of_options
from mirst.cli.outputs import require_output

figure_app = typer.Typer(
    no_args_is_help=True,
    help="Draw the paper's figures for your own checkpoint and image, or the lesion view of an image.",
)

CheckpointArgument = Annotated[Path, typer.Argument(help="A model.safetensors that mirst wrote.")]
ImageArgument = Annotated[Path, typer.Argument(help="An image file.")]
LabelOption = Annotated[
    str | None, typer.Option("--label", help="True class of the image. Default: the class that the model predicts.")
]
FigureOption = Annotated[Path, typer.Option("--out", help="File to write, .png or .svg.")]

FIGURES = (".png", ".svg")


@figure_app.command("attacks")
def figure_attacks(
    checkpoint: CheckpointArgument,
    image: ImageArgument,
    out: FigureOption,
    label: LabelOption = None,
    box: BoxOption = None,
    mask: MaskOption = None,
    trust: TrustOption = None,
    device: DeviceOption = "auto",
) -> None:
    """Draw the attacked images and magnified perturbations of FGSM, PGD and CW (Figure 1)."""
    from mirst.report import attacks_figure, read_figure_input, save_figure
    from mirst.study import parse_attacks

    require_output(out, FIGURES, [checkpoint, image])
    given = read_figure_input(checkpoint, image, label, trust, box_of_options(box, mask))
    typer.echo(f"Figure: {save_figure(attacks_figure(given, parse_attacks(['fgsm', 'pgd', 'cw'])), out)}")


@figure_app.command("residuals")
def figure_residuals(
    checkpoint: CheckpointArgument,
    image: ImageArgument,
    out: FigureOption,
    label: LabelOption = None,
    box: BoxOption = None,
    mask: MaskOption = None,
    trust: TrustOption = None,
    device: DeviceOption = "auto",
) -> None:
    """Draw the part of a PGD attack that remains after max-pool and after drop-max (Figure 2)."""
    from mirst.attacks import PGD
    from mirst.report import read_figure_input, residuals_figure, save_figure

    require_output(out, FIGURES, [checkpoint, image])
    given = read_figure_input(checkpoint, image, label, trust, box_of_options(box, mask))
    typer.echo(f"Figure: {save_figure(residuals_figure(given, PGD(), 'pgd'), out)}")


@figure_app.command("lesion")
def figure_lesion(
    image: ImageArgument,
    out: FigureOption,
    box: BoxOption = None,
    mask: MaskOption = None,
) -> None:
    """Draw an image with the box of its lesion, and beside it the crop that a model of the lesion view takes."""
    from mirst.report import lesion_figure, save_figure

    require_output(out, FIGURES, [image, *([mask] if mask else [])])
    typer.echo(f"Figure: {save_figure(lesion_figure(image, box_of_options(box, mask)), out)}")
