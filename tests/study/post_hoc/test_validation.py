"""The models of a study, and the ensembles of its folds, on another data set."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest

from mirst.data import write_phantoms
from mirst.errors import MirstError
from mirst.evaluation import evaluate_on
from mirst.nn import build_model, load_model, save_backbone
from mirst.report import external_changes, write_report
from mirst.study import (
    Local,
    SourceSpec,
    load_source,
    load_spec,
    read_externals,
    read_results,
    run_study,
    validate_study,
)
from mirst.study.external_set import read_external
from mirst.study.prepared import prepare
from mirst.study.pretraining_origin import PretrainingOrigin
from mirst.study.summary import pooled_interval
from tests.helpers import CARD, refused

pytestmark = pytest.mark.usefixtures("unpainted")

LABELS = {"gutartig": "benign", "boesartig": "malignant", "zyste": None}
COPY = "gutartig/copy.png"


@pytest.fixture(scope="module")
def clinic(phantoms, tmp_path_factory):
    """Ten phantoms with classes of other names, a class that the study lacks, and a copy of one of its images."""
    folder = tmp_path_factory.mktemp("other") / "clinic"
    write_phantoms(folder, 5, seed=9)
    for masks in folder.glob("*/masks"):
        shutil.rmtree(masks)
    for ours, theirs in (("benign", "gutartig"), ("malignant", "boesartig")):
        (folder / ours).rename(folder / theirs)
    (folder / "zyste").mkdir()
    shutil.copy(folder / "gutartig" / "phantom-001.png", folder / "zyste" / "1.png")
    shutil.copy(phantoms / "malignant" / "phantom-003.png", folder / COPY)
    return folder


@pytest.fixture(scope="module")
def study(finished, clinic, tmp_path_factory):
    """The finished study, validated on the clinic."""
    folder = shutil.copytree(finished, tmp_path_factory.mktemp("validated") / "study")
    ended = []
    out = validate_study(folder, SourceSpec(path=clinic, labels=LABELS), engine=Local(2), on_trial=ended.append)
    assert out == folder / "external" / "clinic"
    assert len(ended) == 8 + 4
    assert "ce-ensemble-seed1" in ended
    return folder


@pytest.fixture(scope="module")
def external(study):
    (one,) = read_externals(read_results(study))
    return one


def test_an_image_of_the_study_is_left_out(external):
    assert external.name == "clinic"
    assert external.record["left_out"] == {COPY: "copy of malignant/phantom-003.png of the study"}
    assert external.record["images"] == 10
    assert external.record["per_class"] == {"benign": 5, "malignant": 5}
    assert COPY not in set(external.models.outcomes["image"])


def test_every_model_has_the_rows_of_an_evaluation_on_that_data_set(study, external, clinic, tmp_path):
    for theirs, ours in list(LABELS.items())[:2]:
        shutil.copytree(clinic / theirs, tmp_path / "same" / ours)
    (tmp_path / "same" / "benign" / "copy.png").unlink()
    attacks = {entry.label: entry.attack for entry in external.models.spec.attacks}
    own, compared = external.models.outcomes, 0
    for title, fold in (("ce", 1), ("mirst+dm", 0)):
        model, card = load_model(study / "trials" / f"{title}-fold{fold}-seed0" / "model.safetensors")
        expected = evaluate_on(model, card, tmp_path / "same", attacks)
        rows = own[(own["defense"] == title.split("+")[0]) & (own["fold"] == fold) & (own["seed"] == 0)]
        by_name = rows.assign(name=rows["image"].str.split("/").str[-1]).set_index(["attack", "label", "name"])
        expected = expected.assign(name=expected["image"].str.split("/").str[-1]).set_index(["attack", "label", "name"])
        assert len(by_name) == len(expected) == 3 * 10
        np.testing.assert_allclose(by_name["score"], expected["score"].loc[by_name.index], atol=1e-4)
        compared += len(rows)
    assert compared == 60


def test_the_ensemble_is_the_mean_of_the_models_of_all_folds(external):
    clean = external.models.outcomes[external.models.outcomes["attack"] == "none"]
    keys = ["defense", "seed", "image"]
    mean = clean.groupby(keys)["score"].mean()  # their thresholds are 0
    together = external.ensembles.outcomes
    found = together[together["attack"] == "none"].set_index(keys)["score"]
    assert len(found) == 2 * 2 * 10
    np.testing.assert_allclose(found, mean.loc[found.index], atol=1e-4)
    assert set(together["attack"]) == {"none", "fgsm", "pgd"}


def test_what_is_finished_is_not_run_again(study, external, clinic, mirst):
    tables = [external.folder.outcomes, external.folder.ensembles()]
    before = [path.read_bytes() for path in tables]
    labels = "{gutartig: benign, boesartig: malignant, zyste: null}"
    code, text, errors = mirst("validate", study, "--data", clinic, "--labels", labels, "--jobs", 1)
    assert code == 0, errors
    assert "done" not in errors
    assert [path.read_bytes() for path in tables] == before
    assert f"10 images. 1 image is left out: {COPY} (copy of" in text
    assert "external - internal" in text


def test_the_changes_are_external_minus_internal(study, external):
    results = read_results(study)
    numbers = external_changes(results, external).numbers.set_index(["metric", "attack", "defense", "figure"])["value"]
    rows = results.outcomes[(results.outcomes["attack"] == "none") & (results.outcomes["defense"] == "ce")]
    assert numbers["f1", "no attack", "ce", "internal"] == pytest.approx(
        pooled_interval(rows, results.classes, results.positive).value
    )
    own = external.models.outcomes
    own = own[(own["attack"] == "none") & (own["defense"] == "ce")]
    hits = ((own["label"] == "malignant") & (own["prediction"] == "malignant")).sum()
    assert numbers["sensitivity", "no attack", "ce", "external"] == pytest.approx(
        hits / (own["label"] == "malignant").sum()
    )
    changes = numbers.xs("change", level="figure")
    assert len(changes) == 4 * 2 * 2  # metrics, conditions and defenses
    for key, value in changes.items():
        assert value == pytest.approx(numbers[(*key, "external")] - numbers[(*key, "internal")])


def test_the_report_has_a_section(study, finished):
    page = write_report(study).read_text()
    assert '<h2 id="external">External validation</h2>' in page
    for text in (COPY, "carried over", "gutartig to benign", "zyste to none"):
        assert text in page
    points = pd.read_csv(study / "tables" / "operating-points-clinic.csv")
    clean = points[points["attack"] == "no attack"]
    youden = clean["refitted sensitivity"] + clean["refitted specificity"]
    assert (youden >= clean["sensitivity"] + clean["specificity"]).all()
    assert len(clean) == 2
    assert 'id="external"' not in write_report(shutil.copytree(finished, study.parent / "bare")).read_text()


def test_a_suite_and_the_certificates_of_the_study_are_repeated_on_the_other_images(
    finished, small_spec, clinic, tmp_path
):
    spec = small_spec.model_copy(
        update={"defenses": small_spec.defenses[:1], "seeds": (0,), "certify": (0.1 / 255,), "reuse": (finished,)}
    )
    run_study(spec, tmp_path / "study", engine=Local(1))
    source = SourceSpec(path=clinic, labels=LABELS)
    validate_study(tmp_path / "study", source, suite="standard", eps=(0.3,), engine=Local(1))
    validate_study(tmp_path / "study", source, suite="corruptions", engine=Local(1))
    results = read_results(tmp_path / "study")
    (external,) = read_externals(results)
    corrupted = pd.read_csv(external.folder.corruptions).query("corruption == 'none'").set_index("fold")["accuracy"]
    clean = external.models.outcomes.query("attack == 'none'")
    right = (clean["label"] == clean["prediction"]).groupby(clean["fold"]).mean()
    pd.testing.assert_series_equal(corrupted, right, check_names=False)
    assert "under each corruption" in write_report(tmp_path / "study").read_text().split('id="training"')[0]
    for found, models in ((external.models, 2), (external.ensembles, 1)):
        strong, proven = found.suites["standard"], found.certificates
        assert len(strong) == len(proven) == 10 * models
        assert (strong["eps"] == 0.3).all()
        assert (strong["prediction"] != strong["label"]).all()  # nothing withstands an eps of 0.3
        correct = proven["prediction"] == proven["label"]
        assert not (proven["certified"] & ~correct).any()
    numbers = external_changes(results, external).numbers
    assert set(numbers["attack"]) == {"no attack", "paper protocol (eps 5/255)", "certified (interval) (eps 0.0003922)"}
    specificity = numbers[numbers["metric"] == "specificity"].set_index(["attack", "figure"])["value"]
    for figure in ("internal", "external", "ensemble"):
        assert specificity["certified (interval) (eps 0.0003922)", figure] <= specificity["no attack", figure]


def rejected(study, source):
    with pytest.raises(MirstError) as caught:
        validate_study(study, source)
    return str(caught.value)


def test_a_set_that_cannot_be_used_gets_a_sentence(study, phantoms, clinic, tmp_path):
    assert "has no class benign, which the study has; it has boesartig, gutartig, zyste" in rejected(
        study, SourceSpec(path=clinic)
    )
    assert "images left out: 24 (copies of images of the study)" in rejected(study, SourceSpec(path=phantoms))
    for name in ("../up", ".hidden", "a/b"):
        assert "cannot be that of a folder" in rejected(study, SourceSpec(path=clinic, labels=LABELS, source=name))
    other = shutil.copytree(clinic, tmp_path / "clinic")
    (other / "gutartig" / "phantom-002.png").unlink()
    assert "contains the validation on other images of the same name" in rejected(
        study, SourceSpec(path=other, labels=LABELS)
    )
    lines = [f"{path},{LABELS[path.parent.name]},{number % 2}" for number, path in enumerate(clinic.glob("*/p*.png"))]
    (tmp_path / "two.csv").write_text("\n".join(["path,label,source", *lines]))
    assert "has several names (0, 1); give it one with --source" in rejected(
        study, SourceSpec(path=tmp_path / "two.csv")
    )
    assert [path.name for path in (study / "external").iterdir()] == ["clinic"]


def test_a_damaged_validation_gets_a_sentence(study, tmp_path):
    copy = shutil.copytree(study, tmp_path / "study")
    folder = copy / "external" / "clinic"
    rows = pd.read_csv(folder / "outcomes.csv")
    rows[rows["fold"] == 0].to_csv(folder / "outcomes.csv", index=False)
    with pytest.raises(MirstError, match=r"clinic.outcomes\.csv lacks rows of trial ce-fold1-seed0, attack none"):
        read_externals(read_results(copy))
    rows.to_csv(folder / "outcomes.csv", index=False)
    (folder / "external.json").write_text(json.dumps({"data": "x"}))
    with pytest.raises(MirstError, match=r"external\.json is damaged"):
        read_externals(read_results(copy))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--suite", "boxes"], "--suite is boxes; choose standard, adaptive or corruptions"),
        (["--suite", "corruptions", "--eps", "1/255"], "--eps is for --suite standard or adaptive"),
        (["--eps", "1/255"], "--eps is for --suite standard or adaptive"),
        (["--labels", "benign"], "--labels: "),
        (["--source", ""], "--source: "),
        (["--suite", "standard", "--eps", "2"], "eps is 2"),
    ],
)
def test_options_without_sense_get_a_sentence(study, clinic, mirst, options, sentence):
    assert sentence in refused(mirst("validate", study, "--data", clinic, *options))


def test_images_of_the_pretraining_and_of_their_patients_are_left_out(phantoms, tmp_path):
    """Of the patients a (two images), b and c, the backbone knows one image of a."""
    write_phantoms(tmp_path / "files", 3, seed=5)
    patients = {"benign/phantom-001": "a", "benign/phantom-002": "a", "benign/phantom-003": "b"}
    patients |= {"malignant/phantom-001": "c", "malignant/phantom-002": "d"}
    lines = [f"files/{name}.png,{name.split('/')[0]},{patient}" for name, patient in patients.items()]
    manifest = tmp_path / "clinic.csv"
    manifest.write_text("\n".join(["path,label,group", *lines]))
    settings = [f"data.path={phantoms}", "data.size=32", "folds.count=2", "training.val_fraction=0"]
    clinic, weights = load_source(manifest, source="clinic"), tmp_path / "backbone.safetensors"
    spec = load_spec(None, settings)
    origin = PretrainingOrigin.of("CE()", spec, read_external(prepare(spec), clinic, CARD).prepared.records[:1])
    save_backbone(weights, build_model("resnet_tiny", 1, 2), origin.metadata())
    start = load_spec(None, [*settings, f"model.weights={weights}"])
    found = read_external(prepare(start), clinic, CARD)
    assert len(found.left_out) == 2
    assert sorted(found.left_out.values()) == [
        "of the same patient or case as an image that is left out",
        "the backbone of the study was pretrained on it",
    ]
    assert len(found.prepared.records) == 3
    assert {record.group for record in found.prepared.records} == {"clinic-b", "clinic-c", "clinic-d"}
