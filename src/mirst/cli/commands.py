"""The commands: each parses its arguments, calls one public function, and prints where the result is."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mirst.cli.answer import AsJsonOption
from mirst.cli.app import explorer
from mirst.cli.certify import certify
from mirst.cli.data import data_app
from mirst.cli.dossier import dossier, verify
from mirst.cli.ensemble import ensemble
from mirst.cli.evaluate import evaluate
from mirst.cli.figure import figure_app
from mirst.cli.options import (
    DataOption,
    DeviceOption,
    EngineOption,
    GpusOption,
    JobsOption,
    JsonOption,
    QuietOption,
    RayAddressOption,
    SetOption,
    TrackOption,
    TrustOption,
)
from mirst.cli.outputs import require_no_input, require_output
from mirst.cli.predict import predict
from mirst.cli.pretrain import pretrain_app, probe
from mirst.cli.run import engine_of, run_and_report
from mirst.cli.stop import RESUMES, stops_in_order
from mirst.cli.validate import validate
from mirst.errors import MirstError

if TYPE_CHECKING:
    from mirst.study import Engine, StudySpec

STUDY, MODEL, DATA, LOOK = "A study", "One model", "Data", "Look at models"
app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
_DEMO = """\
The demo generates 240 breast phantoms and trains classifiers on them: plain (ce), robust (rst), multi-instance robust
(mirst), and mirst with a drop-max layer (mirst+dm). It attacks each with FGSM, PGD and CW at eps 5/255, with two-fold
cross-validation. A second, smaller study trains ce, rst and ibp on crops around the lesions (data.view: lesion) and
certifies them: no change of at most eps per pixel can alter a certified prediction.
Together they take about three minutes on two cores and write to {out}."""


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"mirst {version('mirst')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version and exit.")
    ] = False,
) -> None:
    """Train image classifiers on small medical data sets and test their robustness."""


app.add_typer(data_app, name="data", rich_help_panel=DATA)
app.add_typer(figure_app, name="figure", rich_help_panel=LOOK)
app.add_typer(pretrain_app, name="pretrain", rich_help_panel=MODEL)


@app.command(rich_help_panel=STUDY)
@stops_in_order(RESUMES)
def run(
    study: Annotated[Path, typer.Argument(help="Study file (YAML), or a name that mirst studies lists.")],
    data: DataOption = None,
    out: Annotated[Path | None, typer.Option("--out", help="Results folder; overrides the study key out.")] = None,
    override: SetOption = None,
    jobs: JobsOption = None,
    engine: EngineOption = "local",
    ray_address: RayAddressOption = None,
    gpus_per_trial: GpusOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only estimate how long the study would take.")] = False,
    quiet: QuietOption = False,
    json_lines: JsonOption = False,
    track: TrackOption = None,
    device: DeviceOption = "auto",
) -> None:
    """Cross-validate every defense of STUDY under every attack.

    Run the same command again to resume an interrupted run.
    """
    from mirst.study import load_spec

    spec = load_spec(study, override or []).with_data(data)
    folder = out or spec.out or Path("results") / study.stem
    require_no_input(folder, _inputs(spec, study))
    if dry_run and (quiet or json_lines or track is not None):
        raise MirstError(
            "--dry-run trains nothing, so there is no progress to show; leave out --quiet, --json and --track"
        )
    where = engine_of(engine, jobs, ray_address, gpus_per_trial)
    if dry_run:
        _estimate(spec, folder, where)
    else:
        run_and_report(spec, folder, where, quiet=quiet, json_lines=json_lines, track=track)


@app.command(rich_help_panel=STUDY)
def studies() -> None:
    """List the studies that come with mirst; run one with mirst run NAME --data PATH."""
    from mirst.study.shipped import SHIPPED, shipped_studies

    known = shipped_studies()
    for name, sentence in known.items():
        typer.echo(f"{name:{max(map(len, known))}}  {sentence}")
    typer.echo(f"Files: {SHIPPED}")


@app.command(rich_help_panel=STUDY)
@stops_in_order(RESUMES)
def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder for phantoms and results.")] = Path("demo"),
    jobs: JobsOption = None,
    quiet: QuietOption = False,
    json_lines: JsonOption = False,
    track: TrackOption = None,
    device: DeviceOption = "auto",
) -> None:
    """Run two studies on generated breast phantoms, whole and lesion view, in about three minutes on two cores."""
    from mirst.study import demo_lesion_spec, demo_spec

    if not (quiet or json_lines):
        typer.echo(_DEMO.format(out=out))
    for spec, folder in ((demo_spec(out), "results"), (demo_lesion_spec(out), "results-lesion")):
        run_and_report(spec, out / folder, engine_of("local", jobs), quiet=quiet, json_lines=json_lines, track=track)


@app.command(rich_help_panel=MODEL)
@stops_in_order(RESUMES)
def train(
    out: Annotated[Path, typer.Option("--out", help="Checkpoint to write.")],
    data: DataOption = None,
    study: Annotated[Path | None, typer.Argument(help="Study whose data, model and training settings to use.")] = None,
    defense: Annotated[
        str, typer.Option("--defense", help="Defense, such as ce, rst, mirst or {name: rst, alpha: 2}.")
    ] = "mirst",
    drop_max: Annotated[bool, typer.Option("--drop-max", help="Replace the first max-pool with drop-max.")] = False,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Random seed.")] = 0,
    override: SetOption = None,
    device: DeviceOption = "auto",
) -> None:
    """Train one model on a whole data set and write a checkpoint."""
    from mirst.study import load_spec, parse_defense
    from mirst.study import train as train_one

    spec = load_spec(study, [*(override or []), f"seeds=[{seed}]"]).with_data(data)
    entry = parse_defense(defense, drop_max)
    require_output(out, (".safetensors",), _inputs(spec, study))
    result = train_one(
        spec,
        entry,
        out,
        lambda epoch: typer.echo(f"epoch {epoch.number}/{spec.training.epochs}: loss {epoch.loss:.4f}"),
        lambda sentence: typer.echo(f"Data: {sentence}"),
    )
    typer.echo(f"{entry.title}: {result}")
    typer.echo(f"Checkpoint: {out}")


@app.command(rich_help_panel=MODEL)
def export(
    checkpoint: Annotated[Path, typer.Argument(help="A model.safetensors that mirst wrote.")],
    to: Annotated[
        str, typer.Option("--to", help="Format: onnx, torch-export, safetensors, monai-bundle or hub-folder.")
    ],
    out: Annotated[Path, typer.Option("--out", help="File to write, or a new folder for monai-bundle or hub-folder.")],
    license: Annotated[
        str | None,
        typer.Option("--license", help="For hub-folder: licence of the weights, such as apache-2.0. Default: unknown."),
    ] = None,
    trust: TrustOption = None,
) -> None:
    """Export a trained model to ONNX, torch.export, safetensors, a MONAI bundle, or a folder for a model hub."""
    from mirst.export import SUFFIXES, export_model

    if to in SUFFIXES:
        require_output(out, SUFFIXES[to], [checkpoint])
    typer.echo(f"Exported: {export_model(checkpoint, to, out, trust, license=license)}")


@app.command(rich_help_panel=STUDY)
def report(
    folders: Annotated[
        list[Path],
        typer.Argument(metavar="RESULTS [OTHER]", help="Results folder of a finished study, or two to compare."),
    ],
    out: Annotated[Path | None, typer.Option("--out", help="HTML file for the comparison of two studies.")] = None,
    checklist: Annotated[
        str | None, typer.Option("--checklist", help="Also draft a reporting checklist: claim or tripod-ai.")
    ] = None,
) -> None:
    """Rewrite the tables and report.html from the outcome rows.

    With two studies, write a page that compares them and print their differences.
    """
    from mirst.report import require_checklist, write_checklist, write_comparison, write_report

    if len(folders) > 2 or (out is not None and len(folders) != 2):
        raise MirstError("report takes one results folder, or two to compare; with two, --out names the HTML file")
    if checklist is not None:
        require_checklist(checklist)
        if len(folders) != 1:
            raise MirstError("--checklist is about one study; give one results folder")
    if out is not None:
        require_output(out, (".html",), folders)
    page = write_report(folders[0]) if len(folders) == 1 else write_comparison(folders[0], folders[1], out, typer.echo)
    typer.echo(f"Report: {page}")
    if checklist is not None:
        typer.echo(f"Checklist: {write_checklist(folders[0], checklist)}")


@app.command(rich_help_panel=STUDY)
def compare(
    folders: Annotated[
        list[Path],
        typer.Argument(metavar="RESULTS...", help="Results folders for the paper's Tables 1, 2 and 3, in order."),
    ],
    paper: Annotated[bool, typer.Option("--paper", help="Judge each claim of the MIRST-DM paper.")] = False,
    out: Annotated[Path | None, typer.Option("--out", help="Write a Markdown file instead of printing.")] = None,
) -> None:
    """Print the paper's results beside your own, and a verdict on each claim of the paper."""
    from mirst.files import write_text
    from mirst.report import paper_comparison
    from mirst.study import read_results

    if not paper or len(folders) > 3:
        raise MirstError(
            "compare works only on the paper's three tables; add --paper and give at most three results folders"
        )
    if out is not None:
        require_output(out, (".md",), folders)
    text = paper_comparison({number: read_results(folder) for number, folder in enumerate(folders, start=1)})
    if out is None:
        typer.echo(text)
    else:
        write_text(out, text)
        typer.echo(f"Comparison: {out}")


