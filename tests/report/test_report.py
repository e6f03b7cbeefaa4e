import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from sklearn.metrics import f1_score, recall_score

from mirst.errors import MirstError
from mirst.evaluation import METRICS
from mirst.report import ReportContext, notes, paper_table, write_report
from mirst.report.context import of_defense
from mirst.report.differences import differences, intervals
from mirst.report.examples import examples_of
from mirst.report.tables import metric_table, over_folds
from mirst.study import corrupt_study, read_results, run_study
from mirst.study.summary import summarise


@pytest.fixture
def results(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "small")
    return read_results(tmp_path / "small")


def changed(results, change):
    """The results with other outcome rows."""
    rows = change(results.outcomes.copy())
    return replace(results, outcomes=rows)


def test_the_table_has_the_papers_shape_and_the_summarys_numbers(results):
    lines = paper_table(ReportContext(results)).splitlines()
    assert lines[0] == "| metric | attack | ce | mirst+dm |"
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:12]]
    assert [row[:2] for row in rows] == [
        [metric, attack]
        for metric in ("F1 score", "Sensitivity")
        for attack in (
            "no attack",
            "fgsm (eps 5/255)",
            "pgd (eps 5/255)",
            "paper protocol: worst of fgsm, pgd",
            "standard (not run)",
        )
    ]
    summary = results.summary.set_index(["defense", "attack", "metric"])
    cell = summary.loc[("mirst", "pgd", "sensitivity")]
    assert rows[7][3] == f"{cell['mean']:.3f} ± {cell['std']:.3f}"


def test_the_page_is_whole_and_needs_no_network(results):
    page = write_report(results.folder).read_text()
    assert (results.folder / "table.md").read_text() == paper_table(ReportContext(results))
    pictures, links, anchors = [], [], set()

    class Collector(HTMLParser):
        def handle_starttag(self, tag, attrs):
            fields = dict(attrs)
            anchors.add(f"#{fields.get('id')}")
            pictures.extend(value for name, value in attrs if name == "src")
            links.extend(value for name, value in attrs if name == "href")
            assert tag not in ("link", "iframe")

    Collector().feed(page)
    examples = [examples_of(results, entry) for entry in results.spec.defenses]
    assert [len(own) for own in examples] == [4, 4]
    shown = 2 * 4 * (1 + 2 * len(results.spec.attacks))
    assert len(pictures) == shown + 2 * 2 * 4  # examples; two images of each defense with two residual maps
    charts = re.findall(r'<svg [^>]*role="img" aria-label="([^"]+)"', page)
    assert len(charts) == 2 + 2 * (2 + 1 + 1 + 1)  # F1 clean and attacked; training, calibration, abstention, ROC
    assert all(source.startswith("data:image/png;base64,") for source in pictures)
    assert all(link in anchors or link.startswith("data:text/yaml;base64,") for link in links)
    assert not re.search(r"https?://", page)
    assert all(note.split(".")[0] in page for note in ["Mean ± standard deviation over 2 group folds, 2 seed(s)"])


def test_the_constant_prediction_is_noted_below_every_two_class_table(results):
    """12 of 24 phantoms are malignant: precision 1/2, recall 1, F1 2/3."""
    assert any("F1 0.667 and sensitivity 1.000" in note for note in notes(results))


def test_a_collapsed_trial_is_named(results):
    def collapse(rows):
        at = (rows["defense"] == "ce") & (rows["fold"] == 1) & (rows["seed"] == 0) & (rows["attack"] == "none")
        return rows.assign(prediction=rows["prediction"].where(~at, "benign"))

    found = [
        note for note in notes(changed(results, collapse)) if note.startswith("COLLAPSED: ce on fold 1 with seed 0")
    ]
    assert len(found) == 1
    assert "predicts benign for every test image" in found[0]


def test_a_constant_prediction_under_an_attack_alone_is_named_with_that_attack(results):
    def collapse(rows):
        at = (rows["defense"] == "ce") & (rows["fold"] == 1) & (rows["seed"] == 0) & (rows["attack"] == "pgd")
        return rows.assign(prediction=rows["prediction"].where(~at, "malignant"))

    (found,) = [n for n in notes(changed(results, collapse)) if "ce on fold 1 with seed 0 predicts malignant" in n]
    assert "under pgd at eps 5/255" in found
    assert found.endswith("has F1 0.667 on these images.")  # half of the 12 images are malignant


