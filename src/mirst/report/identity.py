"""What a report is of: the data set, the date, the models and what they see."""

from mirst.nn.checkpoint import view_in_words
from mirst.report.context import ReportContext, pixels
from mirst.report.study_notes import weights_of
from mirst.study import Results

PHANTOM = r"(?:^|/)phantom-\d+\.png$"
"""The names of the images of `mirst.data.write_phantoms`."""


def is_synthetic(results: Results) -> bool:
    """Whether all images are phantoms."""
    return bool(results.outcomes["image"].str.contains(PHANTOM).all())


def data_name(results: Results) -> str:
    """The names of the data sets."""
    return ", ".join(map(str, results.outcomes["source"].unique()))


def identity(context: ReportContext) -> dict[str, str]:
    """By heading, in the order of the page."""
    results = context.results
    spec, data = results.spec, results.run["data"]
    classes = ", ".join(f"{count} {name}" for name, count in data["per_class"].items())
    worst, rows = list(context.under_attack.items())[-1]
    seeds = spec.seeds if results.origin is None else results.origin.seeds
    of_seeds = "1 seed" if len(seeds) == 1 else f"{len(seeds)} seeds"
    together = "" if results.origin is None else "; the models of all seeds of a fold are one ensemble"
    return {
        "Data": f"{data_name(results)}: {data['images']} images ({classes}; {data['groups']} groups)",
        "Date": str(results.run["started"])[:10],
        "Model": f"{spec.model.network} with {weights_of(results)}",
        "View": f"{view_in_words(spec.data.view, spec.data.margin)}, at {spec.data.size} px",
        "Training": (
            f"{', '.join(entry.title for entry in spec.defenses)}; each on {spec.folds.in_words} with "
            f"{of_seeds}{together}"
        ),
        "Strongest attack": f"{worst}, eps {pixels(rows['eps'].max())}",
    }
