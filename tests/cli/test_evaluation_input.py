import re
import shutil

import pandas as pd
import pytest

from tests.helpers import refused


@pytest.fixture
def three_classes(phantoms, tmp_path):
    folder = tmp_path / "three"
    shutil.copytree(phantoms, folder)
    (folder / "normal").mkdir()
    for number in range(3):
        shutil.copy(folder / "benign" / f"phantom-{number + 1:03}.png", folder / "normal" / f"n{number}.png")
    return folder


@pytest.mark.parametrize("suite", [["--attack", "fgsm"], ["--suite", "corruptions"], ["--suite", "distances"]])
def test_classes_that_the_model_does_not_have_are_named_once(mirst, checkpoint, three_classes, tmp_path, suite):
    if suite[-1] == "corruptions":
        for path in three_classes.glob("*/phantom-*"):
            if int(path.stem[-3:]) > 3:
                path.unlink()
    code, text, _ = mirst("evaluate", checkpoint, "--data", three_classes, *suite, "--out", tmp_path / "out")
    assert code == 0
    line = "Data: 3 images are left out, as the model has no such class: normal (3)."
    assert [one for one in text.splitlines() if one.startswith("Data: ")] == [line]
    if suite[-1] == "fgsm":
        assert set(pd.read_csv(tmp_path / "out" / "outcomes.csv")["label"]) == {"benign", "malignant"}


def test_without_other_classes_nothing_is_said(mirst, checkpoint, phantoms):
    code, text, _ = mirst(
        "evaluate", checkpoint, "--data", phantoms, "--attack", "fgsm", "--set", "training.fast=false"
    )
    assert code == 0
    assert "Data:" not in text


@pytest.mark.parametrize(
    ("setting", "key"),
    [
        ("data.size=64", "data.size"),
        ("data.classes=[benign, malignant]", "data.classes"),
        ("data.channels=3", "data.channels"),
        ("data.positive=benign", "data.positive"),
        ("data={size: 64}", "data.size"),
        ("data.path=elsewhere", "data.path"),
        ("training.epochs=3", "training.epochs"),
        ("seeds=[1]", "seeds"),
        ("attacks=[fgsm]", "attacks"),
        ("folds.count=3", "folds.count"),
        ("model.name=resnet18", "model.name"),
    ],
)
def test_a_setting_without_effect_on_a_checkpoint_is_refused(mirst, checkpoint, phantoms, setting, key):
    words = refused(mirst("evaluate", checkpoint, "--data", phantoms, "--set", "training.fast=false", "--set", setting))
    assert re.search(rf"--set {key} has no effect on the evaluation of \S+: .*leave it out", words)


@pytest.mark.parametrize("setting", ["data.size=64", "training.fast=false", "seeds=[1]"])
def test_a_setting_has_no_effect_on_a_study(mirst, finished, setting):
    words = refused(mirst("evaluate", finished, "--suite", "standard", "--set", setting))
    assert "a study keeps its own settings" in words


def test_a_setting_without_effect_on_a_factory_is_refused(mirst, phantoms):
    command = ["evaluate", "tests.contracts.models:tiny", "--data", phantoms, "--set"]
    words = refused(mirst(*command, "training.epochs=3"))
    keys = "data.channels, data.classes, data.margin, data.positive, data.size, data.view, data.without_box"
    assert f"only {keys}, training.fast can be set here" in words
