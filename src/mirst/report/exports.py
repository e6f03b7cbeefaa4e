"""Tables as CSV, Markdown and LaTeX."""

from pathlib import Path
from typing import NamedTuple

import pandas as pd

from mirst.files import write_csv, write_text

PREAMBLE = r"""\documentclass{article}
\usepackage[landscape,margin=1cm]{geometry}
\usepackage{booktabs}
\usepackage{graphicx}
\pagestyle{empty}
\begin{document}
\noindent\resizebox{\ifdim\width>\textwidth\textwidth\else\width\fi}{!}{%
"""
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""With these a spreadsheet takes a text for a formula."""


class Table(NamedTuple):
    shown: pd.DataFrame
    """As people read it."""
    numbers: pd.DataFrame
    """The same unrounded, a number a cell."""


def write_tables(folder: Path, tables: dict[str, Table]) -> None:
    """Write `NAME.csv`, `NAME.md` and `NAME.tex` of each table into `folder`.

    Texts that a spreadsheet would compute get an apostrophe in the CSV file. The LaTeX file is a whole
    document, for pdflatex; what lies between its `tabular` lines can be copied elsewhere.
    """
    for name, table in tables.items():
        write_csv(folder / f"{name}.csv", table.numbers.map(_harmless).rename(columns=_harmless))
        write_text(folder / f"{name}.md", markdown(table.shown))
        latex = table.shown.to_latex(index=False, escape=True)
        write_text(folder / f"{name}.tex", f"{PREAMBLE}{latex}}}\n\\end{{document}}\n")


def markdown(table: pd.DataFrame) -> str:
    """The table in pipes."""
    lines = [list(table.columns), ["---"] * len(table.columns), *table.itertuples(index=False)]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines) + "\n"


def _harmless(cell: object) -> object:
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA) else cell
