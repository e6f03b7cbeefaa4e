import json
import re
import shutil

import pandas as pd
import pytest

from mirst.errors import MirstError
from mirst.report import ReportContext, paper_comparison, write_comparison, write_report
from mirst.report.calibration import calibrations
from mirst.study import attack_study, read_results
from mirst.study.results import COLUMNS, TABLES
from mirst.study.row_checks import ROWS
from mirst.study.summary import summarise

pytestmark = pytest.mark.usefixtures("unpainted")


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
    with pytest.raises(MirstError, match=f"{table} lacks the column {column}; repeat the command that wrote the file"):
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
        with pytest.raises(MirstError, match=r"outcomes.csv lacks rows of trial \S+, attack \w+; repeat the command"):
            read(study)


def test_a_trial_that_failed_needs_no_rows(study):
    change(study, "outcomes.csv", lambda rows: rows[(rows["defense"] != "ce") | (rows["fold"] != 1)])
    failed = [("ce", False, 1, seed, "the loss is nan") for seed in (0, 1)]
    change(study, "failed.csv", lambda rows: pd.DataFrame(failed, columns=rows.columns))
    assert "ce failed" in paper_comparison({1: read_results(study)})


def altered(column, value):
    def alter(rows):
        rows = rows.astype({column: object})
        rows.loc[5, column] = value
        return rows

    return alter


ODD_ROWS = [
    *((column, "", f"line 7 of .* has no {column}") for column in ROWS if column != "score"),
    *(
        (column, "x", f"line 7 of .* has a {column} that is not a number")
        for column in ("fold", "seed", "eps", "score")
    ),
    ("defense", "rst", "line 7 of .* belongs to a trial that is not in the study"),
    ("fold", 2, "line 7 of .* belongs to a trial that is not in the study"),
    ("seed", 7, "line 7 of .* belongs to a trial that is not in the study"),
    ("drop_max", True, "line 7 of .* belongs to a trial that is not in the study"),
    ("label", "normal", "line 7 of .* has a label that is not a class of the study"),
    ("prediction", "normal", "line 7 of .* has a prediction that is not a class of the study"),
    ("attack", "square", "line 7 of .* belongs to an attack that is not in the study"),
]


@pytest.mark.parametrize(("column", "value", "words"), ODD_ROWS)
def test_a_damaged_row_gets_a_sentence(study, column, value, words):
    change(study, "outcomes.csv", altered(column, value))
    with pytest.raises(MirstError, match=f"{words}; repeat the command that wrote the file"):
        read_results(study)


@pytest.mark.parametrize("row", ["garbage,,,", "garbage,False,0,0,s,i,g,benign,none,0.0,benign,0.5", ",,,"])
def test_an_appended_row_gets_a_sentence(study, row):
    with (study / "outcomes.csv").open("a") as file:
        file.write(f"{row}\n")
    with pytest.raises(MirstError, match=r"outcomes.csv (has no|belongs to a trial)"):
        read_results(study)


def test_a_repeated_row_gets_a_sentence(study):
    change(study, "outcomes.csv", lambda rows: pd.concat([rows, rows.iloc[[3]]]))
    lines = len((study / "outcomes.csv").read_text().splitlines())
    with pytest.raises(MirstError, match=rf"line {lines} of .* repeats an image of a trial under the same attack"):
        read_results(study)


def test_damaged_rows_of_a_suite_get_a_sentence(study):
    rows = pd.read_csv(study / "outcomes.csv").query("attack == 'pgd'").assign(attack="standard")
    checks = pd.DataFrame(columns=COLUMNS["standard-checks.csv"])
    checks.to_csv(study / "standard-checks.csv", index=False)
    rows.to_csv(study / "standard.csv", index=False)
    assert len(read_results(study).suites["standard"]) == len(rows)
    pd.concat([rows, rows.iloc[[0]]]).to_csv(study / "standard.csv", index=False)
    with pytest.raises(MirstError, match=r"standard.csv repeats"):
        read_results(study)


@pytest.mark.parametrize(("score", "count"), [("", 1), ("", 5), ("inf", 1)])
def test_rows_without_a_score_are_counted_and_left_out_of_calibration(study, score, count):
    def alter(rows):
        rows = rows.astype({"score": object})
        own = rows.index[(rows["defense"] == "ce") & (rows["attack"] == "none")][:count]
        rows.loc[own, "score"] = score
        return rows

    whole = {one.title: one for one in calibrations(ReportContext(read_results(study)))}
    change(study, "outcomes.csv", alter)
    results = read_results(study)
    page = write_report(study).read_text()
    found = re.search(r"WITHOUT A SCORE: (\d+) of (\d+) rows \(ce\)", page)
    assert [int(part) for part in found.groups()] == [count, len(results.outcomes)]
    fewer = {one.title: one for one in calibrations(ReportContext(results))}
    for title, missing in (("ce", count), ("mirst+dm", 0)):
        images = [one[title].under["no attack"].bins["images"].sum() for one in (whole, fewer)]
        assert images[0] - images[1] == missing


def test_a_defense_without_any_score_has_no_calibration(study):
    change(study, "outcomes.csv", lambda rows: rows.assign(score=rows["score"].where(rows["defense"] != "ce")))
    assert [one.title for one in calibrations(ReportContext(read_results(study)))] == ["mirst+dm"]
    assert "WITHOUT A SCORE" in write_report(study).read_text()


def test_a_suite_that_lacks_a_trial_gets_a_sentence_and_is_written_again(attacked, tmp_path):
    study = shutil.copytree(attacked, tmp_path / "study")
    before = (study / "standard.csv").read_bytes()
    change(
        study, "standard.csv", lambda rows: rows[(rows["fold"] == 0) | (rows["seed"] == 0) | (rows["defense"] != "ce")]
    )
    with pytest.raises(MirstError, match=r"standard.csv lacks the rows of the trial ce, fold 1, seed 1; repeat the"):
        write_report(study)
    attack_study(study, "standard", (0.3,))
    assert (study / "standard.csv").read_bytes() == before


@pytest.mark.parametrize(
    ("benign", "malignant"),
    [("0", "1"), ("1.0", "007"), ("True", "False"), ("NA", "nan"), ("1e3", "inf"), ("2024-01-01", "null")],
)
def test_names_that_look_like_other_values_are_names(study, benign, malignant):
    before = read_results(study)
    names = {"benign": benign, "malignant": malignant}
    for table in ("outcomes.csv", "summary.csv"):
        change(
            study,
            table,
            lambda rows: rows.assign(
                **{column: rows[column].map(names) for column in ("label", "prediction") if column in rows},
                **({"source": "1", "group": rows["group"].str.len()} if "group" in rows else {}),
            ),
        )
    run = json.loads((study / "run.json").read_text())
    run["data"] |= {"classes": [benign, malignant], "positive": malignant}
    run["data"]["per_class"] = {names[name]: count for name, count in run["data"]["per_class"].items()}
    (study / "run.json").write_text(json.dumps(run))
    results = read_results(study)
    assert list(results.outcomes["label"]) == [names[name] for name in before.outcomes["label"]]
    assert set(results.outcomes["source"]) == {"1"}
    again, first = (summarise(one.outcomes, one.classes, one.positive) for one in (results, before))
    pd.testing.assert_frame_equal(again, first)
    assert malignant in write_report(study).read_text(encoding="utf-8")
