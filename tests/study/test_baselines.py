"""The baselines in a results folder and in its report."""

import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from mirst.files import write_csv
from mirst.metrics import classification_metrics
from mirst.report import ReportContext, notes, write_report
from mirst.report.certified_gains import certified_gains, gains_text
from mirst.report.differences import intervals
from mirst.report.headline import highest_under_attack
from mirst.report.tables import metric_table
from mirst.report.verdict import beside_the_box
from mirst.study import Local, attack_study, load_spec, read_results, run_study
from mirst.study.baselines import BASELINES, baseline_rows, write_baselines_on
from mirst.study.layout import StudyFolder
from mirst.study.prepared import prepare
from mirst.study.trial import all_trials
from tests.helpers import boxed_phantoms

pytestmark = pytest.mark.usefixtures("unpainted")

NAMES = ["constant", "box", "thumbnail", "thumbnail+box", "thumbnail+at", "thumbnail+box+at"]
KEYS = ["fold", "source", "image", "group", "label"]


@pytest.fixture(scope="module")
def lesion_spec(small_yaml, tmp_path_factory):
    """The small study as one of lesions; the box of one image is not known."""
    table = boxed_phantoms(tmp_path_factory.mktemp("boxed"), 12, without=("benign/phantom-001.png",))
    return load_spec(small_yaml, [f"data.path={table}", "data.view=lesion", "data.without_box=whole"])


@pytest.fixture(scope="module")
def prepared(lesion_spec):
    return prepare(lesion_spec)


@pytest.fixture(scope="module")
def lesions(lesion_spec, tmp_path_factory):
    folder = tmp_path_factory.mktemp("lesions") / "small"
    run_study(lesion_spec, folder, engine=Local(2))
    return folder


@pytest.fixture
def results(lesions):
    return read_results(lesions)


def test_rows_are_those_of_a_trial_for_every_test_image(lesions, results):
    rows = results.baselines
    assert [baseline.name for baseline in BASELINES] == list(rows["defense"].unique()) == NAMES
    assert list(rows) == list(results.outcomes)
    assert set(rows["seed"]) == {results.spec.seeds[0]}
    assert not rows["drop_max"].any()
    trial = results.outcomes[(results.outcomes["defense"] == "ce") & (results.outcomes["seed"] == 0)]
    expected = trial[trial["attack"] == "none"][KEYS].reset_index(drop=True)
    for (_, attack, eps), own in rows.groupby(["defense", "attack", "eps"]):
        pd.testing.assert_frame_equal(own[KEYS].reset_index(drop=True), expected)
        assert (attack, eps) in (("none", 0.0), ("exact", pytest.approx(5 / 255)))
    assert rows.groupby(["defense", "attack"]).size().tolist() == [24] * 12
    assert ((rows["score"] > 0) == (rows["prediction"] == "malignant")).all()


def test_the_constant_and_the_box_are_the_same_under_attack(results):
    rows = results.baselines
    for name in ("constant", "box"):
        clean, attacked = (
            rows[(rows["defense"] == name) & (rows["attack"] == attack)].set_index("image")
            for attack in ("none", "exact")
        )
        pd.testing.assert_frame_equal(clean[["prediction", "score", "linf"]], attacked[["prediction", "score", "linf"]])
        assert not attacked["linf"].any()
    assert set(rows[rows["defense"] == "constant"]["prediction"]) == {"malignant"}


def test_a_thumbnail_is_worse_under_attack_on_every_image(results):
    rows = results.baselines[results.baselines["defense"] == "thumbnail"].set_index("image")
    clean, attacked = (rows[rows["attack"] == attack] for attack in ("none", "exact"))
    away = np.where(clean["label"] == "malignant", -1, 1)
    assert (away * (attacked["score"] - clean["score"]) > 0).all()
    assert attacked["linf"].to_numpy() == pytest.approx(5 / 255)


def test_no_test_image_changes_the_fit(prepared):
    """The scores of the test images of a fold stay when the labels of all test images of that fold are exchanged."""
    rows = baseline_rows(prepared, prepared.images.features, [])
    other = prepared.labels.copy()
    test = prepared.folds[0].test
    other[test] = 1 - other[test]
    changed = baseline_rows(replace(prepared, labels=other), prepared.images.features, [])
    first = rows["fold"] == 0
    assert (rows["score"] == changed["score"])[first].all()
    assert (rows["score"] != changed["score"])[~first & (rows["defense"] != "constant")].any()


