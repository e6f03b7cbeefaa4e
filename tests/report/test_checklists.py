"""Checklists: every published item, and answers that their files prove."""

import json
import re
import shutil
from dataclasses import replace
from urllib.parse import unquote

import pandas as pd
import pytest
from sklearn.metrics import f1_score, recall_score

from mirst.errors import MirstError
from mirst.report import ReportContext, write_checklist, write_report
from mirst.report.checklists import CHECKLISTS, Evidence
from mirst.study import read_results
from tests.helpers import refused

pytestmark = pytest.mark.usefixtures("unpainted")

TRIPOD = (
    "1 2 3a 3b 3c 4 5a 5b 6a 6b 6c 7 8a 8b 8c 9a 9b 9c 10 11 12a 12b 12c 12d 12e 12f 12g 13 14 15 16 17 "
    "18a 18b 18c 18d 18e 18f 19 20a 20b 20c 21 22 23a 23b 24 25 26 27a 27b 27c"
)
PUBLISHED = {"claim": [str(number) for number in range(1, 45)], "tripod-ai": TRIPOD.split()}
NAME = "cli|nic_<b>*1*"
"""Of a data set: Markdown must show it as it is."""


@pytest.fixture(scope="module")
def reported(finished, tmp_path_factory):
    """The finished study with its report."""
    folder = shutil.copytree(finished, tmp_path_factory.mktemp("checklists") / "small")
    write_report(folder)
    return folder


@pytest.fixture(scope="module")
def validated(reported, tmp_path_factory):
    """The study, validated on a data set: its own rows under the names of other images."""
    folder = shutil.copytree(reported, tmp_path_factory.mktemp("validated") / "small")
    place = folder / "external" / NAME
    place.mkdir(parents=True)
    rows = pd.read_csv(folder / "outcomes.csv")
    rows = rows.assign(source=NAME, image="other-" + rows["image"], group="other-" + rows["group"])
    rows.to_csv(place / "outcomes.csv", index=False)
    record = {"data": "clinic", "labels": None, "fingerprint": "0", "images": 24, "groups": 24, "notes": []}
    record |= {"per_class": {"benign": 12, "malignant": 12}, "left_out": {"1.png": "copy of 7.png of the study"}}
    (place / "external.json").write_text(json.dumps(record))
    write_report(folder)
    return folder


def cells(folder, name):
    """The rows of a written checklist by item number: title, answer and proof, as Markdown."""
    text = write_checklist(folder, name).read_text(encoding="utf-8")
    lines = [re.split(r"(?<!\\)\|", line)[1:-1] for line in text.splitlines() if line.startswith("| ")]
    found = [[cell.strip() for cell in line] for line in lines]
    return {number: rest for number, *rest in found if number not in ("item", "---")}


def item(results, name, number):
    (found,) = [one for one in CHECKLISTS[name].items if one.number == number]
    return found.answer(Evidence(ReportContext(results)))


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_published_item_is_there_once_in_its_order(name):
    assert list(CHECKLISTS) == list(PUBLISHED)
    assert [item.number for item in CHECKLISTS[name].items] == PUBLISHED[name]
    titles = [item.title for item in CHECKLISTS[name].items]
    assert all(titles)


@pytest.mark.parametrize(("name", "answered"), [("claim", 21), ("tripod-ai", 16)])
def test_every_answer_links_to_files_that_exist(validated, name, answered):
    rows = cells(validated, name)
    assert list(rows) == PUBLISHED[name]
    by_run = [row for row in rows.values() if not row[1].startswith("author")]
    assert len(by_run) >= answered
    for _, answer, proof in by_run:
        links = re.findall(r"\[((?:\\.|[^\]])+)\]\(([^)]+)\)", proof)
        assert answer
        assert links
        for text, link in links:
            assert (validated / unquote(link)).is_file()
            assert re.sub(r"\\(.)", r"\1", text) == unquote(link)
    assert all(proof == "" for _, answer, proof in rows.values() if answer.startswith("author"))


