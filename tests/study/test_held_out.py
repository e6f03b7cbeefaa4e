"""A study of three classes without a positive one, and a test set that is held out of its folds."""

import re
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from mirst.data import write_phantoms
from mirst.errors import MirstError
from mirst.evaluation import class_intervals, evaluate_on, interval
from mirst.files import write_csv
from mirst.nn import load_model
from mirst.report import write_checklist, write_report
from mirst.study import Local, load_spec, read_externals, read_results, run_study
from mirst.study.external_set import read_held_out
from mirst.study.prepared import prepare
from mirst.study.summary import summarise
from tests.helpers import refused

pytestmark = pytest.mark.usefixtures("unpainted")

CLASSES = ("grade 1", "grade 2", "grade 3")
SETTINGS = [
    "data.size=32",
    "folds={count: 2, held_out: test}",
    "training={epochs: 1, val_fraction: 0, select: last, threshold: argmax}",
    "defenses=[ce]",
    "attacks=[fgsm]",
]


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    """Eight images of each class, the last three of the split test; two of those leak from the folds."""
    folder = tmp_path_factory.mktemp("grades")
    write_phantoms(folder / "one", 8, seed=3)
    write_phantoms(folder / "two", 8, seed=4)
    (folder / "one" / "malignant").rename(folder / "one" / "other")
    kinds = dict(zip(CLASSES, ("one/benign", "one/other", "two/benign"), strict=True))
    lines = [
        f"{kind}/phantom-{number:03d}.png,{label},{label}-{number},{'test' if number > 5 else ''}"
        for label, kind in kinds.items()
        for number in range(1, 9)
    ]
    shutil.copy(folder / "one/benign/phantom-001.png", folder / "copy.png")
    lines += ["copy.png,grade 1,other,test"]
    lines = [line.replace("grade 2-8", "grade 2-1") for line in lines]
    for masks in folder.glob("*/*/masks"):
        shutil.rmtree(masks)
    path = folder / "grades.csv"
    path.write_text("\n".join(["path,label,group,split", *lines]))
    return path


@pytest.fixture(scope="module")
def study(manifest, tmp_path_factory):
    folder = tmp_path_factory.mktemp("held-out") / "study"
    run_study(load_spec(None, [f"data.path={manifest}", *SETTINGS]), folder, engine=Local(2))
    return folder


@pytest.fixture(scope="module")
def held_out(study):
    (one,) = read_externals(read_results(study))
    return one


def test_no_image_of_the_split_is_in_a_fold_and_leaks_are_left_out(manifest, study, held_out):
    outcomes = read_results(study).outcomes
    tested = {name for name in outcomes["image"] if re.search(r"phantom-00[678]|copy", name)}
    assert len(set(outcomes["image"])) == 15
    assert not tested
    assert held_out.is_held_out
    assert held_out.record["left_out"] == {
        "copy.png": "copy of one/benign/phantom-001.png of the study",
        "one/other/phantom-008.png": "of the same patient or case as an image of the folds",
    }
    assert held_out.record["per_class"] == {"grade 1": 3, "grade 2": 2, "grade 3": 3}


def test_every_model_has_the_rows_of_an_evaluation_on_the_held_out_images(study, held_out, manifest, tmp_path):
    lines = manifest.read_text().splitlines()
    kept = [line for line in lines[1:] if line.endswith("test") and not re.search("copy|other/phantom-008", line)]
    shutil.copytree(manifest.parent, tmp_path / "data")
    (tmp_path / "data" / "test.csv").write_text("\n".join([lines[0], *kept]))
    attacks = {entry.label: entry.attack for entry in held_out.models.spec.attacks}
    for fold in (0, 1):
        model, card = load_model(study / "trials" / f"ce-fold{fold}-seed0" / "model.safetensors")
        assert card.positive is None
        expected = evaluate_on(model, card, tmp_path / "data" / "test.csv", attacks).set_index(["attack", "image"])
        rows = held_out.models.outcomes[held_out.models.outcomes["fold"] == fold].set_index(["attack", "image"])
        assert len(rows) == len(expected) == 2 * 8
        for column in ("score", *(f"score:{name}" for name in CLASSES)):
            np.testing.assert_allclose(rows[column], expected[column].loc[rows.index], atol=1e-4)
    assert len(held_out.ensembles.outcomes) == 2 * 8


def test_a_second_run_changes_no_byte(manifest, study):
    tables = [*study.glob("*.csv"), *study.glob("external/held-out/*.csv")]
    before = [path.read_bytes() for path in tables]
    run_study(load_spec(None, [f"data.path={manifest}", *SETTINGS]), study, engine=Local(1))
    assert len(before) == 3 + 2
    assert [path.read_bytes() for path in tables] == before


