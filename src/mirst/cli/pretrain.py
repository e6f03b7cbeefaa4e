"""`mirst pretrain` and `mirst probe`: backbones to start from."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mirst.cli.options import DataOption, DeviceOption, SetOption
from mirst.cli.outputs import require_output
from mirst.cli.stop import RESUMES, stops_in_order

if TYPE_CHECKING:
    from mirst.study import Method

pretrain_app = typer.Typer(no_args_is_help=True, help="Pretrain a backbone on other images, for use as model.weights.")

SourcesOption = Annotated[list[Path], typer.Option("--data", help="Data set; can be given several times.")]
BackboneOption = Annotated[Path, typer.Option("--out", help="File to write the backbone to; use it as model.weights.")]


@pretrain_app.command("simclr")
def pretrain_simclr(
    data: SourcesOption, out: BackboneOption, override: SetOption = None, device: DeviceOption = "auto"
) -> None:
    """Pretrain with SimCLR, which needs no labels. Default: 100 epochs with batch size 128."""
    _pretrain("simclr", data, out, ["training.epochs=100", "training.batch_size=128", *(override or [])])


@pretrain_app.command("supervised")
def pretrain_supervised(
    data: SourcesOption,
    out: BackboneOption,
    defense: Annotated[str, typer.Option("--defense", help="ce, rst, mirst, or {name: rst, alpha: 2}.")] = "ce",
    override: SetOption = None,
    device: DeviceOption = "auto",
) -> None:
    """Pretrain with a defense on the labels of all data sets."""
    _pretrain("supervised", data, out, override or [], defense)


def probe(
    data: DataOption = None,
    study: Annotated[Path | None, typer.Argument(help="Study whose data, folds and model to use.")] = None,
    override: SetOption = None,
    device: DeviceOption = "auto",
) -> None:
    """Cross-validate a linear classifier on the features of a frozen backbone, and on those of random weights."""
    from mirst.study import load_spec
    from mirst.study import probe as probe_backbone

    table = probe_backbone(load_spec(study, override or []).with_data(data))
    means = table.groupby("weights", sort=False)[["f1", "sensitivity", "auc"]].agg(["mean", "std"])
    typer.echo(means.to_string(float_format=lambda value: f"{value:.4f}"))


@stops_in_order(RESUMES)
def _pretrain(method: "Method", data: list[Path], out: Path, overrides: list[str], defense: str | None = None) -> None:
    from mirst.study import load_spec, parse_defense, pretrain

    spec = load_spec(None, overrides)
    require_output(out, (".safetensors",), [*data, Path(spec.model.weights)])
    pretrain(
        method,
        data,
        spec,
        out,
        lambda epoch: typer.echo(f"epoch {epoch.number}/{spec.training.epochs}: loss {epoch.loss:.4f}"),
        defense=None if defense is None else parse_defense(defense).defense,
        on_remark=lambda sentence: typer.echo(f"Data: {sentence}"),
    )
    typer.echo(f"Backbone: {out}; use it with --set model.weights={out}")
