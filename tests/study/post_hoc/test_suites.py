import shutil

import pandas as pd
import pytest
import yaml

from mirst.errors import MirstError
from mirst.nn import DropMax2d, load_model
from mirst.report import ReportContext, write_report
from mirst.report.differences import differences, intervals
from mirst.report.tables import metric_table
from mirst.study import Local, attack_study, load_spec, read_results, run_study
from mirst.study.layout import StudyFolder
from mirst.study.post_hoc.suites import SuiteRun, twin_of
from mirst.study.prepared import prepare
from mirst.study.trial import all_trials

pytestmark = pytest.mark.usefixtures("unpainted")

EPS = (0.3,)


@pytest.fixture(scope="module")
def study(attacked, tmp_path_factory):
    return shutil.copytree(attacked, tmp_path_factory.mktemp("suites") / "study")


def test_every_model_is_attacked_on_its_own_test_fold(study):
    results = read_results(study)
    rows = pd.read_csv(study / "standard.csv")
    keys = ["defense", "drop_max", "fold", "seed", "source", "image"]
    clean = results.outcomes[results.outcomes["attack"] == "none"]
    for attack in ("none", "paper", "standard"):
        own = rows[rows["attack"] == attack]
        assert sorted(map(tuple, own[keys].to_numpy())) == sorted(map(tuple, clean[keys].to_numpy()))
    both = rows[rows["attack"] == "none"].merge(clean, on=keys)
    assert (both["prediction_x"] == both["prediction_y"]).all()
    costs = pd.read_csv(study / "standard-costs.csv")
    assert set(costs["attack"]) == {"fgsm", "pgd", "cw", "apgd-ce", "apgd-margin", "fab", "square"}


def test_the_suite_joins_the_models_card(study, finished):
    name = "trials/ce-fold0-seed0/MODEL_CARD.md"
    before, after = (yaml.safe_load((out / name).read_text().split("---\n")[1]) for out in (finished, study))
    before, after = (card["model-index"][0]["results"] for card in (before, after))
    assert after[:-1] == before
    assert after[-1]["dataset"]["args"] == {"attack": "standard", "eps": 0.3}
    assert "No strong attack was run" in (finished / name).read_text()
    assert "No strong attack was run" not in (study / name).read_text()


def test_models_of_the_first_fold_and_seed_are_checked(study):
    checks = read_results(study).checks["standard"]
    assert set(zip(checks["defense"], checks["fold"], checks["seed"], strict=True)) == {("ce", 0, 0), ("mirst", 0, 0)}


def test_the_table_carries_both_columns_and_the_page_opens_with_the_verdict(study, finished):
    table = metric_table(ReportContext(read_results(study)), "f1")
    assert [heading for heading in table.index if "paper protocol" in heading or "standard" in heading] == [
        "paper protocol: worst of fgsm, pgd",
        "standard (eps 0.3)",
    ]
    assert (table.loc["standard (eps 0.3)"] != "-").all()
    without = metric_table(ReportContext(read_results(finished)), "f1")
    assert without.loc["standard (not run)"].tolist() == ["-", "-"]
    page = write_report(study).read_text()
    assert page.index('<div class="verdict">') < page.index("<table")
    assert "<dt>Strongest attack</dt><dd>standard, eps 0.3</dd>" in page
    assert "Only weak attacks were run" not in page
    section = page[page.index('<h2 id="verdict">') : page.index('<h2 id="comparison">')]
    assert "checks for gradient masking" in section
    text = (study / "differences.md").read_text()
    assert "| standard | ce | mirst+dm | " in text
    assert text.count("| paper protocol | ") == 2


def test_intervals_hold_the_pooled_f1_of_every_suite(study):
    results = read_results(study)
    whole = intervals(ReportContext(results))
    assert whole.index.tolist() == ["none", "paper protocol", "standard"]
    assert whole.columns.tolist() == ["ce", "mirst+dm"]
    rows = results.suites["standard"]
    rows = rows[rows["defense"] == "mirst"]
    hit = ((rows["label"] == results.positive) & (rows["prediction"] == results.positive)).sum()
    called = (rows["prediction"] == results.positive).sum()
    meant = (rows["label"] == results.positive).sum()
    one = whole.loc["standard", "mirst+dm"]
    assert one.value == pytest.approx(2 * hit / (called + meant))
    assert one.low <= one.value <= one.high


def test_differences_are_judged_under_every_suite(study):
    table = differences(ReportContext(read_results(study)))
    assert table["attack"].tolist() == ["none", "paper protocol", "standard"]
    assert set(table["first"]) == {"ce"}
    assert set(table["second"]) == {"mirst+dm"}
    assert table["p"].between(0, 1).all()
    for row in table.to_dict("records"):
        assert (row["reading"] == "not significant") == (row["p"] >= 0.05)


def test_finished_trials_are_not_attacked_again_unless_eps_changed(study):
    before = (study / "standard.csv").read_bytes()
    seen = []
    attack_study(study, "standard", EPS, on_trial=seen.append)
    assert (study / "standard.csv").read_bytes() == before
    assert seen == []


def test_the_twin_with_the_other_pool_is_the_source(finished, small_spec, tmp_path):
    spec = small_spec.model_copy(
        update={"defenses": load_spec(None, ["defenses=[ce, {name: ce, drop_max: true}]"]).defenses, "seeds": (0,)}
    )
    run_study(spec, tmp_path / "pools", engine=Local(2))
    prepared, trials, study = prepare(spec), all_trials(spec), StudyFolder(tmp_path / "pools")
    assert len(trials) == 4
    for trial in trials:
        twin = twin_of(trial, prepared)
        assert (twin.entry.drop_max, twin.fold) == (not trial.entry.drop_max, trial.fold)
        inputs = list(SuiteRun("adaptive", EPS).inputs(trial, prepared, study))
        assert study.trial(twin.name).model in inputs
        pools = [isinstance(layer, DropMax2d) for layer in load_model(study.trial(twin.name).model)[0].modules()]
        assert any(pools) != trial.entry.drop_max
    assert all(twin_of(trial, prepare(small_spec)) is None for trial in all_trials(small_spec))


def test_no_study_and_bad_radii_get_a_sentence(study, tmp_path):
    with pytest.raises(MirstError, match="not the folder of a finished study"):
        attack_study(tmp_path, "standard", EPS)
    with pytest.raises(MirstError, match="give each radius once"):
        attack_study(study, "adaptive", (2.0,))
