import io
import json
import re
import shutil
import subprocess
import sys
import warnings
from contextlib import redirect_stdout
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from mirst.attacks import Square
from mirst.cli import main
from mirst.data import load_images, read_dataset, write_phantoms
from mirst.data.fetch import SOURCES, Source
from mirst.errors import plain
from mirst.files import harmless
from mirst.nn import load_model, save_model
from tests.helpers import refused

pytestmark = pytest.mark.usefixtures("unpainted")


@pytest.fixture
def few_queries(monkeypatch):
    """Square with 100 queries instead of 5,000, all of which it needs on a model with one answer."""
    monkeypatch.setitem(Square.__init__.__kwdefaults__, "queries", 100)


@pytest.fixture(scope="module")
def checkpoint(phantoms, tmp_path_factory):
    out = tmp_path_factory.mktemp("train") / "model.safetensors"
    command = [
        "mirst", "train", "--data", str(phantoms), "--out", str(out),
        "--defense", "{name: rst, steps: 3}", "--drop-max", "--set", "data.size=32", "--set", "training.epochs=2",
    ]  # fmt: skip
    with (
        pytest.MonkeyPatch.context() as patch,
        redirect_stdout(io.StringIO()) as printed,
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")  # as in a command of a user's, a warning is no error
        patch.setattr(sys, "argv", command)
        with pytest.raises(SystemExit):
            main()
    assert "epoch 2/2" in printed.getvalue()
    assert f"Checkpoint: {out}" in printed.getvalue()
    assert sorted(p.name for p in out.parent.iterdir()) == ["MODEL_CARD.md", "model.safetensors"]
    return out


def test_run_says_where_the_results_are(mirst, small_yaml, phantoms, tmp_path):
    out = tmp_path / "out"
    overrides = ["--set", "seeds=[0]", "--set", "training.epochs=1", "--set", "defenses=[ce]"]
    code, text, _ = mirst("run", small_yaml, "--data", phantoms, "--out", out, "--jobs", 2, *overrides)
    assert code == 0
    assert f"Report: {out / 'report.html'}" in text
    assert "| F1 score | no attack |" in text
    for name in ("study.yaml", "run.json", "outcomes.csv", "summary.csv", "table.md", "report.html"):
        assert (out / name).is_file()
    (out / "report.html").unlink()
    code, text, _ = mirst("report", out)
    assert code == 0
    assert (out / "report.html").is_file()


@pytest.fixture
def littered(phantoms, tmp_path):
    """A data set with a note, masks, and an image that looks like one."""
    folder = tmp_path / "littered"
    shutil.copytree(phantoms, folder)
    (folder / "notes.txt").write_text("x")
    (folder / ".DS_Store").write_text("x")
    mask = Image.new("L", (40, 40))
    mask.paste(255, (10, 10, 20, 20))
    for name in ("benign/phantom-001_MASK.gif", "malignant/orphan_mask.png", "benign/phantom-001_outline.png"):
        mask.save(folder / name)
    return folder


LITTER = [
    "WARNING: 1 image looks like a mask, with two gray levels: benign/phantom-001_outline.png (beside "
    "benign/phantom-001.png). Remove every mask, or put the word mask into its file name.",
    "1 file was ignored: notes.txt.",
    "2 masks were not taken for images: benign/phantom-001_MASK.gif, malignant/orphan_mask.png.",
    "1 hidden or system file was ignored.",
]


def test_what_is_ignored_is_told_in_the_audit_in_a_run_and_in_its_report(mirst, small_yaml, littered, tmp_path):
    code, text, _ = mirst("data", "audit", littered, "--out", tmp_path / "audit")
    assert code == 0
    assert text.splitlines()[:4] == LITTER
    quick = ["--set", "seeds=[0]", "--set", "training.epochs=1", "--set", "defenses=[ce]", "--jobs", 2]
    run = ("run", small_yaml, "--data", littered, "--out", tmp_path / "out", *quick)
    lines = [f"Data: {sentence}" for sentence in LITTER]
    assert mirst(*run, "--dry-run")[1].splitlines()[:4] == lines
    assert mirst(*run)[1].splitlines()[:4] == lines
    assert json.loads(mirst(*run, "--json")[1].splitlines()[0])["remarks"] == LITTER
    assert json.loads((tmp_path / "out" / "run.json").read_text())["data"]["audit"][:4] == LITTER
    for page in (tmp_path / "audit" / "audit.html", tmp_path / "out" / "report.html"):
        assert all(f"<li>{sentence}</li>" in page.read_text() for sentence in LITTER)


def test_a_study_finds_its_data_from_any_folder(mirst, phantoms, tmp_path, monkeypatch):
    shutil.copytree(phantoms, tmp_path / "images")
    (tmp_path / "studies").mkdir()
    study = tmp_path / "studies" / "s.yaml"
    study.write_text(
        "data: {path: ../images, size: 16}\ntraining: {epochs: 1}\ndefenses: [ce]\nattacks: [fgsm]\nfolds: {count: 2}\n"
    )
    monkeypatch.chdir(tmp_path / "studies")
    assert mirst("run", "s.yaml", "--out", tmp_path / "out", "--jobs", 2)[0] == 0
    monkeypatch.chdir(tmp_path)
    assert mirst("run", "studies/s.yaml", "--out", "out", "--quiet")[0] == 0  # the same study, which is done
    assert mirst("run", "out/study.yaml", "--out", "out", "--quiet")[0] == 0
    (tmp_path / "moved").mkdir()
    (tmp_path / "images").rename(tmp_path / "moved" / "images")
    words = refused(mirst("run", "studies/s.yaml", "--out", "out"))
    assert f"{tmp_path / 'images'} does not exist; give the path of the data set" in words
    assert mirst("run", "studies/s.yaml", "--data", "moved/images", "--out", "out", "--quiet")[0] == 0


def test_studies_lists_the_shipped_ones(mirst):
    code, text, _ = mirst("studies")
    assert code == 0
    assert "busi-small         Plain training, RST and MIRST, each with and without drop-max, on BUSI.\n" in text
    assert (Path(text.splitlines()[-1].removeprefix("Files: ")) / "busi-groups.csv").is_file()
    words = refused(mirst("run", "busi-small"))
    assert "data.path is not set" in words


def test_folds_that_would_miss_a_class_are_refused_before_training(mirst, small_yaml, phantoms, tmp_path):
    rows = ["path,label,group", *(f"benign/phantom-{n:03}.png,benign,b{n}" for n in range(1, 9))]
    rows += [f"malignant/phantom-{n:03}.png,malignant,m{n % 3}" for n in range(1, 9)]
    shutil.copytree(phantoms, tmp_path / "data")
    (tmp_path / "data" / "list.csv").write_text("\n".join(rows))
    run = ("run", small_yaml, "--data", tmp_path / "data" / "list.csv", "--out", tmp_path / "out")
    for count, words in (
        (2, "class malignant has 3 groups, fewer than the 4"),
        (4, "has 3 groups, fewer than the 4 folds"),
    ):
        assert words in refused(mirst(*run, "--set", f"folds.count={count}"))
        assert not (tmp_path / "out").exists()
    gone = "data.relabel={" + ", ".join(f"malignant/phantom-{n:03}.png: null" for n in range(1, 9)) + "}"
    assert "leave no image of class malignant" in refused(mirst(*run, "--set", gone))
    assert "mirst run would reject data with 5 folds" in mirst("data", "audit", tmp_path / "data" / "list.csv")[1]


@pytest.mark.parametrize("extra", [["--quiet"], ["--json"], ["--track", "tensorboard"]])
def test_a_dry_run_has_nothing_to_be_told_of(mirst, small_yaml, phantoms, tmp_path, extra):
    told = mirst("run", small_yaml, "--data", phantoms, "--out", tmp_path / "out", "--dry-run", *extra)
    assert "there is no progress to show; leave out --quiet, --json and --track" in refused(told)
    assert not (tmp_path / "out").exists()


def test_a_dry_run_says_what_the_study_takes_and_writes_nothing(mirst, small_yaml, phantoms, finished, tmp_path):
    dry = ("run", small_yaml, "--data", phantoms, "--dry-run", "--jobs", 2, "--out")
    code, text, _ = mirst(*dry, tmp_path / "out")
    assert code == 0
    assert [line.split()[:2] for line in text.splitlines()[1:3]] == [["ce", "4"], ["mirst+dm", "4"]]
    sentence = r"About [\d.]+ (s|min|h .*) for 8 trials, 2 in parallel; about \d\.\d GB of memory\."
    assert re.fullmatch(sentence, text.splitlines()[-1])
    assert mirst(*dry, finished)[1] == "Nothing left to run: all 8 trials are done.\n"
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "thesis.txt").write_text("precious")
    assert "is not a results folder" in refused(mirst(*dry, tmp_path / "taken"))
    assert "the settings of training differ" in refused(mirst(*dry, finished, "--set", "training.epochs=4"))
    assert "does not exist" in refused(mirst(*dry, tmp_path / "out", "--data", tmp_path / "missing"))
    assert "--jobs is 0" in refused(mirst(*dry, tmp_path / "out", "--jobs", 0))
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_evaluate_prints_metrics_and_writes_rows(mirst, checkpoint, phantoms, tmp_path):
    out = tmp_path / "rows"
    code, text, _ = mirst(
        "evaluate",
        checkpoint,
        "--data",
        phantoms,
        "--attack",
        "fgsm",
        "--attack",
        "{name: pgd, eps: 8/255}",
        "--out",
        out,
    )
    assert code == 0
    assert re.search(r"attack +eps +f1 +sensitivity +specificity +auc +accuracy", text)
    assert [line.split()[0] for line in text.splitlines()[1:4]] == ["none", "fgsm", "pgd"]
    assert len((out / "outcomes.csv").read_text().splitlines()) == 1 + 3 * 24


