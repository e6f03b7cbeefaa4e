import csv
import shutil
import subprocess

import pandas as pd
import pytest

from mirst.report.exports import Table, markdown, write_tables

SHOWN = pd.DataFrame({"name": ["a_b & 50 %", "#1 {x} ~^"], "F1": ["0.6 ± 0.1", "+0.1 [-0.2, 0.3]"]})
NUMBERS = pd.DataFrame({"name": ["=1+1", "@x"], "+F1": [-0.5, 1 / 3]})


@pytest.fixture
def folder(tmp_path):
    write_tables(tmp_path, {"one": Table(SHOWN, NUMBERS)})
    return tmp_path


def test_markdown_has_a_line_per_row_and_keeps_its_columns(folder):
    assert (folder / "one.md").read_text() == markdown(SHOWN)
    lines = markdown(pd.DataFrame({"a|b": ["c|d"]})).splitlines()
    assert lines == ["| a\\|b |", "| --- |", "| c\\|d |"]


def test_no_text_in_the_csv_file_is_a_formula_and_numbers_stay_whole(folder):
    with (folder / "one.csv").open(newline="") as file:
        head, *rows = csv.reader(file)
    assert head == ["name", "'+F1"]
    assert [row[0] for row in rows] == ["'=1+1", "'@x"]
    assert [float(row[1]) for row in rows] == [-0.5, 1 / 3]


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is missing")
def test_the_latex_file_compiles_as_it_is(folder):
    run = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "one.tex"],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout[-2000:]
    assert "Overfull" not in run.stdout
    assert (folder / "one.pdf").stat().st_size > 1000
