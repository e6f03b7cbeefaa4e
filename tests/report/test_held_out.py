"""Calibration, sets of classes and abstention of a finished study."""

import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import expit

from mirst.calibration import fit_temperature, softmax
from mirst.evaluation.judge import class_scores
from mirst.nn import load_model, read_card
from mirst.report import ReportContext
from mirst.report.abstention import abstention_curves, abstention_table
from mirst.report.calibration import error_table
from mirst.report.class_sets import ALL, set_table
from mirst.report.held_out import OTHERS, OWN, held_out, logits_in
from mirst.study import read_results
from mirst.study.prepared import prepare, training_shares

pytestmark = pytest.mark.usefixtures("unpainted")


@pytest.fixture(scope="module")
def found(finished):
    return list(held_out(ReportContext(read_results(finished))))


def of(found, defense, attack, calibrated_on):
    (one,) = [one for one in found if (one.defense, one.attack, one.calibrated_on) == (defense, attack, calibrated_on)]
    return one


def test_every_defense_calibration_and_attack_is_there(found):
    assert [one.calibrated_on for one in found] == ([OWN] * 4 + [OTHERS] * 4) * 2
    attacks = ["no attack", "fgsm (eps 5/255)", "pgd (eps 5/255)", "paper protocol (eps 5/255)"]
    assert [one.attack for one in found] == attacks * 4
    assert {len(one.rows) for one in found} == {48}


def test_checkpoints_carry_the_calibration_of_their_validation_images(finished, found, small_spec):
    prepared = prepare(small_spec)
    path = finished / "trials" / "ce-fold1-seed0" / "model.safetensors"
    _, held = training_shares(prepared, prepared.folds[1].train)
    x, y = prepared.subset(held)[list(range(len(held)))]
    logits = load_model(path)[0](x).detach().numpy()
    card = read_card(path)
    assert card.calibration.temperature == pytest.approx(fit_temperature(logits, y.numpy()), rel=1e-3)
    probabilities = expit(logits[np.arange(len(y)), y] - logits[np.arange(len(y)), 1 - y])
    assert sorted(sum(card.calibration.scores, ())) == pytest.approx(sorted(1 - probabilities), abs=1e-5)
    assert of(found, "ce", "no attack", OWN).models[1, 0] == card.calibration


def test_ensembles_carry_one_of_their_own(combined, finished):
    ensemble = read_card(combined / "trials" / "ce-fold0-seed0" / "model.safetensors").calibration
    member = read_card(finished / "trials" / "ce-fold0-seed0" / "model.safetensors").calibration
    assert ensemble != member
    assert [len(own) for own in ensemble.scores] == [len(own) for own in member.scores]


def test_no_image_is_calibrated_on_its_own_fold_or_group(finished, tmp_path):
    """The calibration stays the same if the rows of the fold change, and lacks its groups wherever they are."""
    shutil.copytree(finished, tmp_path / "study")
    path = tmp_path / "study" / "outcomes.csv"
    rows = pd.read_csv(path)
    before = {
        one.attack: one
        for one in held_out(ReportContext(read_results(tmp_path / "study")))
        if one.calibrated_on == OTHERS
    }
    rows.loc[rows["fold"] == 0, "score"] = 3.0
    shared = rows.loc[(rows["fold"] == 0) & (rows["label"] == "benign"), "group"].iloc[0]
    moved = rows.loc[(rows["fold"] == 1) & (rows["label"] == "benign"), "group"].iloc[0]
    rows["group"] = rows["group"].replace(moved, shared)
    rows.to_csv(path, index=False)
    after = {
        one.attack: one
        for one in held_out(ReportContext(read_results(tmp_path / "study")))
        if one.calibrated_on == OTHERS
    }
    first, second = before["no attack"].models[0, 0].scores, after["no attack"].models[0, 0].scores
    assert first[1] == second[1]
    assert len(first[0]) - len(second[0]) == 1
    assert set(second[0]) < set(first[0])


