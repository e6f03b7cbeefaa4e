"""`mirst predict`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mirst.cli.options import BoxOption, DeviceOption, MaskOption, TrustOption, box_of_options
from mirst.cli.outputs import require_output
from mirst.errors import MirstError, plain

if TYPE_CHECKING:
    from mirst.evaluation import Prediction
    from mirst.nn import ModelCard

STDOUT = Path("-")


def predict(
    checkpoint: Annotated[Path, typer.Argument(help="A model.safetensors that mirst wrote.")],
    images: Annotated[
        list[Path], typer.Argument(metavar="PATH", help="Image files or folders; folders are searched recursively.")
    ],
    csv_file: Annotated[
        Path | None,
        typer.Option("--csv", metavar="FILE", help="Write the predictions as CSV; use - for standard output."),
    ] = None,
    json_file: Annotated[
        Path | None,
        typer.Option("--json", metavar="FILE", help="Write the predictions as JSON; use - for standard output."),
    ] = None,
    coverage: Annotated[
        float | None,
        typer.Option(
            metavar="RATE",
            help="Give the set of classes that contains the true one at this rate, such as 0.9, for each class; the "
            "model abstains unless the set is the predicted class alone.",
        ),
    ] = None,
    box: BoxOption = None,
    mask: MaskOption = None,
    trust: TrustOption = None,
    device: DeviceOption = "auto",
) -> None:
    """Classify images. Not a medical device."""
    from mirst.display import as_json
    from mirst.evaluation import predict as predict_images
    from mirst.evaluation import prediction_document, prediction_table
    from mirst.files import harmless_table, write_csv, write_text

    if csv_file == json_file == STDOUT:
        raise MirstError("--csv - and --json - would both write to standard output; give a file for one of them")
    if csv_file is not None and json_file is not None and csv_file.absolute() == json_file.absolute():
        raise MirstError(f"--csv and --json would both be written to {csv_file}; give another file for one of them")
    for file, suffix in ((csv_file, ".csv"), (json_file, ".json")):
        if file not in (None, STDOUT):
            _require_no_image(file)
            require_output(file, (suffix,), [checkpoint, *images])
    card, predictions = predict_images(
        checkpoint,
        images,
        trust,
        lambda line: typer.echo(f"mirst: {line}", err=True),
        box_of_options(box, mask),
        coverage,
    )
    if csv_file == STDOUT:
        typer.echo(harmless_table(prediction_table(card, predictions)).to_csv(index=False), nl=False)
    elif csv_file is not None:
        write_csv(csv_file, prediction_table(card, predictions))
    document = as_json(prediction_document(checkpoint, card, predictions, coverage))
    if json_file == STDOUT:
        typer.echo(document)
    elif json_file is not None:
        write_text(json_file, f"{document}\n")
    for one in predictions:
        for remark in one.remarks(card):
            typer.echo(f"mirst: {plain(one.name)} {remark}", err=True)
    if card.calibration is None:
        typer.echo("mirst: the probabilities are not calibrated: the checkpoint has no calibration", err=True)
    if STDOUT in (csv_file, json_file):
        return
    if csv_file is None and json_file is None:
        for one in predictions:
            typer.echo(f"{plain(one.name)}: {_in_words(one, card)}")
        return
    counts = ", ".join(f"{sum(one.predicted_class == name for one in predictions)} {name}" for name in card.classes)
    typer.echo(f"{len(predictions)} images: {counts}")
    for kind, file in (("CSV", csv_file), ("JSON", json_file)):
        if file is not None:
            typer.echo(f"{kind}: {file}")


def _in_words(one: "Prediction", card: "ModelCard") -> str:
    calibrated = "" if card.calibration is None else "calibrated "
    of = "" if card.positive is None else f" of {card.positive}"
    words = f"{one.predicted_class} ({calibrated}probability{of} {one.probability:.3f})"
    if one.class_set is None:
        return words
    return f"{words}; set: {', '.join(one.class_set) or 'empty'}{'; abstains' if one.abstains else ''}"


def _require_no_image(file: Path) -> None:
    """A forgotten file name makes an image the value of the option."""
    from mirst.data.file_kind import SUFFIXES

    inputs = {suffix for suffixes in SUFFIXES.values() for suffix in suffixes}
    if file.suffix.lower() in {*inputs, ".safetensors"}:
        raise MirstError(f"{file} has the suffix of an input file; give a .csv or .json file for the predictions")