def without(results, label):
    """The results with a fold 0 that lacks the images of a class."""

    def change(rows):
        return rows[(rows["fold"] != 0) | (rows["label"] != label)]

    fewer = changed(results, change)
    return replace(fewer, summary=summarise(fewer.outcomes, fewer.classes, fewer.positive))


@pytest.mark.parametrize(
    ("label", "note", "undefined"),
    [
        ("malignant", "UNDEFINED: F1 score, Sensitivity, AUC: defined in 1 of 2 folds", {"f1", "sensitivity", "auc"}),
        ("benign", "UNDEFINED: Specificity, AUC: defined in 1 of 2 folds", {"specificity", "auc"}),
        (None, None, set()),
    ],
)
def test_the_tables_say_over_how_many_folds_a_metric_is_defined(results, label, note, undefined):
    fewer = without(results, label)
    said = [one for one in notes(fewer) if one.startswith("UNDEFINED")]
    assert (not said) if note is None else (len(said) == 1 and said[0].startswith(note))
    assert undefined < set(METRICS)
    for metric in METRICS:
        cells = metric_table(ReportContext(fewer), metric).loc["no attack"]
        assert cells.str.contains("±").all() == (metric not in undefined)
        assert cells.str.endswith(" (1 of 2 folds)").all() == (metric in undefined)
        assert not cells.str.contains("nan").any()


@pytest.mark.parametrize(
    ("mean", "std", "defined", "shown"),
    [
        (0.5, 0.25, 3, "0.500 ± 0.250"),
        (0.5, 0.25, 2, "0.500 ± 0.250 (2 of 3 folds)"),
        (0.5, np.nan, 1, "0.500 (1 of 3 folds)"),
        (np.nan, np.nan, 0, "-"),
    ],
)
def test_a_cell_shows_what_is_defined_and_in_how_many_folds(mean, std, defined, shown):
    assert over_folds(mean, std, defined, folds=3) == shown


def test_the_mean_over_one_fold_of_one_stands_alone():
    assert over_folds(0.5, np.nan, 1, folds=1) == "0.500"


@pytest.mark.parametrize("metric", ["f1", "sensitivity"])
def test_with_three_classes_intervals_and_differences_are_macro_as_the_table(results, metric):
    def third(rows):
        benign = (rows["label"] == "benign") & (rows.groupby(["defense", "fold", "seed", "attack"]).cumcount() % 2 == 0)
        return rows.assign(label=rows["label"].where(~benign, "normal"))

    three = changed(results, third)
    three = replace(three, run=three.run | {"data": three.run["data"] | {"classes": ["benign", "malignant", "normal"]}})
    clean = three.outcomes[three.outcomes["attack"] == "none"]
    context = ReportContext(three)
    whole = intervals(context, metric)
    values = {}
    for entry in three.spec.defenses:
        own = of_defense(clean, entry)
        score = {"f1": f1_score, "sensitivity": recall_score}[metric]
        values[entry.title] = score(own["label"], own["prediction"], average="macro")
        assert whole.loc["none", entry.title].value == pytest.approx(values[entry.title])
    if metric == "f1":
        judged = differences(context).set_index("attack").loc["none"]
        assert judged["value"] == pytest.approx(values[judged["second"]] - values[judged["first"]])


def test_random_folds_are_called_leaking(results):
    spec = results.spec.model_copy(update={"folds": results.spec.folds.model_copy(update={"kind": "random"})})
    siblings = results.run | {"data": results.run["data"] | {"groups": 20}}
    leaking = replace(results, spec=spec, run=siblings)
    assert any(
        "RANDOM FOLDS LEAK: images were assigned to folds individually, although 24 images form 20" in n
        for n in notes(leaking)
    )
    lonely = replace(results, spec=spec)
    assert not any("LEAK" in note for note in notes(results) + notes(lonely))