def test_auc_is_that_of_each_class_against_the_others(study):
    rows = read_results(study).outcomes.query("attack == 'none' and fold == 0")
    expected = [roc_auc_score(rows["label"] == name, rows[f"score:{name}"]) for name in CLASSES]
    each, _ = class_intervals(rows, CLASSES, "auc_macro")
    np.testing.assert_allclose([one.value for one in each], expected)
    np.testing.assert_allclose(interval(rows, CLASSES, None, "auc_macro").value, np.mean(expected))


def test_nothing_speaks_of_a_positive_class(study):
    page = write_report(study).read_text()
    text = re.sub(r"base64,[A-Za-z0-9+/=]*", "", page)
    assert "Held-out test set" in text
    assert 'id="external"' not in text
    assert "AUC, one against the rest" in text
    card = (study / "trials" / "ce-fold0-seed0" / "MODEL_CARD.md").read_text()
    for where in (text, card, (study / "table.md").read_text()):
        for word in ("malignant", "lesion", "positive class", "of None", "None images"):
            assert word not in where
    metrics = set(pd.read_csv(study / "summary.csv")["metric"])
    assert metrics == {"f1", "recall", "auc_macro", "accuracy"}


def test_the_checklists_need_no_positive_class(study, tmp_path):
    copy = shutil.copytree(study, tmp_path / "study")
    write_report(copy)
    for name in ("claim", "tripod-ai"):
        text = write_checklist(copy, name).read_text()
        assert "5 grade 1, 5 grade 2, 5 grade 3" in text
        assert "mirst validate" in text
        assert not re.search("None|malignant|nan", text)
    assert re.search(r"Recall: ce 0\.\d+ \(|AUC.*: ce 0\.\d+ \(", (copy / "checklist-claim.md").read_text())


def test_rows_without_the_scores_of_the_classes_get_a_sentence(study, tmp_path, mirst):
    copy = shutil.copytree(study, tmp_path / "study")
    pd.read_csv(copy / "outcomes.csv").drop(columns="score:grade 2").to_csv(copy / "outcomes.csv", index=False)
    assert "outcomes.csv lacks the column score:grade 2" in refused(mirst("report", copy))


def test_auc_under_attack_needs_a_positive_class(study, manifest, mirst):
    model = study / "trials" / "ce-fold0-seed0" / "model.safetensors"
    for command in (["evaluate", study, "--suite", "standard"], ["evaluate", model, "--data", manifest]):
        assert "positive class" in refused(mirst(*command, "--auc"))


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("folds.held_out=exam", "folds.held_out is exam, but no image has this split; the data set has test"),
        ("folds={kind: given, held_out: test}", "images have no split"),
        ("folds.held_out=''", "held_out"),
    ],
)
def test_a_split_that_cannot_be_held_out_gets_a_sentence(manifest, setting, sentence):
    with pytest.raises(MirstError, match=re.escape(sentence)):
        prepare(load_spec(None, [f"data.path={manifest}", *SETTINGS, setting]))


def test_a_class_without_held_out_images_gets_a_sentence(manifest):
    prepared = prepare(load_spec(None, [f"data.path={manifest}", *SETTINGS]))
    few = tuple(record for record in prepared.held_out if record.label != "grade 3")
    with pytest.raises(MirstError, match="no image of class grade 3 in the split test is external to the study"):
        read_held_out(replace(prepared, held_out=few))


def test_a_folder_of_an_older_version_has_no_auc_per_class(study, tmp_path):
    """It has a positive class and no scores of the classes."""
    copy = shutil.copytree(study, tmp_path / "study")
    shutil.rmtree(copy / "external")
    (copy / "study.yaml").write_text((copy / "study.yaml").read_text().replace("positive: null", "positive: grade 3"))
    (copy / "run.json").write_text((copy / "run.json").read_text().replace('"positive": null', '"positive": "grade 3"'))
    rows = pd.read_csv(copy / "outcomes.csv")
    rows.drop(columns=[f"score:{name}" for name in CLASSES]).to_csv(copy / "outcomes.csv", index=False)
    results = read_results(copy)
    write_csv(copy / "summary.csv", summarise(results.outcomes, results.classes, results.positive))
    assert "AUC of grade 3 against the others" in write_report(copy).read_text()
    table = pd.read_csv(copy / "tables" / "classes.csv")
    assert set(table["metric"]) == {"precision", "sensitivity", "specificity", "f1"}