def test_evaluate_measures_auc_under_the_papers_attacks(mirst, checkpoint, phantoms):
    code, text, _ = mirst("evaluate", checkpoint, "--data", phantoms, "--auc")
    header, clean, *attacked = (line.split() for line in text.splitlines()[:5])
    assert code == 0
    assert header[-1] == "auc_attacked"
    assert clean[header.index("auc")] == clean[-1]
    worst = re.search(r"AUC under the worst of all attacks for each image: (0\.\d{4})", text)
    assert len(attacked) == 3
    assert 0 <= float(worst[1]) <= min(float(line[-1]) for line in attacked) <= float(clean[-1])
    for suite in ("distances", "corruptions"):
        sentence = refused(mirst("evaluate", checkpoint, "--data", phantoms, "--suite", suite, "--auc"))
        assert f"--auc is for --suite paper, standard or adaptive, not {suite}" in sentence


def test_evaluate_under_corruptions(mirst, checkpoint, phantoms, tmp_path):
    code, text, _ = mirst("evaluate", checkpoint, "--data", phantoms, "--suite", "corruptions", "--out", tmp_path)
    assert code == 0
    assert "reverberation" in text
    assert (tmp_path / "corruptions.csv").read_text().startswith("corruption,severity,f1,sensitivity")


def test_evaluate_under_a_strong_suite(mirst, checkpoint, phantoms, tmp_path, few_queries):
    radii = ["--eps", "60/255,120/255"]
    code, text, _ = mirst(
        "evaluate", checkpoint, "--data", phantoms, "--suite", "standard", *radii, "--out", tmp_path / "out"
    )
    assert code == 0
    assert text.startswith("Masking checks at eps 120/255: ")
    assert [line.split()[:1] for line in text.splitlines() if re.match(r" *(none|paper|standard) +0\.", line)] == [
        ["none"], ["paper"], ["standard"], ["paper"], ["standard"],
    ]  # fmt: skip
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "outcomes.csv", "metrics.csv", "costs.csv", "verdict.txt", "curve.png", "curve.svg",
    }  # fmt: skip
    with Image.open(tmp_path / "out" / "curve.png") as figure:
        assert figure.width > 300