@pytest.mark.parametrize(("rule", "fate"), [("keep", "they were kept ("), ("drop", "left out")])
def test_label_conflicts_and_their_fate_are_named(results, rule, fate):
    conflicts = [{"s/benign/1.png": "benign", "s/malignant/2.png": "malignant"}]
    run = results.run | {"data": results.run["data"] | {"conflicts": conflicts}}
    data = results.spec.data.model_copy(update={"conflicts": rule, "relabel": {"benign/3.png": "malignant"}})
    spec = results.spec.model_copy(update={"data": data})
    found = notes(replace(results, spec=spec, run=run))
    assert any(n.startswith("LABEL CONFLICTS: 2 images in 1 groups") and fate in n for n in found)
    assert any("1 image(s) were relabelled" in n for n in found)
    assert not any("LABEL" in note for note in notes(results))


def test_the_page_holds_the_audit(results):
    assert (
        "24 images form 24 groups, the largest of 1 images. 0 pairs are copies"
        in write_report(results.folder).read_text()
    )


def test_an_attack_that_cannot_reach_its_edge_is_called_weak(results):
    """The small study's PGD makes 3 steps of 0.001 in a ball of 5/255."""
    weak = [note for note in notes(results) if "has weak settings" in note]
    assert weak == [
        "pgd has weak settings: 3 steps of 0.001 change a pixel by at most 0.003, less than its eps of 0.01961."
    ]


def test_without_examples_the_report_is_written(results):
    paths = list(results.folder.glob("trials/*/examples.npz"))
    assert paths
    for path in paths:
        path.unlink()
    assert examples_of(results, results.spec.defenses[0]) == []
    assert "No examples were saved" in write_report(results.folder).read_text()


def test_names_are_escaped(results):
    folder = results.folder.rename(results.folder.with_name("<script>alert(1)<_script>"))
    assert "<script>alert(1)" not in write_report(folder).read_text()


def test_a_folder_without_results_gets_a_sentence(tmp_path):
    with pytest.raises(MirstError, match="not the folder of a finished study"):
        write_report(tmp_path)


def test_a_defense_that_diverged_has_dashes_and_a_footnote(small_spec, tmp_path):
    """A penalty beyond all bounds: its trials end alone, the study does not."""
    defenses = ({"name": "ce"}, {"name": "gr", "weight": 1e12})
    spec = small_spec.model_validate(small_spec.resolved() | {"defenses": defenses, "seeds": [0]})
    steps = []
    run_study(spec, tmp_path / "out", on_step=steps.append)
    ends = {step.trial: step.diverged for step in steps if step.epoch is None}
    assert ends["ce-fold0-seed0"] is None
    assert re.fullmatch(r"training diverged in epoch 1: the loss is .*; lower training\.lr", ends["gr-fold1-seed0"])
    results = read_results(tmp_path / "out")
    assert set(results.outcomes["defense"]) == {"ce"}
    assert list(results.failed["fold"]) == [0, 1]
    assert {line.split("|")[4].strip() for line in paper_table(ReportContext(results)).splitlines()[2:8]} == {"-"}
    assert sum(note.startswith("DIVERGED: gr on fold") for note in notes(results)) == 2
    assert "DIVERGED" in write_report(results.folder).read_text()
    corrupt_study(results.folder)
    assert "Natural corruptions" in write_report(results.folder).read_text()
    plans = []
    run_study(spec, tmp_path / "out", on_plan=plans.append)
    assert plans[0].pending == {}


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ("argmax", "predicts the class with the larger logit (training.threshold: argmax)"),
        (
            "youden",
            "predicts malignant above the log-odds that maximise sensitivity plus specificity on its clean validation "
            "images (training.threshold: youden).",
        ),
        (
            "{robust: {specificity: 0.9}}",
            "predicts malignant above the smallest log-odds with a specificity of at least 0.9 on its attacked "
            "validation images (training.threshold: {robust: {specificity: 0.9}}).",
        ),
    ],
)
def test_the_report_says_which_rule_gave_the_threshold(finished, tmp_path, rule, words):
    folder = tmp_path / "small"
    shutil.copytree(finished, folder)
    study = folder / "study.yaml"
    study.write_text(study.read_text().replace("threshold: argmax", f"threshold: {rule}"))
    assert words in " ".join(write_report(folder).read_text().split())
    assert any(words in note for note in notes(read_results(folder))) == (rule != "argmax")
