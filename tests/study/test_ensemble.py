"""Ensembles of the seeds of a study."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from mirst.errors import MirstError
from mirst.nn import CertifiedMetrics, Ensemble, build_model, load_model, read_card, save_model
from mirst.report import write_comparison, write_report
from mirst.report.two_studies import side_by_side, unlike
from mirst.study import (
    Local,
    attack_study,
    ensemble_study,
    estimate_study,
    load_spec,
    read_results,
    run_study,
    study_status,
)
from mirst.study.ensemble import combine
from mirst.study.layout import StudyFolder
from mirst.study.prepared import prepare
from tests.helpers import CARD

pytestmark = pytest.mark.usefixtures("unpainted")


def logits_and_threshold(folder, name, x):
    model, card = load_model(folder / "trials" / name / "model.safetensors")
    with torch.no_grad():
        return model(x), card.threshold


def test_an_ensemble_predicts_by_the_mean_distance_of_its_members_from_their_thresholds(finished, combined, small_spec):
    results, prepared = read_results(combined), prepare(small_spec)
    clean = results.outcomes[results.outcomes["attack"] == "none"]
    compared = 0
    for (defense, fold), rows in clean.groupby(["defense", "fold"]):
        title = {"ce": "ce", "mirst": "mirst+dm"}[defense]
        test = prepared.folds[fold].test
        x, _ = prepared.subset(test)[list(range(len(test)))]
        above = []
        for seed in (0, 1):
            logits, threshold = logits_and_threshold(finished, f"{title}-fold{fold}-seed{seed}", x)
            above.append((logits[:, 1] - logits[:, 0]).numpy() - threshold)
        expected = np.mean(above, 0)
        score = rows.set_index("image").loc[[record.name for record in prepared.records_at(test)]]
        np.testing.assert_allclose(score["score"], expected, atol=1e-4)
        decided = np.abs(expected) > 1e-3
        predicted = np.where(expected > 0, "malignant", "benign")
        assert (score["prediction"].to_numpy() == predicted)[decided].all()
        compared += len(test)
    assert compared == 2 * 24


def test_it_is_attacked_end_to_end(combined, small_spec):
    prepared = prepare(small_spec)
    model, card = load_model(combined / "trials" / "ce-fold1-seed0" / "model.safetensors")
    assert isinstance(model, Ensemble)
    assert (card.members, card.threshold) == (2, 0.0)
    rows = read_results(combined).outcomes
    rows = rows[(rows["defense"] == "ce") & (rows["fold"] == 1)]
    worse = {}
    for attack, own in rows.groupby("attack"):
        toward = np.where(own["label"] == "malignant", -own["score"], own["score"])
        worse[attack] = toward.mean()
    assert worse["none"] < worse["fgsm"]
    assert worse["none"] < worse["pgd"]
    assert len(prepared.folds[1].test) * 3 == len(rows)
    assert (rows["linf"] <= 5 / 255 + 1e-6).all()


def test_the_folder_says_what_it_is_and_is_read_like_any_other(finished, combined):
    results, run = read_results(combined), json.loads((combined / "run.json").read_text())
    assert run["ensemble"]["seeds"] == [0, 1]
    assert Path(run["ensemble"]["of"]).name == finished.name
    assert results.spec.seeds == (0,)
    assert {trial.state for trial in study_status(combined).trials} == {"done"}
    page = write_report(combined).read_text()
    assert "the models of all seeds of a fold are one ensemble" in page
    assert f"ensembles of the seeds 0, 1 of {run['ensemble']['of']}" in page
    assert "mirst run study.yaml --set seeds=[0,1] --out ANOTHER_FOLDER\nmirst ensemble ANOTHER_FOLDER" in page
    assert "above log-odds of 0, the mean over its members" in page
    card = (combined / "trials" / "ce-fold0-seed0" / "MODEL_CARD.md").read_text()
    assert "the mean of the logits of 2 members" in card
    assert "Each of the 2 members was trained" in card
    assert "The weights are those of epoch" not in card


def test_a_suite_runs_on_it(combined, tmp_path):
    folder = shutil.copytree(combined, tmp_path / "attacked")
    attack_study(folder, "standard", (0.3,), engine=Local(2))
    rows = read_results(folder).suites["standard"]
    assert len(rows) == 2 * 24
    assert "| standard | 76.5/255 |" in (folder / "trials" / "ce-fold0-seed0" / "MODEL_CARD.md").read_text()
    assert "Each of the 2 members" in (folder / "trials" / "ce-fold0-seed0" / "MODEL_CARD.md").read_text()
    write_report(folder)


def test_the_same_command_again_runs_what_is_missing_and_changes_no_number(finished, combined, tmp_path):
    folder, ended = shutil.copytree(combined, tmp_path / "resumed"), []
    for name in ("outcomes.csv", "model.safetensors"):
        (folder / "trials" / "ce-fold1-seed0" / name).unlink()
    (folder / "outcomes.csv").unlink()
    assert {trial.trial: trial.state for trial in study_status(folder).trials}["ce-fold1-seed0"] == "waiting"
    ensemble_study(finished, folder, on_trial=ended.append)
    assert ended == ["ce-fold1-seed0"]
    assert (folder / "outcomes.csv").read_bytes() == (combined / "outcomes.csv").read_bytes()
    ensemble_study(finished, folder, on_trial=ended.append)
    assert ended == ["ce-fold1-seed0"]


def test_it_is_not_trained_and_its_trials_are_not_reused(combined, small_spec, tmp_path):
    one_seed = type(small_spec).model_validate(small_spec.resolved() | {"seeds": [0]})
    for refused in (run_study, estimate_study):
        with pytest.raises(
            MirstError, match=r"contains ensembles of the seeds 0, 1 of .*, which mirst run cannot train"
        ):
            refused(one_seed, combined)
    plans = []
    spec = type(small_spec).model_validate(one_seed.resolved() | {"defenses": ["ce"], "reuse": [str(combined)]})
    run_study(spec, tmp_path / "out", on_plan=plans.append)
    assert plans[0].reused == 0


def test_what_cannot_be_combined_gets_a_sentence(finished, combined, small_yaml, phantoms, tmp_path):
    with pytest.raises(MirstError, match="contains ensembles already; give the study of their members"):
        ensemble_study(combined, tmp_path / "twice")
    with pytest.raises(MirstError, match="contains a study of single models, not ensembles of the seeds 0, 1"):
        ensemble_study(finished, finished)
    one = tmp_path / "one"
    run_study(load_spec(small_yaml, [f"data.path={phantoms}", "seeds=[3]", "defenses=[ce]", "attacks=[fgsm]"]), one)
    with pytest.raises(MirstError, match=r"has one seed, and an ensemble needs several; add seeds"):
        ensemble_study(one, tmp_path / "of-one")
    with pytest.raises(MirstError, match="is not the folder of a finished study"):
        ensemble_study(tmp_path, tmp_path / "of-none")
    other = shutil.copytree(combined, tmp_path / "other")
    run = json.loads((other / "run.json").read_text())
    run["ensemble"]["seeds"] = [0, 2]
    (other / "run.json").write_text(json.dumps(run))
    with pytest.raises(MirstError, match="contains ensembles of the seeds 0, 2 of"):
        ensemble_study(finished, other)
    run["ensemble"] = ["damaged"]
    (other / "run.json").write_text(json.dumps(run))
    with pytest.raises(MirstError, match=r"run.json is damaged"):
        read_results(other)


def test_an_ensemble_of_which_a_member_failed_has_failed(finished, tmp_path):
    study = shutil.copytree(finished, tmp_path / "study")
    folder = StudyFolder(study)
    lost = folder.trial("ce-fold0-seed1")
    lost.outcomes.unlink()
    lost.model.unlink()
    lost.diverged.write_text("training diverged in epoch 2")
    keys = {
        "defense": ["ce"],
        "drop_max": [False],
        "fold": [0],
        "seed": [1],
        "reason": ["training diverged in epoch 2"],
    }
    pd.DataFrame(keys).to_csv(folder.failed, index=False)
    rows = pd.read_csv(folder.outcomes, dtype=str, keep_default_na=False)
    gone = (rows["defense"] == "ce") & (rows["fold"] == "0") & (rows["seed"] == "1")
    rows[~gone].to_csv(folder.outcomes, index=False)
    ensemble_study(study, tmp_path / "out", engine=Local(2))
    results = read_results(tmp_path / "out")
    (reason,) = results.failed["reason"]
    assert reason == "its member of seed 1 has no model: training diverged in epoch 2"
    assert not results.is_whole(results.spec.defenses[0])
    assert set(results.summary["defense"]) == {"mirst"}
    assert "DIVERGED" in write_report(tmp_path / "out").read_text()
    states = {trial.trial: trial.state for trial in study_status(tmp_path / "out").trials}
    assert states["ce-fold0-seed0"] == "diverged"


def test_beside_its_members_it_is_paired_by_image(finished, combined):
    study, ensemble = read_results(finished), read_results(combined)
    rows = side_by_side(study, ensemble)
    assert "not computed" not in " ".join(rows["reading"])
    row = rows[(rows["defense"] == "ce") & (rows["metric"] == "F1 score")].iloc[0]  # without attack
    value = float(row["difference"].split()[0])
    clean = [
        side.outcomes[(side.outcomes["attack"] == "none") & (side.outcomes["defense"] == "ce")]
        for side in (study, ensemble)
    ]

    def f1(part):
        called, truth = part["prediction"] == "malignant", part["label"] == "malignant"
        return 2 * (called & truth).sum() / max(1, called.sum() + truth.sum())

    pooled = [f1(side) for side in clean]  # over folds and seeds
    assert value == pytest.approx(pooled[1] - pooled[0], abs=6e-4)
    mirrored = side_by_side(ensemble, study)
    assert float(mirrored.iloc[0]["difference"].split()[0]) == pytest.approx(-value, abs=6e-4)
    assert unlike(study, ensemble) == ["seeds: [0, 1] in the first study, ensembles of [0, 1] in the second."]
    assert "ensembles of the seeds 0, 1" in write_comparison(finished, combined).read_text()


def test_the_command_writes_beside_the_results(finished, mirst, tmp_path):
    study = shutil.copytree(finished, tmp_path / "small")
    code, text, error = mirst("ensemble", study, "--jobs", 2)
    assert code == 0, error
    assert f"Results: {tmp_path / 'small-ensemble'}" in text
    assert (tmp_path / "small-ensemble" / "report.html").exists()
    card = tmp_path / "small-ensemble" / "trials" / "ce-fold0-seed0" / "model.safetensors"
    assert read_card(card).members == 2
    code, _, error = mirst("run", study / "study.yaml", "--out", tmp_path / "small-ensemble", "--set", "seeds=[0]")
    assert (code, error.count("\n")) == (2, 1)
    assert "cannot train" in error
    code, _, error = mirst("ensemble", study, "--out", study)
    assert code == 2


def test_it_does_not_state_the_certificates_of_a_member(tmp_path):
    figures = CertifiedMetrics(eps=0.01, method="interval", images=3, metrics={"f1": 0.5})
    paths = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    for path in paths:
        save_model(path, build_model(CARD.model, 1, 2, CARD.drop_max), replace(CARD, certified=(figures,)))
    _, card = combine(paths, "")
    assert (card.members, card.certified) == (2, ())