def test_a_resumed_run_writes_the_same_bytes_and_studies_of_whole_images_have_no_file(lesions, finished, prepared):
    path = StudyFolder(lesions).baselines
    before = path.read_bytes()
    path.unlink()
    run_study(prepared.spec, lesions)
    assert path.read_bytes() == before
    assert not StudyFolder(finished).baselines.exists()


def test_a_suite_adds_its_eps(lesions, prepared, results, tmp_path):
    """Of a suite that has been run on every model, whose rows are those of the study's PGD."""
    folder = tmp_path / "attacked"
    shutil.copytree(lesions, folder)
    for trial in all_trials(prepared.spec):
        own = StudyFolder(folder).trial(trial.name)
        rows = pd.read_csv(own.outcomes)
        for eps in (5 / 255, 0.3):
            rows = pd.concat([rows, rows[rows["attack"] == "pgd"].assign(attack="standard", eps=eps)])
        write_csv(own.table("standard"), rows[rows["attack"] == "standard"])
        write_csv(own.table("standard-costs"), pd.DataFrame({"suite": ["standard"]}))
        check = {"name": "budget", "verdict": "pass", "figures": ""}
        own.suite_record("standard").write_text(json.dumps({"eps": [5 / 255, 0.3], "checks": [check]}))
    attack_study(folder, "standard", (5 / 255, 0.3))
    found = read_results(folder)
    assert sorted(found.baselines["eps"].unique()) == pytest.approx([0, 5 / 255, 0.3])
    known = found.baselines[found.baselines["eps"] < 0.2].reset_index(drop=True)
    pd.testing.assert_frame_equal(known, results.baselines)
    table = metric_table(ReportContext(found), "f1")
    assert (table != "-").all(axis=None)
    assert table.at["standard (eps 0.3)", "thumbnail (baseline)"] == "0.000 ± 0.000"
    assert len(set(table["box (baseline)"])) == 1


def test_more_than_two_classes_have_the_constant_baseline(prepared):
    three = replace(prepared, classes=("benign", "cyst", "malignant"), labels=np.arange(24) % 3, positive="malignant")
    rows = baseline_rows(three, prepared.images.features, [0.1])
    assert set(rows["defense"]) == {"constant"}
    assert set(rows["prediction"]) == {"malignant"}


def test_tables_mark_baselines_and_have_their_numbers(results):
    context = ReportContext(results)
    titles = [f"{name} (baseline)" for name in NAMES]
    table = metric_table(context, "f1")
    assert list(table) == ["ce", "mirst+dm", *titles]
    for heading, attack in (("no attack", "none"), ("fgsm (eps 5/255)", "exact"), ("pgd (eps 5/255)", "exact")):
        for name, title in zip(NAMES, titles, strict=True):
            folds = [
                classification_metrics(
                    own["label"], own["prediction"], own["score"], ("benign", "malignant"), "malignant"
                )["f1"]
                for _, own in results.baselines[
                    (results.baselines["defense"] == name) & (results.baselines["attack"] == attack)
                ].groupby("fold")
            ]
            assert table.at[heading, title] == f"{np.mean(folds):.3f} ± {np.std(folds, ddof=1):.3f}"
    (note,) = [note for note in notes(results) if "(baseline)" in note]
    assert "are no networks" in note


def test_the_report_shows_them_and_compares_defenses_alone(lesions):
    page = write_report(lesions).read_text()
    assert page.count('<th scope="row">box (baseline)</th>') == 1  # a line of the comparison
    assert page.count('<th scope="col">box (baseline)</th>') == 5  # a column of each metric's table
    assert "The box alone, without a network, has F1" in page
    differences = pd.read_csv(lesions / "tables" / "differences.csv")
    assert not differences["second"].str.contains("baseline").any()
    assert "| box (baseline) |" in (lesions / "table.md").read_text()


