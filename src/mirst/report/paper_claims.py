"""The paper's tables compared with measured ones, and a verdict on each of its claims."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from mirst.errors import MirstError
from mirst.evaluation import CLEAN, Difference
from mirst.metrics import METRICS
from mirst.report.context import of_defense, title
from mirst.report.paper import ATTACKS, CLAIMS, COLUMNS, CW_REASON, MARGIN, Claim, Column
from mirst.report.tables import over_folds
from mirst.study import Results
from mirst.study.summary import pooled_difference

Verdict = Literal["upheld", "reversed", "not significant", "not comparable"]
Tables = Mapping[int, Results]
"""Measured results by the number of the paper's table."""


@dataclass(frozen=True)
class Judgement:
    """The verdict on one claim in one cell.

    >>> claim = Claim("RST is more robust", better=(1, "rst"), other=(1, "ce"), attacks=("pgd",))
    >>> Judgement(claim, "pgd", 0.496, measured=None, seeds=(), verdict="not comparable").reason
    ''
    """

    claim: Claim
    attack: str
    paper: float
    """The difference of the printed cells."""
    measured: Difference | None
    seeds: tuple[float, ...]
    """The difference for each seed alone."""
    verdict: Verdict
    reason: str = ""


def judge(claim: Claim, attack: str, tables: Tables) -> Judgement:
    """The verdict on `claim` under `attack`, by the 95 % interval of the pooled difference.

    "higher" is upheld if the interval lies above 0 and reversed if it lies below 0; "not worse"
    is upheld if it lies above -0.05 and reversed if it lies below -0.05. Columns that were not measured, or not
    on the same images and seeds, are not comparable.
    """
    paper = _printed(*claim.better, claim.metric, attack) - _printed(*claim.other, claim.metric, attack)
    for table, defense in (claim.other, claim.better):
        reason = _missing(tables, table, defense, attack)
        if reason:
            return Judgement(claim, attack, paper, None, (), "not comparable", reason)
    first, second = (_rows(tables[table], defense, attack) for table, defense in (claim.other, claim.better))
    better = tables[claim.better[0]]
    try:
        whole = pooled_difference(first, second, better.classes, better.positive, claim.metric)
    except MirstError:
        names = " and ".join(tables[table].folder.name for table, _ in (claim.other, claim.better))
        reason = f"{names} were not measured on the same images, labels and seeds"
        return Judgement(claim, attack, paper, None, (), "not comparable", reason)
    seeds = tuple(
        pooled_difference(one, second[second["seed"] == seed], better.classes, better.positive, claim.metric).value
        for seed, one in first.groupby("seed")
    )
    return Judgement(claim, attack, paper, whole, seeds, *_verdict(claim, attack, whole))


def paper_comparison(tables: Tables) -> str:
    """Markdown: the paper's tables beside the measured ones, then every claim with its verdict."""
    judgements = [judge(claim, attack, tables) for claim in CLAIMS for attack in claim.attacks]
    parts = [_side_by_side(number, results) for number, results in sorted(tables.items())]
    return "\n".join([*parts, *_claims(judgements)])


def _verdict(claim: Claim, attack: str, measured: Difference) -> tuple[Verdict, str]:
    if attack == "cw":
        return "not comparable", CW_REASON
    bar = 0.0 if claim.kind == "higher" else -MARGIN
    if measured.low > bar:
        return "upheld", ""
    return ("reversed" if measured.high < bar else "not significant"), ""


def _printed(table: int, defense: str, metric: str, attack: str) -> float:
    column = next(column for column in COLUMNS if (column.table, column.defense) == (table, defense))
    values: tuple[float, ...] = getattr(column, metric)
    return values[ATTACKS.index(attack)]


def _missing(tables: Tables, table: int, defense: str, attack: str) -> str:
    """Why a column was not measured under the attack; empty if it was."""
    if table not in tables:
        return f"Table {table} was not measured"
    results = tables[table]
    if defense not in {entry.title for entry in results.spec.defenses}:
        return f"{results.folder.name} has no column {defense}"
    failed = results.failed
    if defense in {title(d, m) for d, m in zip(failed["defense"], failed["drop_max"], strict=True)}:
        return f"{defense} failed"
    if attack not in {CLEAN, *(entry.label for entry in results.spec.attacks)}:
        return f"{results.folder.name} has no attack {attack}"
    return ""


def _rows(results: Results, defense: str, attack: str) -> pd.DataFrame:
    rows = results.outcomes[results.outcomes["attack"] == attack]
    return of_defense(rows, next(entry for entry in results.spec.defenses if entry.title == defense))


def _side_by_side(number: int, results: Results) -> str:
    columns = [column for column in COLUMNS if column.table == number]
    lines = [
        f"## Table {number}",
        "",
        f"Paper / measured in `{results.folder.name}`, mean ± standard deviation over the folds.",
        "",
        "| metric | attack | " + " | ".join(column.defense for column in columns) + " |",
        "|---|---|" + "---|" * len(columns),
    ]
    for metric in ("f1", "sensitivity"):
        for attack in ATTACKS:
            cells = [
                f"{_cell(column, metric, attack)} / {_measured(results, column, metric, attack)}" for column in columns
            ]
            lines.append(f"| {METRICS[metric].title} | {attack} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, ""])


def _cell(column: Column, metric: str, attack: str) -> str:
    values = getattr(column, metric)
    return "-" if values is None else f"{values[ATTACKS.index(attack)]:.3f}"


def _measured(results: Results, column: Column, metric: str, attack: str) -> str:
    rows = results.summary[(results.summary["metric"] == metric) & (results.summary["attack"] == attack)]
    for row in rows.to_dict("records"):
        if title(row["defense"], row["drop_max"]) == column.defense:
            return over_folds(row["mean"], row["std"], row["folds"], results.spec.folds.count)
    return "-"


def _claims(judgements: Sequence[Judgement]) -> list[str]:
    lines = [
        "## Claims",
        "",
        'The column "measured" gives the difference of the metric, pooled over the test folds, with its 95 % interval '
        'over groups; "seeds" gives it for each seed. Claims that say "comparably" or "does not" allow a loss of '
        f"{MARGIN}, the largest difference that the paper calls comparable.",
        "",
        "| claim | metric | attack | paper | measured | seeds | verdict |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in judgements:
        kind = (
            f"{one.claim.text} (shown by the paper's tables, but contrary to its text)"
            if one.claim.counter
            else one.claim.text
        )
        seeds = ", ".join(f"{value:+.3f}" for value in one.seeds) or "-"
        mark = "[^cw]" if one.reason == CW_REASON else f" ({one.reason})" if one.reason else ""
        lines.append(
            f"| {kind} | {METRICS[one.claim.metric].title} | {one.attack} | {one.paper:+.3f} | {one.measured or '-'} | "
            f"{seeds} | {one.verdict}{mark} |"
        )
    counts = Counter(one.verdict for one in judgements)
    total = ", ".join(f"{count} {verdict}" for verdict, count in counts.most_common())
    return [
        *lines,
        "",
        f"Verdicts on {len(judgements)} comparisons: {total}.",
        "",
        f"[^cw]: {CW_REASON[0].upper()}{CW_REASON[1:]}.",
        "",
    ]
