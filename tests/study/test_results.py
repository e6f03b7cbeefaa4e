import shutil

import pandas as pd
import pytest

from mirst.errors import MirstError
from mirst.report import paper_comparison, write_comparison, write_report
from mirst.study import read_results
from mirst.study.results import COLUMNS, TABLES


@pytest.fixture
def study(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "study")
    return tmp_path / "study"


def change(folder, name, alter):
    table = pd.read_csv(folder / name, keep_default_na=False)
    alter(table).to_csv(folder / name, index=False)


@pytest.mark.parametrize(("table", "column"), [(name, column) for name in TABLES for column in COLUMNS[name]])
def test_a_table_without_a_column_gets_a_sentence(study, table, column):
    change(study, table, lambda rows: rows.drop(columns=column))
    with pytest.raises(MirstError, match=f"{table} lacks the column {column}; run the command that wrote it again"):
        read_results(study)


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b'a,b\n"1\n2,3,4\n'])
def test_a_damaged_table_gets_a_sentence(study, table, content):
    (study / table).write_bytes(content)
    with pytest.raises(MirstError, match=table):
        read_results(study)


@pytest.mark.parametrize(
    "lost",
    [
        lambda rows: rows["defense"] == "ce",
        lambda rows: (rows["defense"] == "ce") & (rows["fold"] == 1),
        lambda rows: (rows["defense"] == "ce") & (rows["seed"] == 1),
        lambda rows: rows["attack"] == "pgd",
        lambda rows: rows["attack"] == "none",
        lambda rows: (rows["attack"] == "pgd") & (rows["defense"] == "ce") & (rows["fold"] == 0),
        lambda rows: rows.index == 0,
        lambda rows: rows.index >= 0,
    ],
    ids=["defense", "fold", "seed", "attack", "clean", "attack of a trial", "one row", "all"],
)
def test_missing_rows_get_a_sentence(study, finished, lost):
    change(study, "outcomes.csv", lambda rows: rows[~lost(rows)])
    for read in (read_results, write_report, lambda folder: write_comparison(folder, finished)):
        with pytest.raises(MirstError, match=r"outcomes.csv lacks rows of trial \S+, attack \w+; run the command"):
            read(study)


def test_a_trial_that_failed_needs_no_rows(study):
    change(study, "outcomes.csv", lambda rows: rows[(rows["defense"] != "ce") | (rows["fold"] != 1)])
    failed = [("ce", False, 1, seed, "the loss is nan") for seed in (0, 1)]
    change(study, "diverged.csv", lambda rows: pd.DataFrame(failed, columns=rows.columns))
    assert "ce diverged" in paper_comparison({1: read_results(study)})
