"""AUC under attack in a study: measured on request, kept, and shown where it was measured."""

import json
import shutil

import pandas as pd
import pytest
import yaml
from sklearn.metrics import roc_auc_score

from mirst.errors import MirstError
from mirst.report import ReportContext, write_report
from mirst.report.tables import measured_metrics, metric_table
from mirst.study import Local, attack_study, read_results
from mirst.study.summary import pooled_interval

pytestmark = pytest.mark.usefixtures("unpainted")

EPS = (0.3,)
CARD = "trials/ce-fold0-seed0/MODEL_CARD.md"


@pytest.fixture(scope="module")
def plain(attacked, tmp_path_factory):
    folder = tmp_path_factory.mktemp("plain") / "study"
    shutil.copytree(attacked, folder)
    write_report(folder)
    return folder


@pytest.fixture(scope="module")
def scored(plain, tmp_path_factory):
    """Attacked again, now with the option."""
    folder = tmp_path_factory.mktemp("scored") / "study"
    shutil.copytree(plain, folder)
    seen = []
    attack_study(folder, "standard", EPS, auc=True, engine=Local(2), on_trial=seen.append)
    assert len(seen) == 8
    write_report(folder)
    return folder


def test_the_other_columns_keep_their_text(plain, scored):
    before, after = (pd.read_csv(out / "standard.csv", dtype=str) for out in (plain, scored))
    assert len(before) > 0
    pd.testing.assert_frame_equal(after.drop(columns="worst_score"), before)
    assert after["worst_score"].notna().all()
    clean = after[after["attack"] == "none"]
    assert (clean["worst_score"] == clean["score"]).all()


@pytest.mark.parametrize("auc", [True, False])
def test_a_study_that_has_it_is_not_attacked_again(scored, auc):
    before, seen = (scored / "standard.csv").read_bytes(), []
    attack_study(scored, "standard", EPS, auc=auc, on_trial=seen.append)
    assert seen == []
    assert (scored / "standard.csv").read_bytes() == before


def test_the_record_says_so_only_with_the_option(plain, scored):
    name = "trials/ce-fold0-seed0/standard.json"
    assert "auc" not in json.loads((plain / name).read_text())
    assert json.loads((scored / name).read_text())["auc"] is True


def test_the_summary_has_the_mean_over_the_folds(scored):
    context = ReportContext(read_results(scored))
    rows, summary = context.results.suites["standard"], context.summary
    found = summary[summary["metric"] == "auc_attacked"]
    assert found["attack"].unique().tolist() == ["standard 0.3"]
    assert found["defense"].tolist() == ["ce", "mirst"]
    for row in found.to_dict("records"):
        own = rows[rows["defense"] == row["defense"]]
        per_trial = [
            roc_auc_score(part["label"] == context.results.positive, part["worst_score"])
            for _, part in own.groupby(["fold", "seed"])
        ]
        assert len(per_trial) == 4
        assert row["mean"] == pytest.approx(sum(per_trial) / 4)
    ce = pooled_interval(
        rows[rows["defense"] == "ce"], context.results.classes, context.results.positive, "auc_attacked"
    )
    assert 0 <= ce.low <= ce.value <= ce.high <= 1


def test_tables_page_and_card_show_it_where_it_was_measured(plain, scored):
    table = metric_table(ReportContext(read_results(scored)), "auc_attacked")
    assert table.index.tolist() == ["standard (eps 0.3)"]
    assert (table != "-").all(axis=None)
    for name in ("table.md", "report.html", CARD):
        assert "AUC under attack" in (scored / name).read_text()
        assert "AUC under attack" not in (plain / name).read_text()
    assert "auc_attacked" not in measured_metrics(ReportContext(read_results(plain)))
    front = yaml.safe_load((scored / CARD).read_text().split("---\n")[1])
    *others, standard = front["model-index"][0]["results"]
    assert "auc_attacked" in [metric["name"] for metric in standard["metrics"]]
    assert len(others) == 3
    assert not any(metric["name"] == "auc_attacked" for other in others for metric in other["metrics"])


def test_a_study_of_which_one_model_has_it_shows_one_fold(plain, scored, tmp_path):
    shutil.copytree(plain, tmp_path / "study")
    rows = pd.read_csv(scored / "standard.csv")
    rows.loc[rows["fold"] == 1, "worst_score"] = float("nan")
    rows.to_csv(tmp_path / "study" / "standard.csv", index=False)
    results = read_results(tmp_path / "study")
    table = metric_table(ReportContext(results), "auc_attacked")
    assert table.map(lambda cell: "(1 of 2 folds)" in cell).all(axis=None)
    pooled = pooled_interval(results.suites["standard"], results.classes, results.positive, "auc_attacked")
    assert str(pooled) == "undefined"


def test_a_damaged_score_gets_a_sentence(scored, tmp_path):
    shutil.copytree(scored, tmp_path / "study")
    rows = pd.read_csv(scored / "standard.csv", dtype=str)
    rows.loc[2, "worst_score"] = "x"
    rows.to_csv(tmp_path / "study" / "standard.csv", index=False)
    with pytest.raises(MirstError, match=r"line 4 of .*standard\.csv has a worst_score that is not a number"):
        read_results(tmp_path / "study")
