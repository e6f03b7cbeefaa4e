"""Whether the images of an evaluation are those that the model was trained on."""

import shutil

import pandas as pd

from mirst.data import read_dataset
from mirst.study.image_use import training_overlap


def checkpoint(folder):
    return folder / "trials" / "ce-fold0-seed0" / "model.safetensors"


def test_images_of_the_other_fold_were_used(finished, phantoms):
    rows = pd.read_csv(finished / "outcomes.csv").drop_duplicates(["image", "fold"])
    records = read_dataset(phantoms)
    test = set(rows.loc[rows["fold"] == 0, "image"])
    assert 0 < len(test) < len(records)
    assert training_overlap(checkpoint(finished), records) == len(records) - len(test)
    assert training_overlap(checkpoint(finished), [record for record in records if record.name in test]) == 0


def test_a_model_outside_a_study_has_no_known_images(finished, phantoms, tmp_path):
    lone = tmp_path / "model.safetensors"
    shutil.copy(checkpoint(finished), lone)
    assert training_overlap(lone, read_dataset(phantoms)) == 0


def test_evaluate_warns_of_them(mirst, finished, phantoms):
    code, text, _ = mirst("evaluate", checkpoint(finished), "--data", phantoms, "--attack", "fgsm")
    assert code == 0
    assert "images were used to train this model or to choose its settings" in text
