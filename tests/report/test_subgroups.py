"""Metrics by subgroup of a finished study whose images have attributes."""

import shutil

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import recall_score

from mirst.report import ReportContext, write_report
from mirst.report.subgroups import TOO_FEW, subgroup_names, subgroups
from mirst.study import read_results


@pytest.fixture
def study(finished, tmp_path):
    """North has all 12 malignant images and 3 benign ones, each a group of its own; south has the other 9."""
    shutil.copytree(finished, tmp_path / "study")
    images = read_results(tmp_path / "study").outcomes.drop_duplicates(["source", "image"])
    assert (images["group"].nunique(), sorted(images["label"].value_counts())) == (24, [12, 12])
    benign = images.index[images["label"] == "benign"]
    site = np.where(images.index.isin(benign[3:]), "$south", "<b>north")
    table = images[["source", "image"]].assign(site=site, one="same", age=[str(i) for i in range(24)])
    table.to_csv(tmp_path / "study" / "records.csv", index=False)
    return tmp_path / "study"


def test_each_metric_is_that_of_the_images_of_the_subgroup(study):
    results = read_results(study)
    assert subgroup_names(results) == ["site"]
    found = subgroups(ReportContext(results))
    numbers = found.table.numbers.set_index(["subgroup", "defense", "attack", "metric"])
    clean = results.outcomes[(results.outcomes["attack"] == "none") & (results.outcomes["defense"] == "ce")]
    north = clean.merge(results.attributes["site"].reset_index(), on=["source", "image"])
    north = north[north["site"] == "<b>north"]
    wanted = recall_score(north["label"], north["prediction"], pos_label="malignant")
    one = numbers.loc["<b>north", "ce", "no attack", "sensitivity"]
    assert (one["images"], one["groups"]) == (15, 15)
    assert one["value"] == pytest.approx(wanted)
    assert 0 <= one["low"] <= one["value"] <= one["high"] <= 1


def test_a_metric_that_lacks_groups_of_a_class_is_too_few_to_say(study):
    found = subgroups(ReportContext(read_results(study)))
    shown = found.table.shown.set_index(["subgroup", "defense"])
    assert len(shown) == 3 * 2 * 2  # subgroups and all images, defenses, clean and attacked
    for attacked in range(2):
        for defense in ("ce", "mirst+dm"):
            every, north, south = (
                shown.loc[(name, defense)].iloc[attacked] for name in ("all images", "<b>north", "$south")
            )
            assert TOO_FEW not in every.tolist()
            assert north["Sensitivity"] != TOO_FEW
            assert {north["F1 score"], north["Specificity"], north["AUC"]} == {TOO_FEW}
            assert {south[title] for title in ("F1 score", "Sensitivity", "Specificity", "AUC")} == {TOO_FEW}


def test_the_page_has_a_forest_plot_for_each_metric(study):
    page = write_report(study).read_text()
    section = page.partition('<h2 id="subgroups">')[2].partition("<h2")[0]
    assert section.count("<svg") - section.count("aria-hidden") == 4  # F1, sensitivity, specificity and AUC
    assert "<h3>site</h3>" in section
    assert "$south, no attack: too few to say" in section
    assert "&lt;b&gt;north" in section
    assert "<b>" not in section
    table = pd.read_csv(study / "tables" / "subgroups.csv")
    assert set(table["subgroup"]) == {"all images", "<b>north", "$south"}


def test_a_folder_without_attributes_has_no_such_section(study):
    (study / "records.csv").unlink()
    assert read_results(study).attributes is None
    assert 'id="subgroups"' not in write_report(study).read_text()
    assert not (study / "tables" / "subgroups.csv").exists()


def test_data_sets_are_subgroups_of_a_study_of_several(study):
    (study / "records.csv").unlink()
    for path in [study / "outcomes.csv"]:
        rows = pd.read_csv(path, keep_default_na=False)
        rows["source"] = np.where(rows["label"] == "benign", "first", "second")
        rows.to_csv(path, index=False)
    assert subgroup_names(read_results(study)) == ["source"]