def test_the_figures_are_those_of_the_rows(reported):
    results = read_results(reported)
    clean = results.outcomes[results.outcomes["attack"] == "none"]
    performance = item(results, "claim", "37").sentence
    diagnostic = item(results, "claim", "38").sentence
    for title, rows in (("ce", clean[~clean["drop_max"]]), ("mirst+dm", clean[clean["drop_max"]])):
        label, prediction = rows["label"] == "malignant", rows["prediction"] == "malignant"
        assert f"{title} {f1_score(label, prediction):.3f} (" in performance.partition("Under the worst of")[0]
        for metric, value in (
            ("Sensitivity", recall_score(label, prediction)),
            ("Specificity", recall_score(~label, ~prediction)),
        ):
            assert re.search(rf"{metric}: [^:]*{re.escape(title)} {value:.3f} \(", diagnostic)
    assert item(results, "claim", "7").sentence.startswith("24 images in 24 groups")
    assert "12 benign, 12 malignant" in item(results, "tripod-ai", "20a").sentence
    wrong = {}
    for row in clean.to_dict("records"):
        wrong.setdefault(row["image"], []).append(row["label"] != row["prediction"])
    ever, always = sum(map(any, wrong.values())), sum(map(all, wrong.values()))
    assert f"{ever} of 24 test images" in item(results, "claim", "39").sentence
    assert f"and {always} by all of them" in item(results, "claim", "39").sentence


def test_without_external_validation_the_item_is_the_authors_with_the_command(reported):
    for name, number in (("claim", "33"), ("tripod-ai", "20c")):
        _, answer, proof = cells(reported, name)[number]
        assert answer == f"author; to let the run answer: `mirst validate {reported} --data OTHER`"
        assert proof == ""


def test_an_external_set_answers_with_its_figures_and_its_name_is_escaped(validated):
    results = read_results(validated)
    clean = results.outcomes[(results.outcomes["attack"] == "none") & results.outcomes["drop_max"]]
    f1 = f1_score(clean["label"], clean["prediction"], pos_label="malignant")
    answer, proof = cells(validated, "claim")["33"][1:]
    assert re.search(rf"external ce [^;]*mirst\+dm {f1:.3f} \(", answer)
    assert r"of cli\|nic\_\<b\>\*1\*, F1 score" in answer
    assert "external/cli%7Cnic_%3Cb%3E%2A1%2A/external.json" in proof
    assert "1 image(s) of it are left out" in cells(validated, "tripod-ai")["20c"][1]


def test_groups_in_several_folds_are_told(reported):
    results = read_results(reported)
    assert item(results, "claim", "20").sentence.startswith("Groups: each of the 24 groups")
    leaking = results.outcomes.assign(group=results.outcomes["label"])
    assert item(replace(results, outcomes=leaking), "claim", "20").sentence.startswith("Images: 2 of 2 groups")


def test_without_attributes_subgroups_and_models_the_items_are_the_authors(reported, tmp_path):
    folder = shutil.copytree(reported, tmp_path / "small", ignore=shutil.ignore_patterns("model.safetensors"))
    rows = cells(folder, "tripod-ai")
    assert [rows[number][1] for number in ("20b", "22", "23b")] == ["author"] * 3
    results = read_results(folder)
    assert results.attributes is None
    beside = pd.DataFrame({"site": ["north", "south"]}, index=pd.MultiIndex.from_tuples([("a", "1"), ("a", "2")]))
    assert item(replace(results, attributes=beside), "claim", "36").sentence == "site: north (1), south (1)."


def test_ensembles_name_their_members(combined):
    results = read_results(combined)
    assert item(results, "claim", "27").sentence.startswith("The models are ensembles of the seeds 0, 1 of")
    assert item(results, "claim", "19").sentence.endswith("on each fold with 2 seed(s).")


def test_a_study_without_its_report_gets_a_sentence(finished):
    with pytest.raises(MirstError, match=r"has no report.html; run mirst report"):
        write_checklist(finished, "claim")


def test_the_command_writes_it_beside_the_report(reported, mirst, monkeypatch):
    monkeypatch.setattr("mirst.report.write_report", lambda folder: folder / "report.html")
    code, text, _ = mirst("report", reported, "--checklist", "tripod-ai")
    assert (code, text.splitlines()[-1]) == (0, f"Checklist: {reported / 'checklist-tripod-ai.md'}")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [(["--checklist", "clam"], "did you mean claim"), ([".", "--checklist", "claim"], "give one results folder")],
)
def test_what_cannot_be_drafted_gets_a_sentence_before_anything_is_written(finished, mirst, arguments, sentence):
    assert sentence in refused(mirst("report", finished, *arguments))
    assert not list(finished.glob("checklist-*"))
    assert not (finished / "report.html").exists()