def test_evaluate_a_model_of_the_users(mirst, phantoms, few_queries):
    at = ["--data", phantoms, "--suite", "adaptive", "--eps", "0.4", "--set", "data.size=16"]
    code, text, _ = mirst("evaluate", "tests.helpers:small_cnn", *at, "--source", "tests.helpers:small_cnn")
    assert code == 0
    assert "MODEL: it is in train mode" in text
    assert "Masking checks at eps 102/255" in text
    assert "transfer" in text
    assert "has no such_net" in refused(mirst("evaluate", "tests.helpers:such_net", *at))


@pytest.mark.parametrize(
    ("suite", "attacks"),
    [
        (["--attack", "fgsm", "--attack", "{name: pgd, steps: 2}"], "no attack, fgsm at eps 5/255, pgd at eps 5/255"),
        (["--suite", "corruptions"], "no attack"),
        (["--suite", "standard", "--eps", "2/255"], "no attack, paper at eps 2/255, standard at eps 2/255"),
    ],
)
def test_evaluate_warns_of_a_model_with_one_answer(mirst, phantoms, suite, attacks, few_queries):
    at = ["--data", phantoms, "--set", "data.size=16", *suite]
    code, text, _ = mirst("evaluate", "tests.helpers:one_answer_cnn", *at)
    assert code == 0
    (warning,) = [line for line in text.splitlines() if line.startswith("WARNING")]
    assert warning == (
        f"WARNING: the model predicts malignant for every test image under {attacks}. These numbers are no evidence of "
        "robustness. A model that always predicts malignant has F1 0.667 on these images."
    )


