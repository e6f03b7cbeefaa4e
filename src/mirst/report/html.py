"""The report of a study: one self-contained `report.html`, and its tables beside it."""

import re
from base64 import b64encode
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from mirst.files import write_text
from mirst.metrics import metric_named, study_metrics
from mirst.report.certificates import certified_numbers, two_sided_text
from mirst.report.comparison import comparison, f1_charts
from mirst.report.context import ReportContext
from mirst.report.differences import (
    NOT_SIGNIFICANT,
    baseline_intervals,
    differences,
    differences_table,
    interval_numbers,
    intervals,
    shown_differences,
    shown_intervals,
)
from mirst.report.examples import examples_of
from mirst.report.exports import Table, write_tables
from mirst.report.headline import constant_answer
from mirst.report.identity import identity, is_synthetic
from mirst.report.residuals import residuals_of
from mirst.report.sections import not_run, section_variables
from mirst.report.study_notes import notes
from mirst.report.tables import measured_metrics, metric_table, paper_rows, paper_table
from mirst.report.verdict import verdict
from mirst.study import read_results

WARNING = re.compile("[A-Z]{4}")
"""How a note on a defect of the study begins."""


def write_report(folder: str | Path, *, trusted: str | None = None) -> Path:
    """Write `report.html`, `table.md`, `differences.md` and `tables/` into the results folder of a finished study.

    Args:
        trusted: the `package.module:factory` whose code may be run to draw the residuals of the study's models. Without
            it no code that the folder names is run, and models of a factory have no residuals.

    Returns:
        The path of the HTML file, which opens without a network.

    Raises:
        MirstError: the folder holds no finished study.
    """
    context = ReportContext(read_results(folder))
    results = context.results
    headline = [name for name, metric in study_metrics(results.positive).items() if metric.headline]
    judged = differences(context)
    whole = {name: intervals(context, name) for name in headline}
    with_baselines = {name: own.join(baseline_intervals(context, name)) for name, own in whole.items()}
    sections = section_variables(context)
    write_text(results.files.paper_table, paper_table(context))
    write_text(results.files.differences, differences_table(judged, with_baselines["f1"]))
    tables = {
        "results": Table(paper_rows(context), context.summary),
        "intervals": Table(shown_intervals(with_baselines), interval_numbers(with_baselines)),
        "differences": Table(shown_differences(judged), judged.drop(columns=["difference", "seeds"])),
    }
    if results.certificates is not None:
        numbers = certified_numbers(results)
        shown = two_sided_text(numbers)
        shown.insert(0, "defense", numbers["defense"])
        tables["certified"] = Table(shown, numbers)
        comparisons = sections["proof"].comparisons
        tables |= {name: Table(one.shown, one.numbers) for name, one in comparisons.items()}
    tables |= sections["held_out_tables"]
    if "classes" in sections:
        tables["classes"] = sections["classes"]
    if "subgroups" in sections:
        tables["subgroups"] = sections["subgroups"].table
    held_out = [sections["held_out"]] if "held_out" in sections else []
    elsewhere = (*sections.get("external", ()), *held_out)
    for one in elsewhere:
        tables[f"external-{one.name}"] = one.changes
        tables |= {f"operating-points-{one.name}": one.points} if len(one.points.numbers) else {}
    write_tables(results.folder / "tables", tables)
    examples = {entry.title: examples_of(results, entry) for entry in results.spec.defenses}
    residuals = {entry.title: residuals_of(results, entry, trusted=trusted) for entry in results.spec.defenses}
    said = notes(results)
    study = yaml.safe_dump(results.spec.resolved(), sort_keys=False)
    page = results.files.report
    render(
        page,
        "report.html.j2",
        name=results.folder.name,
        date=str(results.run["started"])[:10],
        identity=identity(context),
        is_synthetic=is_synthetic(results),
        verdict=verdict(context, whole["f1"], judged, elsewhere),
        not_run=not_run(results),
        warnings=[note for note in said if WARNING.match(note)],
        notes=[note for note in said if not WARNING.match(note)],
        comparison=comparison(with_baselines, judged),
        tables={metric_named(name).title: metric_table(context, name) for name in measured_metrics(context)},
        differences=judged,
        not_significant=NOT_SIGNIFICANT,
        charts=f1_charts(with_baselines["f1"], constant_answer(results)[1]),
        residuals={title: own for title, own in residuals.items() if own},
        examples={title: own for title, own in examples.items() if own},
        study=study,
        study_uri=f"data:text/yaml;base64,{b64encode(study.encode()).decode()}",
        run=results.run,
        **sections,
    )
    return page


def render(path: Path, template: str, **variables: Any) -> None:
    """Write the page that `template` renders with `variables`."""
    environment = Environment(
        loader=PackageLoader("mirst.report"), autoescape=select_autoescape(["j2"]), undefined=StrictUndefined
    )
    write_text(path, environment.get_template(template).render(**variables))
