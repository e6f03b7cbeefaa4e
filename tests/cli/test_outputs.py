import os
import shutil

import pytest

from mirst.cli.outputs import require_output
from mirst.errors import MirstError
from tests.helpers import refused


@pytest.fixture
def place(phantoms, checkpoint, finished, small_yaml, tmp_path):
    """What the commands read, by name."""
    shutil.copytree(phantoms, tmp_path / "images")
    shutil.copytree(finished, tmp_path / "study")
    shutil.copy(small_yaml, tmp_path / "study.yaml")
    (tmp_path / "page.svg").write_bytes((tmp_path / "images" / "benign" / "phantom-001.png").read_bytes())
    listed = "path,label\n" + "".join(
        f"{name}/phantom-{n:03}.png,{name}\n" for name in ("benign", "malignant") for n in (1, 2)
    )
    (tmp_path / "images" / "outcomes.csv").write_text(listed)
    (tmp_path / "model" / "MODEL_CARD.md").write_text("card")
    os.link(checkpoint, tmp_path / "same.safetensors")
    (tmp_path / "images" / "link.csv").symlink_to(tmp_path / "images" / "outcomes.csv")
    (tmp_path / "a file").write_text("x")
    return tmp_path


def content(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and "cache" not in path.parts}


MODEL, IMAGE = "{0}/model/model.safetensors", "{0}/images/benign/phantom-001.png"
FAULTS = {
    "export": ["export", MODEL, "--to", "safetensors", "--out", MODEL],
    "export, other spelling": ["export", MODEL, "--to", "safetensors", "--out", "{0}/model/../model/model.safetensors"],
    "export, hard link": ["export", MODEL, "--to", "safetensors", "--out", "{0}/same.safetensors"],
    "export, other kind": ["export", MODEL, "--to", "onnx", "--out", "{0}/model/MODEL_CARD.md"],
    "export, torch": ["export", MODEL, "--to", "torch-export", "--out", "{0}/study.yaml"],
    "export, folder": ["export", MODEL, "--to", "torch-export", "--out", "{0}/model"],
    "figure attacks": ["figure", "attacks", MODEL, IMAGE, "--out", IMAGE],
    "figure residuals": ["figure", "residuals", MODEL, "{0}/page.svg", "--out", "{0}/page.svg"],
    "figure, folder": ["figure", "attacks", MODEL, IMAGE, "--out", "{0}/model"],
    "predict, one file": ["predict", MODEL, IMAGE, "--csv", "{0}/x.csv", "--json", "{0}/x.csv"],
    "predict, csv": ["predict", MODEL, IMAGE, "--csv", "{0}/model/MODEL_CARD.md"],
    "predict, json": ["predict", MODEL, IMAGE, "--json", "{0}/study.yaml"],
    "predict, json over csv": ["predict", MODEL, IMAGE, "--json", "{0}/images/outcomes.csv"],
    "predict, checkpoint": ["predict", MODEL, IMAGE, "--csv", MODEL],
    "predict, place": ["predict", MODEL, IMAGE, "--csv", "{0}/a file/x.csv"],
    "train, study": ["train", "{0}/study.yaml", "--data", "{0}/images", "--out", "{0}/study.yaml"],
    "train, folder": ["train", "--data", "{0}/images", "--out", "{0}/model"],
    "train, place": ["train", "--data", "{0}/images", "--out", "{0}/a file/m.safetensors"],
    "train, table": ["train", "--data", "{0}/images/outcomes.csv", "--out", "{0}/images/outcomes.csv"],
    "pretrain, weights": [
        "pretrain",
        "simclr",
        "--data",
        "{0}/images",
        "--out",
        MODEL,
        "--set",
        "model.weights=" + MODEL,
    ],
    "pretrain, folder": ["pretrain", "supervised", "--data", "{0}/images", "--out", "{0}/model"],
    "run": ["run", "{0}/study.yaml", "--data", "{0}/images", "--out", "{0}/images"],
    "report": ["report", "{0}/study", "{0}/study", "--out", "{0}/study/outcomes.csv"],
    "compare": ["compare", "{0}/study", "--paper", "--out", "{0}/study/study.yaml"],
    "evaluate, data": ["evaluate", MODEL, "--data", "{0}/images/outcomes.csv", "--out", "{0}/images"],
    "evaluate, link": ["evaluate", MODEL, "--data", "{0}/images/link.csv", "--out", "{0}/images"],
    "evaluate, study": ["evaluate", MODEL, "--data", "{0}/images", "--out", "{0}/study"],
    "evaluate, file": ["evaluate", MODEL, "--data", "{0}/images", "--out", "{0}/a file"],
    "data audit": ["data", "audit", "{0}/images", "--out", "{0}/images"],
}


@pytest.mark.parametrize("fault", FAULTS)
def test_no_command_overwrites_what_it_reads_or_another_kind_of_file(mirst, place, fault):
    before = content(place)
    result = mirst(*(part.format(place) for part in FAULTS[fault]))
    refused(result)
    assert "epoch" not in result[1]
    assert content(place) == before


def test_a_file_of_its_own_kind_is_replaced(mirst, place):
    for name in ("answers.csv", "ANSWERS.CSV"):
        (place / name).write_text("old")
        command = ["predict", MODEL.format(place), IMAGE.format(place), "--csv", place / name]
        assert mirst(*command)[0] == 0
        assert (place / name).read_text().startswith("image,")


def test_a_new_file_may_have_any_name(tmp_path):
    require_output(tmp_path / "deep" / "notes.txt", (".csv",), [tmp_path, tmp_path / "missing"])
    assert not (tmp_path / "deep").exists()
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(MirstError, match=r"notes.txt exists and is not a .csv file"):
        require_output(tmp_path / "notes.txt", (".csv",), [])