def test_evaluate_of_a_study_warns_of_the_trial_with_one_answer(mirst, finished, phantoms, tmp_path):
    out = tmp_path / "study"
    shutil.copytree(finished, out)
    rows = pd.read_csv(out / "outcomes.csv")
    at = (rows["defense"] == "ce") & (rows["fold"] == 1) & (rows["seed"] == 1) & (rows["attack"] == "pgd")
    rows.assign(prediction=rows["prediction"].where(~at, "benign")).to_csv(out / "outcomes.csv", index=False)
    code, text, _ = mirst("evaluate", out, "--data", phantoms, "--suite", "corruptions")
    assert code == 0
    assert any(
        line.startswith("WARNING: ce on fold 1 with seed 1 predicts benign for every test image under ")
        and "pgd at eps 5/255" in line
        and line.endswith("has F1 0.000 on these images.")
        for line in text.splitlines()
    )


def test_predict_answers_for_each_image(mirst, checkpoint, phantoms):
    images = sorted(phantoms.glob("*/*.png"))[:3]
    code, text, _ = mirst("predict", checkpoint, *images)
    assert code == 0
    words = r": (benign|malignant) \(calibrated probability of malignant 0\.\d{3}\)"
    for line, image in zip(text.splitlines(), images, strict=True):
        assert re.fullmatch(re.escape(str(image)) + words, line)


def test_predict_gives_sets_of_classes(mirst, checkpoint, phantoms):
    image = sorted(phantoms.glob("*/*.png"))[0]
    code, text, err = mirst("predict", checkpoint, image, "--coverage", "0.9")
    assert code == 0
    assert text.endswith("; set: benign, malignant; abstains\n")  # of so few validation images
    always = "at coverage 0.9, every set contains benign and malignant"
    assert err == f"mirst: {always}: there were too few validation images\n"
    assert "coverage is 90; it must be above 0" in refused(mirst("predict", checkpoint, image, "--coverage", "90"))


def test_predict_says_that_a_checkpoint_has_no_calibration(mirst, checkpoint, phantoms, tmp_path):
    model, card = load_model(checkpoint)
    save_model(tmp_path / "old.safetensors", model, replace(card, calibration=None))
    image = sorted(phantoms.glob("*/*.png"))[0]
    code, text, err = mirst("predict", tmp_path / "old.safetensors", image)
    assert (code, "(probability of malignant" in text) == (0, True)
    assert err == "mirst: the probabilities are not calibrated: the checkpoint has no calibration\n"
    options = "--coverage", "0.9", "--csv", tmp_path / "a.csv"
    told = refused(mirst("predict", tmp_path / "old.safetensors", image, *options))
    assert "old.safetensors has no calibration, so it gives no sets of classes" in told
    assert not (tmp_path / "a.csv").exists()


def test_predict_tells_of_pages_on_the_error_stream(mirst, checkpoint, phantoms, tmp_path):
    with Image.open(next(phantoms.glob("*/*.png"))) as page:
        page.save(tmp_path / "x.tif", save_all=True, append_images=[page.rotate(90)])
    code, text, err = mirst("predict", checkpoint, tmp_path / "x.tif")
    assert (code, len(text.splitlines())) == (0, 1)
    assert err == f"mirst: {tmp_path / 'x.tif'} contains 2 pages or frames; only the first is read\n"


