import shutil
from dataclasses import replace

import pandas as pd
import pytest
from sklearn.metrics import f1_score

from mirst.report import ReportContext
from mirst.report.comparison import comparison
from mirst.report.differences import differences, intervals
from mirst.report.identity import identity, is_synthetic
from mirst.report.sections import not_run
from mirst.report.verdict import reliability, verdict
from mirst.study import read_results


@pytest.fixture(scope="module")
def results(finished, tmp_path_factory):
    folder = tmp_path_factory.mktemp("verdict") / "small"
    shutil.copytree(finished, folder)
    return read_results(folder)


@pytest.fixture(scope="module")
def whole(results):
    return {name: intervals(ReportContext(results), name) for name in ("f1", "sensitivity")}


@pytest.fixture(scope="module")
def judged(results):
    return differences(ReportContext(results))


def test_the_numbers_are_those_of_the_rows(results, whole, judged):
    found = verdict(ReportContext(results), whole["f1"], judged)
    numbers = found.numbers.set_index("model")
    assert list(numbers.index) == ["ce", "mirst+dm", "fixed answer: malignant for every image"]
    clean = results.outcomes[results.outcomes["attack"] == "none"]
    for name in ("ce", "mirst+dm"):
        rows = clean[clean["defense"] == name.removesuffix("+dm")]
        f1 = f1_score(rows["label"], rows["prediction"], pos_label="malignant")
        assert numbers.at[name, "no attack"].startswith(f"{f1:.3f} [")
        assert numbers.at[name, "strongest attack"] == str(whole["f1"].loc["paper protocol", name])
    assert numbers.iloc[-1].tolist() == ["0.667", "0.667", "-"]  # half of the images are malignant: 2 / 3
    difference = judged.set_index("attack").at["paper protocol", "value"]
    assert numbers.at["mirst+dm", "difference from ce under attack"].startswith(f"{difference:+.3f} ")
    assert "without checks for gradient masking" in found.sentences[-1]


def test_the_page_says_what_it_is_of_and_what_was_not_run(results):
    context = ReportContext(results)
    found = identity(context)
    assert found["Data"].endswith(": 24 images (12 benign, 12 malignant; 24 groups)")
    assert found["Training"] == "ce, mirst+dm; each on 2 group folds with 2 seeds"
    assert found["Strongest attack"] == "paper protocol, eps 5/255"
    commands = not_run(results)
    assert commands[f"mirst evaluate {results.folder} --suite distances"] == ["Robustness over eps", "Flipped images"]
    assert f"mirst evaluate {results.folder} --suite standard" in commands
    assert not any("boxes" in command for command in commands)  # there are no lesions


@pytest.mark.parametrize(("name", "synthetic"), [("malignant/phantom-001.png", True), ("malignant/1.png", False)])
def test_only_studies_of_phantoms_alone_are_synthetic(results, name, synthetic):
    rows = results.outcomes.assign(image=["benign/phantom-002.png", *[name] * (len(results.outcomes) - 1)])
    assert is_synthetic(replace(results, outcomes=rows)) == synthetic


@pytest.mark.parametrize(
    ("verdicts", "said"),
    [(["pass", "pass"], "The models of fold 0 passed all 2 checks"), (["pass", "fail"], "1 of 2 checks")],
)
def test_checks_that_were_run_are_reported(results, verdicts, said):
    checks = pd.DataFrame({"defense": "ce", "drop_max": False, "name": ["budget", "one-step"], "verdict": verdicts})
    sentence = reliability(replace(results, checks={"standard": checks}))
    assert sentence.startswith(said)
    assert ("may be too high" in sentence) == ("fail" in verdicts)


def test_the_comparison_has_every_defense_and_marks_significant_differences(whole, judged):
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
