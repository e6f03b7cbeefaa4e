import shutil
from dataclasses import replace

import pandas as pd
import pytest

from mirst.evaluation import classification_metrics
from mirst.report import ReportContext
from mirst.report.comparison import comparison
from mirst.report.differences import differences, intervals
from mirst.report.verdict import best_under_attack, verdict
from mirst.study import read_results


@pytest.fixture(scope="module")
def results(finished, tmp_path_factory):
    folder = tmp_path_factory.mktemp("verdict") / "small"
    shutil.copytree(finished, folder)
    return read_results(folder)


@pytest.fixture(scope="module")
def whole(results):
    return {name: intervals(ReportContext(results), name) for name in ("f1", "sensitivity")}


def test_three_sentences_with_the_numbers_of_the_rows(results, whole):
    training, numbers, reliability = verdict(ReportContext(results), whole)
    assert training.startswith("On 24 images (12 benign, 12 malignant; 24 groups of copies or patients), resnet_tiny")
    assert training.endswith("the defenses ce and mirst+dm, each on 2 group folds with 2 seeds.")
    best = best_under_attack(whole["f1"])
    rows = results.outcomes[
        (results.outcomes["defense"] == best.split("+")[0]) & (results.outcomes["attack"] == "none")
    ]
    clean = classification_metrics(rows["label"], rows["prediction"], rows["score"], results.classes, results.positive)
    assert numbers.startswith(f"{best}, the best defense under attack, has F1 {clean['f1']:.3f} [")
    assert f"and sensitivity {clean['sensitivity']:.3f} [" in numbers
    assert "under the strongest attacks that were run (paper protocol, eps 5/255)" in numbers
    assert numbers.endswith("predicting malignant for every image would give F1 0.667 under any attack.")
    assert "without checks for gradient masking" in reliability
    assert "--suite standard" in reliability


@pytest.mark.parametrize(
    ("verdicts", "said"),
    [(["pass", "pass"], "The models of fold 0 passed all 2 checks"), (["pass", "fail"], "1 of 2 checks")],
)
def test_checks_that_were_run_are_reported(results, whole, verdicts, said):
    checks = pd.DataFrame({"defense": "ce", "drop_max": False, "name": ["budget", "one-step"], "verdict": verdicts})
    reliability = verdict(ReportContext(replace(results, checks={"standard": checks})), whole)[2]
    assert reliability.startswith(said)
    assert ("may be too high" in reliability) == ("fail" in verdicts)


def test_the_comparison_has_every_defense_and_marks_significant_differences(results, whole):
    judged = differences(ReportContext(results))
    lines = comparison(whole, judged)
    assert list(lines) == ["ce", "mirst+dm"]
    cell = lines["mirst+dm"]["F1 score, paper protocol"]
    one = whole["f1"].loc["paper protocol", "mirst+dm"]
    assert (f"{cell.value} {cell.detail}", cell.key) == (str(one), one.value)
    assert lines["ce"]["difference of F1 from ce, no attack"].value == "-"
    shown = comparison(whole, judged.assign(reading="mirst+dm is better"))["mirst+dm"][
        "difference of F1 from ce, no attack"
    ]
    assert shown.significant
    assert shown.detail.endswith("] significant")
    assert lines["mirst+dm"]["difference of F1 from ce, no attack"].detail.endswith("] not significant")