def test_predict_writes_csv_and_json(mirst, checkpoint, phantoms, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, text, _ = mirst("predict", checkpoint, phantoms, "--csv", "new/answers.csv", "--json", "answers.json")
    assert code == 0
    assert re.fullmatch(r"24 images: \d+ benign, \d+ malignant\nCSV: new/answers.csv\nJSON: answers.json\n", text)
    table = pd.read_csv("new/answers.csv")
    assert len(table) == len(json.loads((tmp_path / "answers.json").read_text())["predictions"]) == 24
    image = next(phantoms.glob("*/*.png"))
    mirst("predict", checkpoint, image, "--csv", "new/answers.csv")  # replaced as a whole
    assert len(pd.read_csv("new/answers.csv")) == 1
    code, text, _ = mirst("predict", checkpoint, image, "--csv", "-", "--json", "other.json")
    assert text == (tmp_path / "new" / "answers.csv").read_text()
    code, text, _ = mirst("predict", checkpoint, image, "--json", "-")
    assert json.loads(text)["predictions"][0]["image"] == str(image)


@pytest.mark.parametrize("name", ["=1.png", "+1.png", "-1.png", "@SUM(A1).png", "a;=1.png", "\t=1.png"])
def test_no_cell_of_predict_is_a_formula(mirst, checkpoint, phantoms, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    shutil.copy(next(phantoms.glob("*/*.png")), name)
    for out in ("-", "answers.csv"):
        _, text, _ = mirst("predict", checkpoint, "--csv", out, "--", name)
        cell = pd.read_csv(io.StringIO(text if out == "-" else Path(out).read_text()))["image"].item()
        assert cell == harmless(plain(name))
        assert cell[0] not in "=+-@"


def test_predict_writes_nothing_where_an_image_is_broken_or_the_output_makes_no_sense(
    mirst, checkpoint, phantoms, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(phantoms, "data")
    Path("data/benign/z.png").write_bytes(b"\x89PNG junk")
    assert "z.png" in refused(mirst("predict", checkpoint, "data", "--csv", "a.csv", "--json", "a.json"))
    image = next(phantoms.glob("*/*.png"))
    Path("taken.csv").mkdir()
    Path("picture.png").write_bytes(image.read_bytes())
    assert "would both write to standard output" in refused(
        mirst("predict", checkpoint, image, "--csv", "-", "--json", "-")
    )
    assert "cannot write taken.csv" in refused(mirst("predict", checkpoint, image, "--csv", "taken.csv"))
    assert "give the path of a file" in refused(mirst("predict", checkpoint, image, "--csv", ""))
    assert "picture.png has the suffix of an input" in refused(
        mirst("predict", checkpoint, "--csv", "picture.png", image)
    )
    assert Path("picture.png").read_bytes() == image.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "picture.png", "taken.csv"]


def test_version(mirst):
    assert mirst("--version") == (0, f"mirst {version('mirst')}\n", "")


def test_evaluate_prints_the_table_of_a_study(mirst, finished, tmp_path):
    shutil.copytree(finished, tmp_path / "study")
    code, text, err = mirst("evaluate", tmp_path / "study", "--suite", "corruptions")
    assert code == 0
    assert re.search(r"speckle +1 +0\.\d{4} +0\.\d{4}", text)
    assert text.endswith(f"Report: {tmp_path / 'study' / 'report.html'}\n")
    assert err.count(": done\n") == 8


def test_report_of_two_studies_says_what_differs(mirst, finished, tmp_path):
    shutil.copytree(finished, tmp_path / "other")
    study = tmp_path / "other" / "study.yaml"
    study.write_text(study.read_text().replace("epochs: 3", "epochs: 7"))
    code, text, _ = mirst("report", finished, tmp_path / "other", "--out", tmp_path / "page.html")
    assert code == 0
    assert text == f"training.epochs: 3 in the first study, 7 in the second.\nReport: {tmp_path / 'page.html'}\n"


@pytest.fixture
def strangers(checkpoint, tmp_path, monkeypatch):
    """A checkpoint that asks for a factory of the working directory, and what appears when its code runs."""
    (tmp_path / "net_of_a_stranger.py").write_text(
        "from pathlib import Path\nPath('ran').touch()\nfrom mirst.nn import build_model\n"
        "def make(in_channels, num_classes):\n    return build_model('resnet_tiny', in_channels, num_classes)\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    model, card = load_model(checkpoint)
    save_model(tmp_path / "sent.safetensors", model, replace(card, model="net_of_a_stranger:make"))
    yield tmp_path / "sent.safetensors", tmp_path / "ran"
    sys.modules.pop("net_of_a_stranger", None)


def test_a_strangers_checkpoint_runs_its_factory_only_when_told_to(mirst, strangers, checkpoint, phantoms):
    path, ran = strangers
    image, trust = next(phantoms.glob("*/*.png")), ("--trust", "net_of_a_stranger:make")
    attacked = ("--data", phantoms, "--attack", "fgsm")
    commands = [
        ("predict", path, image),
        ("evaluate", path, *attacked),
        ("figure", "attacks", path, image, "--out", "figure.png"),
        ("figure", "residuals", path, image, "--out", "figure.png"),
    ]
    for command in (*commands, ("app", path), ("app", checkpoint, path)):
        assert "if you trust that code, add --trust net_of_a_stranger:make" in refused(mirst(*command))
        assert "--trust" in refused(mirst(*command, "--trust", "os:system"))
        assert not ran.exists()
    for command in commands:
        assert mirst(*command, *trust)[0] == 0
    assert ran.exists()


def test_bad_data_get_one_sentence(mirst, small_yaml, phantoms, tmp_path):
    def run(data, *more):
        return refused(mirst("run", small_yaml, "--data", data, "--out", tmp_path / "out", *more))

    assert "does not exist" in run(tmp_path / "missing")
    write_phantoms(tmp_path / "data", 4)
    assert "fewer than the 5 folds" in run(tmp_path / "data", "--set", "folds.count=5")
    (tmp_path / "data" / "cyst").mkdir()
    assert "contains no images" in run(tmp_path / "data")
    Image.new("L", (4, 4)).save(tmp_path / "data" / "cyst" / "x.png")
    (tmp_path / "data" / "benign" / "broken.png").write_bytes(b"\x89PNG broken")
    assert "broken.png" in run(tmp_path / "data")
    assert not (tmp_path / "out").exists()


def test_other_bad_input_gets_one_sentence(mirst, small_yaml, phantoms, checkpoint, tmp_path):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "thesis.txt").write_text("precious")
    (tmp_path / "no.png").write_text("no image")
    for arguments in (
        ("run", tmp_path / "missing.yaml"),
        ("run", small_yaml),
        ("run", small_yaml, "--data", phantoms, "--out", tmp_path / "taken"),
        ("run", small_yaml, "--data", phantoms, "--set", "training.epoch=3"),
        ("run", small_yaml, "--data", phantoms, "--jobs", "0"),
        ("train", "--data", phantoms, "--out", tmp_path / "m.safetensors", "--defense", "armour"),
        ("evaluate", tmp_path / "none.safetensors", "--data", phantoms),
        ("evaluate", checkpoint, "--data", phantoms, "--attack", "{name: pgd, eps: -1}"),
        ("evaluate", checkpoint, "--data", tmp_path / "missing"),
        ("evaluate", checkpoint),
        ("evaluate", checkpoint, "--data", phantoms, "--eps", "5/255"),
        ("evaluate", checkpoint, "--data", phantoms, "--suite", "standard", "--eps", "five"),
        ("evaluate", checkpoint, "--data", phantoms, "--suite", "standard", "--eps", "5"),
        ("evaluate", checkpoint, "--data", phantoms, "--suite", "standard", "--attack", "pgd"),
        ("evaluate", checkpoint, "--data", phantoms, "--suite", "standard", "--source", checkpoint),
        ("evaluate", tmp_path, "--suite", "standard"),
        ("evaluate", tmp_path, "--suite", "corruptions"),
        ("evaluate", tmp_path),
        ("evaluate", tmp_path, "--suite", "corruptions", "--attack", "pgd"),
        ("evaluate", checkpoint, "--data", phantoms, "--suite", "corruptions", "--attack", "pgd"),
        ("predict", checkpoint, tmp_path / "no.png"),
        ("predict", checkpoint, tmp_path / "missing.png"),
        ("report", tmp_path),
    ):
        refused(mirst(*arguments))
    assert not (tmp_path / "m.safetensors").exists()


def test_help_needs_no_heavy_import():
    """What makes it fast: neither torch nor MONAI nor matplotlib is imported."""
    script = (
        "import sys; sys.argv = ['mirst', '--help']\n"
        "import mirst.cli\n"
        "try:\n    mirst.cli.main()\nexcept SystemExit:\n    pass\n"
        "print(sorted({'torch', 'matplotlib', 'numba', 'pandas', 'sklearn'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip().splitlines()[-1] == "[]"


def test_pretrain_and_probe(mirst, phantoms, tmp_path):
    out, size = tmp_path / "backbone.safetensors", ["--set", "data.size=32"]
    epochs = ["--set", "training.epochs=2", *size]
    code, text, _ = mirst("pretrain", "simclr", "--data", phantoms, "--data", phantoms, "--out", out, *epochs)
    assert code == 0
    assert "epoch 2/2: loss" in text
    assert f"use it with --set model.weights={out}" in text
    code, text, _ = mirst("probe", "--data", phantoms, "--set", f"model.weights={out}", "--set", "folds.count=2", *size)
    assert code == 0
    assert "random" in text
    assert str(out) in text
    supervised = ("pretrain", "supervised", "--out", tmp_path / "s.safetensors", "--data")
    assert mirst(*supervised, phantoms, *epochs)[0] == 0
    refused(mirst(*supervised, tmp_path / "missing"))
    refused(mirst("probe", "--data", phantoms, "--set", "model.weights=nothing.pth"))


def test_figures(mirst, checkpoint, phantoms, tmp_path):
    image = phantoms / "benign" / "phantom-001.png"
    for name in ("attacks", "residuals"):
        out = tmp_path / f"{name}.png"
        code, text, _ = mirst("figure", name, checkpoint, image, "--out", out)
        assert code == 0
        assert text == f"Figure: {out}\n"
        with Image.open(out) as figure:
            assert figure.width > 300
        refused(mirst("figure", name, checkpoint, tmp_path / "missing.png", "--out", out))


def test_compare_judges_the_papers_tables(mirst, finished, tmp_path):
    code, _, _ = mirst("compare", finished, "--paper", "--out", tmp_path / "paper.md")
    assert code == 0
    assert "## Claims" in (tmp_path / "paper.md").read_text()
    refused(mirst("compare", finished))
    refused(mirst("compare", *[finished] * 4, "--paper"))
    refused(mirst("compare", tmp_path, "--paper"))


def test_audit_exits_with_1_when_labels_conflict(mirst, phantoms, tmp_path):
    code, text, _ = mirst("data", "audit", phantoms)
    assert code == 0
    assert "24 images form 24 groups" in text
    shutil.copytree(phantoms, tmp_path / "data")
    shutil.copy(tmp_path / "data" / "benign" / "phantom-001.png", tmp_path / "data" / "malignant" / "same.png")
    code, text, _ = mirst("data", "audit", tmp_path / "data", "--out", tmp_path / "out")
    assert code == 1
    assert "LABEL CONFLICT: benign/phantom-001.png (benign), malignant/same.png (malignant)." in text
    assert (tmp_path / "out" / "groups.csv").read_text().startswith("image,group,source\nbenign/phantom-001.png,")
    assert "different classes" in (tmp_path / "out" / "audit.html").read_text()
    refused(mirst("data", "audit", tmp_path / "missing"))


@pytest.mark.parametrize("channels", [0, 2, 4])
def test_prepare_refuses_images_that_are_neither_gray_nor_colour(mirst, phantoms, tmp_path, channels):
    told = refused(mirst("data", "prepare", phantoms, "--out", tmp_path / "out", "--channels", channels))
    assert told == f"mirst: --channels is {channels}; choose 1 (gray), 3 (colour) or auto\n"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("channels", [1, 3])
def test_prepare_writes_gray_or_colour_images(mirst, phantoms, tmp_path, channels):
    code, _, err = mirst("data", "prepare", phantoms, "--out", tmp_path / "out", "--size", 16, "--channels", channels)
    assert (code, err) == (0, "")
    (record, *_) = read_dataset(tmp_path / "out")
    assert load_images([record], 16, channels).shape == (1, channels, 16, 16)


def test_fetch_shows_the_licence_and_names_what_is_wrong(mirst, tmp_path, monkeypatch):
    monkeypatch.setenv("MIRST_CACHE", str(tmp_path / "cache"))
    offline = Source(url="http://127.0.0.1:9/x.zip", licence="CC BY 4.0", citation="Someone 2020", checksum=None)
    monkeypatch.setitem(SOURCES, "busi", offline)
    code, text, err = mirst("data", "fetch", "busi", "--out", tmp_path / "data")
    assert code == 2
    assert text.startswith("Licence: CC BY 4.0\nCite: Someone 2020")
    assert "cannot reach http://127.0.0.1:9/x.zip" in err
    refused(mirst("data", "fetch", "cifar"))
