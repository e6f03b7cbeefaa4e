"""What a checklist consists of: items, the answers of a finished study, and what the answers are read from."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from mirst.errors import MirstError
from mirst.evaluation import CLEAN
from mirst.report.context import ReportContext
from mirst.report.headline import MOST_NAMES
from mirst.study import External, Results, read_externals
from mirst.study.results import read_csv


class Evidence:
    """A finished study whose report is written: its rows, and the tables of its report.

    >>> from types import SimpleNamespace
    >>> results = SimpleNamespace(folder=Path("results/small"), files=None)
    >>> Evidence(ReportContext(results)).place(Path("results/small/external/clinic/external.json"))
    'external/clinic/external.json'
    """

    def __init__(self, context: ReportContext) -> None:
        self.context = context
        self.results: Results = context.results

    @cached_property
    def externals(self) -> list[External]:
        """The validations on other data sets, and the test on the images that `folds.held_out` keeps."""
        return read_externals(self.results)

    @cached_property
    def clean(self) -> pd.DataFrame:
        """The outcome rows without an attack."""
        return self.results.outcomes[self.results.outcomes["attack"] == CLEAN]

    def place(self, path: Path) -> str:
        """The path within the results folder."""
        return path.relative_to(self.results.folder).as_posix()

    def numbers(self, name: str) -> pd.DataFrame:
        """The table `tables/NAME.csv` of the report.

        Raises:
            MirstError: the report is not written.
        """
        path = self.results.folder / table(name)
        if not path.is_file():
            folder = self.results.folder
            raise MirstError(f"{folder} has no {table(name)}; run mirst report {folder} first")
        return read_csv(path)

    def networks(self, name: str) -> pd.DataFrame:
        """The rows of `numbers` without those of baselines."""
        rows = self.numbers(name)
        return rows[rows["defense"].isin([entry.title for entry in self.results.spec.defenses])]


@dataclass(frozen=True)
class Answer:
    """What a study shows, in plain text, and the files of its results folder that prove it.

    >>> Answer("24 images in 24 groups.", ["run.json"]).files
    ['run.json']
    """

    sentence: str
    files: Sequence[str]


@dataclass(frozen=True)
class Item:
    """An item of a checklist. Without an answer, it is left to the author.

    >>> Item("44", "Other information", "Funding and the role of the funders").answer is None
    True
    """

    number: str
    """As published."""
    section: str
    title: str
    """What to report, in own words."""
    answer: Callable[[Evidence], Answer | None] | None = None
    """`None` as its result: this study has nothing to answer with."""
    author: str = ""
    """What the author adds to the answer."""
    command: str = ""
    """What makes a study able to answer, if it is not; RESULTS stands for its folder."""


@dataclass(frozen=True)
class Checklist:
    """A published checklist.

    >>> Checklist("CLAIM 2024", "Tejani et al. 2024", (Item("1", "Title", "The kind of AI"),)).items[0].number
    '1'
    """

    title: str
    source: str
    """The citation."""
    items: tuple[Item, ...]


def table(name: str) -> str:
    """The path of a table of the report within the results folder.

    >>> table("intervals")
    'tables/intervals.csv'
    """
    return f"tables/{name}.csv"


def per_model(rows: pd.DataFrame) -> str:
    """The values of a table of intervals, one row per model, in words; only their range if the models are many.

    >>> per_model(pd.DataFrame({"defense": ["ce"], "value": [0.8], "low": [0.7], "high": [0.9]}))
    'ce 0.800 (0.700 to 0.900)'
    """
    known = rows.dropna(subset="value")
    if len(rows) > MOST_NAMES and len(known):
        return f"{known['value'].min():.3f} to {known['value'].max():.3f} over {len(rows)} models"
    ends = zip(rows["defense"], rows["value"], rows["low"], rows["high"], strict=True)
    return ", ".join(
        f"{name} undefined" if pd.isna(value) else f"{name} {value:.3f} ({low:.3f} to {high:.3f})"
        for name, value, low, high in ends
    )


def counts(per_class: "pd.Series[int] | dict[str, int]") -> str:
    """Images of each class, in words.

    >>> counts({"benign": 12, "malignant": 10})
    '12 benign, 10 malignant'
    """
    return ", ".join(f"{count} {name}" for name, count in per_class.items())
