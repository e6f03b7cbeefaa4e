"""The sections beside the tables, on a finished study."""

import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.calibration import calibration_curve

from mirst.report import ReportContext
from mirst.report.calibration import calibrations, reliability
from mirst.report.confusion import confusions
from mirst.report.context import of_defense
from mirst.report.eps_curve import eps_curve
from mirst.report.gallery import galleries
from mirst.report.operating_point import operating_points
from mirst.report.training import training_curves
from mirst.study import read_results


@pytest.fixture(scope="module")
def results(searched):
    return read_results(searched)


@pytest.fixture(scope="module")
def context(results):
    return ReportContext(results)


def test_confusion_matrices_count_every_image_once(results, context):
    found = confusions(context)
    assert [one.title for one in found] == ["ce", "mirst+dm"]
    assert list(found[0].blocks) == ["no attack", "pgd (eps 5/255)", "paper protocol (eps 5/255)"]
    assert [list(block) for one in found for block in one.blocks.values()] == [["benign", "malignant"]] * 6
    for one in found:
        for block in one.blocks.values():
            for cells in block.values():
                assert sum(cell.count for cell in cells) == 24  # 12 images of a class under 2 seeds
                assert sum(cell.share for cell in cells) == pytest.approx(1)
    clean = results.outcomes[results.outcomes["attack"] == "none"]
    own = of_defense(clean, results.spec.defenses[0])
    hit = ((own["label"] == "malignant") & (own["prediction"] == "malignant")).sum()
    assert found[0].blocks["no attack"]["malignant"][1].count == hit


def test_reliability_agrees_with_scikit_learn():
    rng = np.random.default_rng(0)
    score, label = rng.normal(size=400), rng.choice(["benign", "malignant"], size=400)
    one = reliability(pd.DataFrame({"score": score, "label": label}), "malignant")
    probabilities = 1 / (1 + np.exp(-score))
    share, probability = calibration_curve(label == "malignant", probabilities, n_bins=10, strategy="quantile")
    assert one.bins["share"].tolist() == pytest.approx(share.tolist())
    assert one.bins["probability"].tolist() == pytest.approx(probability.tolist())
    assert one.bins["images"].tolist() == [40] * 10
    assert one.ece == pytest.approx(np.abs(share - probability).mean())


def test_calibration_is_shown_clean_and_attacked(context):
    found = calibrations(context)
    assert [one.title for one in found] == ["ce", "mirst+dm"]
    for one in found:
        assert list(one.under) == ["no attack", "paper protocol (eps 5/255)"]
        assert f"no attack {one.under['no attack'].ece:.3f}" in one.chart.svg


def test_the_operating_point_is_where_the_models_decide(context):
    matrices = {one.title: one.blocks["no attack"] for one in confusions(context)}
    found = operating_points(context)
    assert [one.title for one in found] == ["ce", "mirst+dm"]
    for one in found:
        rates = one.under["no attack"]
        assert rates.sensitivity == pytest.approx(matrices[one.title]["malignant"][1].share)
        assert rates.specificity == pytest.approx(matrices[one.title]["benign"][0].share)
        assert rates.moved_sensitivity >= 0.9
        assert one.thresholds == [0.0] * 4


def test_training_curves_name_the_kept_epochs(results):
    undefended, robust = training_curves(results)
    assert (undefended.title, robust.title) == ("ce", "mirst+dm")
    assert len(robust.kept.split(", ")) == 4
    assert "not measured" not in robust.attacked + robust.clean
    assert robust.kept in robust.charts[0].svg


def test_a_history_of_an_older_version_shows_no_loss_as_accuracy(results, tmp_path):
    shutil.copytree(results.folder, tmp_path / "old")
    for path in (tmp_path / "old" / "trials").glob("*/history.csv"):
        history = pd.read_csv(path)
        old = history.assign(clean=history["loss_clean"])
        old[[name for name in old if not name.startswith("loss_")]].to_csv(path, index=False)
    assert {one.clean for one in training_curves(read_results(tmp_path / "old"))} == {"not measured"}


def test_the_curve_starts_at_the_clean_f1_and_never_rises(results, context):
    found = eps_curve(results)
    matrices = confusions(context)[0].blocks["no attack"]
    hit = matrices["malignant"][1].count
    f1 = 2 * hit / (2 * hit + matrices["malignant"][0].count + matrices["benign"][1].count)
    assert found.table.loc["0", "ce"] == pytest.approx(f1)
    assert (found.table.diff().iloc[1:] <= 1e-12).all(axis=None)


def test_the_gallery_shows_the_smallest_eps_first(context):
    found = galleries(context)
    assert 1 <= len(found) == len({one.title for one in found} & {"ce", "mirst+dm"})
    for one in found:
        assert one.within <= len(one.flipped) <= one.correct <= one.images == 24
        assert [picture.flipped for picture in one.pictures] == one.flipped[:12]
        eps = [float(image.eps.removesuffix("/255")) for image in one.flipped]
        assert eps == sorted(eps)
        assert all(image.attacked <= image.clean and image.clean >= 0.5 for image in one.flipped)


def test_without_a_search_the_sections_say_so(results):
    bare = replace(results, distances=None)
    assert eps_curve(bare) is None
    assert galleries(ReportContext(bare)) == []


def test_without_its_pictures_the_gallery_still_lists(searched, tmp_path):
    study = shutil.copytree(searched, tmp_path / "study")
    for path in study.glob("trials/*/distances.npz"):
        path.unlink()
    found = galleries(ReportContext(read_results(study)))
    assert all(one.pictures == [] for one in found)
    assert any(one.flipped for one in found)