def test_coverage_counts_the_sets_that_contain_the_label(found):
    one, numbers = of(found, "ce", "no attack", OTHERS), set_table(found).numbers
    line = numbers.set_index(["defense", "attack", "calibrated_on", "class"]).loc["ce", "no attack", OTHERS, ALL]
    hits, sizes = 0, []
    for row, contained in zip(one.rows.itertuples(), one.sets(0.9), strict=True):
        names = {name for name, own in zip(one.classes, contained, strict=True) if own}
        hits += row.label in names
        sizes.append(len(names))
    assert line["coverage"] == pytest.approx(hits / len(sizes))
    assert line["size"] == pytest.approx(np.mean(sizes))
    assert 0 <= line["low"] <= line["coverage"] <= line["high"] <= 1


def test_rows_without_finite_logits_are_never_covered_and_have_no_calibration_error(found):
    one = of(found, "ce", "no attack", OWN)
    rows = one.rows.copy()
    rows.iloc[:3, rows.columns.get_loc("score")] = [np.nan, 1e39, -1e39]
    changed = type(one)(one.defense, one.attack, one.calibrated_on, rows, one.classes, one.positive, one.models)
    assert not changed.sets(0.999)[:3].any()
    assert error_table([changed]).numbers["images"].item() == 45
    assert error_table([one]).numbers["images"].item() == 48
    assert set_table([changed]).numbers["images"].iloc[0] == 48
    assert np.isfinite(abstention_table([changed]).numbers["area"].item())


def test_all_kept_is_the_error_of_the_predictions(found):
    numbers = abstention_table(found).numbers
    assert len(numbers) == 16
    for one, error in zip(found, numbers["error_at_1"], strict=True):
        assert error == pytest.approx((one.rows["prediction"] != one.rows["label"]).mean())
    drawn = [one for one in found if one.calibrated_on == OWN and one.attack in ("no attack", "pgd (eps 5/255)")]
    assert [one.title for one in abstention_curves(drawn)] == ["ce", "mirst+dm"]


def test_a_suite_counts_only_with_its_worst_scores(attacked, tmp_path):
    shutil.copytree(attacked, tmp_path / "study")
    path = tmp_path / "study" / "standard.csv"
    rows = pd.read_csv(path)
    worst = np.where(rows["label"] == "malignant", rows["score"] - 1, rows["score"] + 1)
    for table, counts in (
        (rows.drop(columns="worst_score", errors="ignore"), False),
        (rows.assign(worst_score=worst), True),
    ):
        table.to_csv(path, index=False)
        found = list(held_out(ReportContext(read_results(tmp_path / "study"))))
        own = [one for one in found if one.attack.startswith("standard")]
        assert bool(own) == counts
    assert (own[0].rows["score"] == own[0].rows["worst_score"]).all()


def test_logits_of_three_classes_follow_from_their_scores_and_older_rows_have_none():
    """Up to a number per row, which no probability depends on; a row of non-finite logits has the worst scores."""
    logits = np.array([[1.0, 2.0, 3.0], [0.0, 30.0, -30.0]])
    own = class_scores(torch.tensor(logits), torch.tensor([0, 1])).numpy()
    broken = class_scores(torch.tensor([[np.nan, 0.0, 0.0]]), torch.tensor([2])).numpy()
    rows = pd.DataFrame(np.concatenate([own, broken]), columns=["score:a", "score:b", "score:c"])
    found = logits_in(rows, ("a", "b", "c"), None)
    np.testing.assert_allclose(softmax(found[:2]), softmax(logits), rtol=1e-12)
    assert np.isnan(found[2]).all()
    assert np.isnan(logits_in(rows.drop(columns="score:b"), ("a", "b", "c"), None)).all()
    assert logits_in(pd.DataFrame({"score": [2.0, -1.0]}), ("a", "b"), "a").tolist() == [[2, 0], [-1, 0]]