@app.command(rich_help_panel=STUDY)
def status(
    folder: Annotated[Path, typer.Argument(help="Results folder; the study may still be running.")],
    as_json: AsJsonOption = False,
) -> None:
    """Show which trials of a study are done, running, diverged, killed or waiting, and which process runs it."""
    from dataclasses import asdict

    from mirst.display import as_json as in_json
    from mirst.display import status_text
    from mirst.study import study_status

    found = study_status(folder)
    typer.echo(in_json(asdict(found)) if as_json else status_text(found))


app.command("app", rich_help_panel=LOOK)(explorer)
for of_study in (validate, ensemble, dossier, verify):
    app.command(rich_help_panel=STUDY)(of_study)
for of_model in (predict, evaluate, certify, probe):
    app.command(rich_help_panel=MODEL)(of_model)


def _inputs(spec: "StudySpec", study: Path | None) -> list[Path]:
    """The files and folders that a study reads."""
    from mirst.study.shipped import find_study

    read = [
        None if study is None else find_study(study),
        spec.data.path,
        Path(spec.model.weights),
        *(source.path for source in (*spec.data.sources, *spec.data.extra)),
    ]
    return [path for path in read if path is not None]


def _estimate(spec: "StudySpec", out: Path, engine: "Engine") -> None:
    from mirst.display import estimate_text
    from mirst.study import estimate_study

    estimate = estimate_study(
        spec, out, engine=engine, on_measure=lambda titles: typer.echo(f"Measuring {', '.join(titles)} ...", err=True)
    )
    typer.echo(estimate_text(estimate))
