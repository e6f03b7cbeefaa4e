"""Metrics of each class of a study of three classes."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import yaml
from sklearn.metrics import cohen_kappa_score, precision_recall_fscore_support

from mirst.report import ReportContext, write_report
from mirst.report.classes import class_tables
from mirst.study import read_results

CLASSES = ["malignant", "normal", "benign"]
"""In an order that is not that of their names."""


@pytest.fixture
def study(finished, tmp_path):
    """The finished study with the benign images of an odd number called normal, and predictions of every class."""
    folder = shutil.copytree(finished, tmp_path / "study")
    rows = pd.read_csv(folder / "outcomes.csv", keep_default_na=False)
    odd = rows["image"].str.extract(r"(\d+)", expand=False).astype(int) % 2 == 1
    rows["label"] = rows["label"].where((rows["label"] != "benign") | ~odd, "normal")
    rows["prediction"] = np.choose(np.arange(len(rows)) % 5, ["normal", "benign", *[rows["prediction"]] * 3])
    rows.to_csv(folder / "outcomes.csv", index=False)
    run = json.loads((folder / "run.json").read_text())
    run["data"]["classes"] = CLASSES
    (folder / "run.json").write_text(json.dumps(run))
    return folder


def ordered(folder):
    spec = yaml.safe_load((folder / "study.yaml").read_text())
    spec["data"] |= {"classes": CLASSES, "ordinal": True}
    (folder / "study.yaml").write_text(yaml.safe_dump(spec))


@pytest.mark.parametrize("defense", ["ce", "mirst+dm"])
def test_the_values_are_scikit_learns(study, defense):
    ordered(study)
    results = read_results(study)
    numbers = class_tables(ReportContext(results)).numbers.set_index(["defense", "attack", "class", "metric"])["value"]
    clean = results.outcomes[results.outcomes["attack"] == "none"]
    own = clean[clean["defense"] == defense.removesuffix("+dm")]
    assert set(own["label"]) == set(CLASSES)
    found = numbers[defense, "no attack"]
    names = ("precision", "sensitivity", "f1")
    label, prediction = own["label"], own["prediction"]
    each = precision_recall_fscore_support(label, prediction, labels=CLASSES)
    for metric, values in zip(names, each[:3], strict=True):
        assert [found[name, metric] for name in CLASSES] == pytest.approx(list(values))
    for row, average in (("macro average", "macro"), ("weighted average", "weighted")):
        whole = precision_recall_fscore_support(label, prediction, average=average)
        assert [found[row, metric] for metric in names] == pytest.approx(list(whole[:3]))
    kappa = cohen_kappa_score(label, prediction, labels=CLASSES, weights="quadratic")
    assert found["weighted average", "quadratic kappa"] == pytest.approx(kappa)


def test_the_page_has_a_row_for_each_class(study):
    page = write_report(study).read_text()
    section = page.partition('<h2 id="classes">')[2].partition("<h2")[0]
    assert section.count("<tr>") == 1 + 2 * 2 * (3 + 2)  # defenses, clean and attacked, classes and two averages
    assert "kappa" not in section
    assert "macro averages over the classes; AUC of malignant against the others" in page
    assert "Positive class" not in page.partition('id="audit"')[0]
    assert (study / "tables" / "classes.csv").is_file()


def test_a_study_of_two_classes_has_no_such_section(finished, tmp_path):
    page = write_report(shutil.copytree(finished, tmp_path / "two")).read_text()
    assert 'id="classes"' not in page
