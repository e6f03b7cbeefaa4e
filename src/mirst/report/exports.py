"""Tables as CSV, Markdown and LaTeX."""

from pathlib import Path
from typing import NamedTuple

import pandas as pd

from mirst.files import write_csv, write_text

DOCUMENT = r"""\documentclass{article}
\usepackage[a3paper,landscape,margin=1cm]{geometry}
\usepackage{booktabs,longtable}
\pagestyle{empty}
\begin{document}
\footnotesize
%s\end{document}
"""


class Table(NamedTuple):
    """A table in two forms.

    >>> Table(pd.DataFrame({"F1": ["0.80"]}), pd.DataFrame({"f1": [0.8012]})).numbers["f1"].item()
    0.8012
    """

    shown: pd.DataFrame
    """For readers."""
    numbers: pd.DataFrame
    """The same numbers, unrounded, one per cell."""


def write_tables(folder: Path, tables: dict[str, Table]) -> None:
    """Write `NAME.csv`, `NAME.md` and `NAME.tex` of each table into `folder`.

    The LaTeX file is a whole document, for pdflatex; its `longtable` can be copied into another one.
    """
    for name, table in tables.items():
        write_csv(folder / f"{name}.csv", table.numbers)
        write_text(folder / f"{name}.md", markdown(table.shown))
        latex = table.shown.to_latex(index=False, escape=True, longtable=True)
        write_text(folder / f"{name}.tex", DOCUMENT % latex)


def markdown(table: pd.DataFrame) -> str:
    """The table in Markdown.

    >>> markdown(pd.DataFrame({"defense": ["ce"], "F1": ["0.80"]})).splitlines()
    ['| defense | F1 |', '| --- | --- |', '| ce | 0.80 |']
    """
    lines = [list(table.columns), ["---"] * len(table.columns), *table.itertuples(index=False)]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines) + "\n"