@pytest.mark.parametrize(
    ("network", "box", "reading"),
    [
        (1.0, 0.0, "adds to the box"),
        (0.0, 1.0, "is below the box"),
        (0.5, 0.5, "cannot be told apart from the box"),
    ],
)
def test_the_verdict_says_whether_the_best_network_adds_to_the_box(results, network, box, reading):
    """The first share of the images of each class is predicted correctly."""

    def with_share(rows, share):
        rank = rows.groupby([*("defense", "fold", "seed", "attack"), "label"]).cumcount() / (
            rows.groupby(["defense", "fold", "seed", "attack", "label"])["image"].transform("size")
        )
        opposite = rows["label"].map({"benign": "malignant", "malignant": "benign"})
        return rows.assign(prediction=rows["label"].where(rank < share, opposite))

    changed = replace(
        results, outcomes=with_share(results.outcomes, network), baselines=with_share(results.baselines, box)
    )
    context = ReportContext(changed)
    f1 = intervals(context)
    sentence = beside_the_box(context, f1)
    assert sentence.startswith(f"The box alone, without a network, has F1 {box:.3f} [")
    assert (
        f"; {highest_under_attack(f1)}, the network of the highest F1 under attack, {reading} (difference of F1 "
        in sentence
    )
    assert f" without attack and {reading} (difference of F1 " in sentence


def test_the_difference_from_the_box_is_that_of_the_models_of_all_seeds(results):
    """The models of one seed are always right, those of the other always wrong."""
    rows = results.outcomes
    opposite = rows["label"].map({"benign": "malignant", "malignant": "benign"})
    first, second = results.spec.seeds
    values = []
    for right in (first, second):
        changed = replace(
            results, outcomes=rows.assign(prediction=rows["label"].where(rows["seed"] == right, opposite))
        )
        context = ReportContext(changed)
        sentence = beside_the_box(context, intervals(context))
        values += re.findall(r"difference of F1 over the models of all seeds ([+-]\S+)", sentence)
    box, _ = f1_and_auc(results.baselines.query("defense == 'box' and attack == 'none'"))
    half = 0.5  # as many are found as missed, and as many false alarms: F1 = 2 * n / (2 * n + n + n)
    assert values == [f"{half - box:+.3f}"] * 4


def f1_and_auc(rows):
    found = classification_metrics(
        rows["label"], rows["prediction"], rows["score"], ("benign", "malignant"), "malignant"
    )
    return found["f1"], found["auc"]


def test_certified_metrics_are_compared_with_the_box_alone_on_the_same_images(results):
    """Of a defense that has certificates on one fold."""
    own = results.outcomes.query("defense == 'ce' and attack == 'pgd' and fold == 0")
    right = own["label"] == own["prediction"]
    attacked = {"attacked_prediction": own["prediction"], "attacked_score": own["score"]}
    proof = own.assign(method="interval", certified=right, **attacked)
    gains = certified_gains(replace(results, certificates=proof)).set_index("metric")
    assert gains["defense"].tolist() == ["ce", "ce"]
    box_f1, box_auc = f1_and_auc(results.baselines.query("defense == 'box' and attack == 'exact' and fold == 0"))
    assert gains["box"].to_dict() == pytest.approx({"f1": box_f1, "auc": box_auc})
    auc = np.mean([f1_and_auc(rows)[1] for _, rows in own.groupby("seed")])
    assert gains["certified"].to_dict() == pytest.approx({"f1": f1_and_auc(own)[0], "auc": auc})
    assert gains["value"].to_numpy() == pytest.approx((gains["certified"] - gains["box"]).to_numpy())
    assert ((gains["low"] < gains["value"]) & (gains["value"] < gains["high"])).all()
    assert gains_text(gains.reset_index())["the box alone"].tolist() == [f"{box_f1:.3f}", f"{box_auc:.3f}"]


def test_without_certificates_or_a_box_nothing_is_compared(results):
    proof = results.outcomes.query("attack == 'pgd'").assign(method="interval", certified=False)
    for other in (results, replace(results, certificates=proof, baselines=None)):
        assert certified_gains(other) is None


def test_on_another_data_set_they_are_those_of_every_fold(prepared, tmp_path):
    """The images of the study take the place of the other ones, so that each fold tests its own test images too."""
    write_baselines_on(StudyFolder(tmp_path), prepared, prepared)
    keys = ["defense", "fold", "image", "attack", "eps"]
    found = pd.read_csv(tmp_path / "baselines.csv").set_index(keys).sort_index()
    own = baseline_rows(prepared, prepared.images.features, [5 / 255]).set_index(keys)
    assert len(found) == 2 * len(own) > 0
    np.testing.assert_allclose(found.loc[own.index, "score"], own["score"], atol=1e-9)
