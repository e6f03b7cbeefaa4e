"""The report of a study: `table.md`, `differences.md` and one self-contained `report.html`."""

from base64 import b64encode
from pathlib import Path

import pandas as pd
import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from mirst.files import write_text
from mirst.report.differences import differences, differences_table, intervals
from mirst.report.evidence import evidence
from mirst.report.figures import as_png, bar_chart, example_figure, interval_chart
from mirst.report.paper_figures import residuals_of
from mirst.report.tables import METRIC_NAMES, corruption_grid, metric_table, notes, paper_table
from mirst.study import Results, read_results


def write_report(folder: str | Path) -> Path:
    """Write `table.md`, `differences.md` and `report.html` into the results folder of a finished study.

    Returns:
        The path of the HTML file, which opens without a network.

    Raises:
        MirstError: the folder holds no finished study.
    """
    results = read_results(folder)
    judged, whole = differences(results), intervals(results)
    write_text(results.folder / "table.md", paper_table(results))
    write_text(results.folder / "differences.md", differences_table(judged, whole))
    page = results.folder / "report.html"
    write_text(page, _render(results, judged, whole))
    return page


def _render(results: Results, judged: pd.DataFrame, whole: pd.DataFrame) -> str:
    environment = Environment(
        loader=PackageLoader("mirst.report"), autoescape=select_autoescape(["j2"]), undefined=StrictUndefined
    )
    examples = {entry.title: example_figure(results, entry.label, entry.drop_max) for entry in results.spec.defenses}
    residuals = {entry.title: residuals_of(results, entry) for entry in results.spec.defenses}
    return environment.get_template("report.html.j2").render(
        name=results.folder.name,
        notes=notes(results),
        tables={METRIC_NAMES[metric]: metric_table(results, metric) for metric in METRIC_NAMES},
        differences=judged,
        intervals=whole,
        interval_chart=_data_uri(as_png(interval_chart(whole))),
        charts={METRIC_NAMES[metric]: _data_uri(bar_chart(results, metric)) for metric in ("f1", "sensitivity")},
        residuals={title: _data_uri(as_png(figure)) for title, figure in residuals.items() if figure is not None},
        examples={title: _data_uri(png) for title, png in examples.items() if png is not None},
        corruptions=corruption_grid(results, "f1"),
        study=yaml.safe_dump(results.spec.resolved(), sort_keys=False),
        run=results.run,
        **evidence(results),
    )


def _data_uri(png: bytes) -> str:
    return f"data:image/png;base64,{b64encode(png).decode()}"
