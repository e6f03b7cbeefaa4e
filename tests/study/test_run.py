import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image
from torch import nn

from mirst.errors import MirstError
from mirst.nn import load_model
from mirst.study import Local, load_spec, read_results, run_study
from tests.commands import started

COLUMNS = "defense,drop_max,fold,seed,source,image,group,label,attack,eps,prediction,score,linf"


def test_results_folder(finished, small_spec, phantoms):
    header, *_ = (finished / "outcomes.csv").read_text().splitlines()
    assert header == COLUMNS
    results = read_results(finished)
    assert len(results.outcomes) == 2 * 2 * 24 * 3  # defenses x seeds x images (each in one fold) x passes
    per_trial = results.outcomes.groupby(["defense", "seed", "attack"])["image"].nunique()
    assert set(per_trial) == {24}
    assert set(results.outcomes["label"]) == {"benign", "malignant"}
    assert results.outcomes["image"].str.match(r"(benign|malignant)/phantom-\d+\.png").all()
    header, *_ = (finished / "summary.csv").read_text().splitlines()
    assert header == "defense,drop_max,attack,eps,metric,mean,std,folds,seeds"
    assert results.spec == small_spec.with_channels(1)
    run = json.loads((finished / "run.json").read_text())
    assert run["data"]["images"] == 24
    assert run["seeds"] == [0, 1]
    assert set(run["packages"]) >= {"mirst", "torch", "numpy"}
    assert yaml.safe_load((finished / "study.yaml").read_text())["data"]["path"] == str(phantoms)


def test_each_trial_leaves_a_model_and_its_history_and_no_debris(finished):
    trials = sorted((finished / "trials").iterdir())
    assert len(trials) == 8
    for trial in trials:
        files = {p.name for p in trial.iterdir()}
        expected = {"model.safetensors", "MODEL_CARD.md", "history.csv", "outcomes.csv"}
        assert files == expected | ({"examples.npz"} if trial.name.endswith("fold0-seed0") else set())
        _, card = load_model(trial / "model.safetensors")
        assert card.drop_max == trial.name.startswith("mirst+dm")
        assert pd.read_csv(trial / "history.csv")["number"].tolist() == [1, 2, 3]


def test_a_history_keeps_validation_and_loss_terms_apart(finished):
    history = pd.read_csv(finished / "trials" / "mirst+dm-fold0-seed0" / "history.csv")
    assert list(history) == [
        "number", "loss", "eps_share", "clean", "attacked", "seconds", "loss_clean", "loss_adversarial", "kept",
    ]  # fmt: skip
    assert history["clean"].between(0, 1).all()
    assert history["kept"].sum() == 1
    terms = history["loss_clean"] + history["loss_adversarial"].fillna(0)
    assert terms.tolist() == pytest.approx(history["loss"].tolist())


def test_examples_are_images_that_the_clean_model_answers_rightly(finished):
    rows = read_results(finished).outcomes
    paths = list(finished.glob("trials/*/examples.npz"))
    assert len(paths) == 2
    for path in paths:
        defense = path.parent.name.split("-")[0].removesuffix("+dm")
        trial = rows[(rows["defense"] == defense) & (rows["fold"] == 0) & (rows["seed"] == 0)]
        clean = trial[trial["attack"] == "none"].set_index("image")
        right = clean["label"] == clean["prediction"]
        shown = [str(name) for name in np.load(path)["images"]]
        assert len(shown) == 4
        for label in ("benign", "malignant"):
            of_class = [name for name in shown if clean.loc[name, "label"] == label]
            there = (right & (clean["label"] == label)).sum()
            assert right[of_class].sum() == min(2, there)


def test_test_folds_are_disjoint_and_groups_whole(finished):
    rows = read_results(finished).outcomes
    assert rows.groupby("image")["fold"].nunique().max() == 1
    assert rows.groupby("group")["fold"].nunique().max() == 1


def test_jobs_change_no_number(finished, small_spec, tmp_path):
    run_study(small_spec, tmp_path / "one", engine=Local(1))
    for name in ("outcomes.csv", "summary.csv"):
        assert (tmp_path / "one" / name).read_bytes() == (finished / name).read_bytes()


def test_a_finished_study_runs_nothing_again(finished, small_spec):
    plans, steps = [], []
    run_study(small_spec, finished, on_plan=plans.append, on_step=steps.append)
    assert plans[0].pending == {}
    assert plans[0].done == 8
    assert steps == []


def descendants(pid):
    children = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False)
    found = [int(child) for child in children.stdout.split()]
    return found + [d for child in found for d in descendants(child)]


def test_kill_9_and_the_same_command_again_gives_the_same_numbers(finished, small_yaml, phantoms, tmp_path):
    out = tmp_path / "killed"
    command = ["run", small_yaml, "--data", phantoms, "--out", out, "--jobs", 2]
    kills = 0
    for minimum in (1, 3):
        process = started(*command)
        while len(list(out.glob("trials/*/outcomes.csv"))) < minimum and process.poll() is None:
            time.sleep(0.05)
        while not list(out.glob("trials/*/state.pt")) and process.poll() is None:
            time.sleep(0.01)
        workers = process.workers()
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.communicate()
        assert len(workers) == 2
        assert gone(workers)
    assert kills == 2
    assert not (out / "outcomes.csv").exists()
    last = started(*command)
    last.communicate()
    assert last.returncode == 0
    for name in ("outcomes.csv", "summary.csv"):
        assert (out / name).read_bytes() == (finished / name).read_bytes()


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_with_its_code_and_one_sentence(small_yaml, phantoms, tmp_path, sent, code):
    """SIGINT through a shell's Ctrl-C, which reaches the whole process group."""
    out = tmp_path / "stopped"
    script = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); import mirst.cli; mirst.cli.main()"
    )
    command = [sys.executable, "-c", script, "run", small_yaml, "--data", phantoms, "--out", out]
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    while not list(out.glob("trials/*/state.pt")) and process.poll() is None:
        time.sleep(0.02)
    workers = descendants(process.pid)
    os.killpg(process.pid, sent) if sent == signal.SIGINT else process.send_signal(sent)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert err.strip() == "Stopped; run the same command again to resume."
    assert gone(workers)


def gone(workers):
    """Whether they end within 20 seconds of their study."""
    deadline = time.monotonic() + 20
    while any(alive(pid) for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.1)
    return not any(alive(pid) for pid in workers)


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123
        return file.read().rsplit(")", 1)[1].split()[0] != "Z"


def test_a_folder_of_another_study_or_other_data_is_refused(finished, small_yaml, phantoms, tmp_path):
    with pytest.raises(MirstError, match="the settings of training differ"):
        run_study(load_spec(small_yaml, [f"data.path={phantoms}", "training.epochs=4"]), finished)
    shutil.copytree(phantoms, tmp_path / "other")
    image = tmp_path / "other" / "benign" / "phantom-001.png"
    Image.open(image).rotate(90).save(image)
    with pytest.raises(MirstError, match="with other data"):
        run_study(load_spec(small_yaml, [f"data.path={tmp_path / 'other'}"]), finished)
    shutil.copyfile(image, image.with_name("phantom-003.png"))
    with pytest.raises(
        MirstError, match=r"or other groups: it has \d+ images in \d+ groups, and the data set now has \d+ in \d+"
    ):
        run_study(load_spec(small_yaml, [f"data.path={tmp_path / 'other'}"]), finished)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("precious")
    with pytest.raises(MirstError, match="is not a results folder"):
        run_study(load_spec(small_yaml, [f"data.path={phantoms}"]), tmp_path / "full")
    assert [p.name for p in (tmp_path / "full").iterdir()] == ["thesis.txt"]


def test_a_study_of_which_every_trial_diverges_says_so(small_yaml, phantoms, tmp_path):
    spec = load_spec(small_yaml, [f"data.path={phantoms}", "training.lr=1e30", "seeds=[0]"])
    with pytest.raises(MirstError, match=r"every trial failed; the first: training diverged in epoch \d"):
        run_study(spec, tmp_path / "out", engine=Local(1))
    assert not (tmp_path / "out" / "outcomes.csv").exists()


def test_a_failing_trial_is_named(small_yaml, phantoms, tmp_path):
    spec = load_spec(small_yaml, [f"data.path={phantoms}", f"model.name={__name__}:two_images_only"])
    with pytest.raises(MirstError, match=r"trial .*-fold\d-seed\d: it takes two images"):
        run_study(spec, tmp_path / "out", engine=Local(1))


class TwoImagesOnly(nn.Sequential):
    def forward(self, x):
        if len(x) > 2:
            raise MirstError("it takes two images")
        return super().forward(x)


def two_images_only(in_channels, num_classes):
    return TwoImagesOnly(nn.MaxPool2d(2), nn.Flatten(), nn.Linear(256, num_classes))


def no_pool(in_channels, num_classes):
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(num_classes))


def fixed_size(in_channels, num_classes):
    return nn.Sequential(nn.MaxPool2d(2), nn.Flatten(), nn.Linear(1024, num_classes))


def wrong_head(in_channels, num_classes):
    return nn.Sequential(nn.MaxPool2d(2), nn.Flatten(), nn.LazyLinear(7))


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("model.weights=nothing.pth", r"nothing\.pth does not exist"),
        ("model.name=resnet1000", "unknown model resnet1000"),
        (f"model.name={__name__}:no_pool", "has no nn"),
        (f"model.name={__name__}:wrong_head", r"gives \(2, 7\)"),
        (f"model.name={__name__}:fixed_size", "cannot take images of 32 px"),
    ],
)
def test_a_model_that_does_not_work_is_refused_before_anything_is_written(
    override, words, small_yaml, phantoms, tmp_path
):
    with pytest.raises(MirstError, match=words):
        run_study(load_spec(small_yaml, [f"data.path={phantoms}", override]), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_bad_jobs_and_missing_data_get_a_sentence(small_yaml, phantoms, tmp_path):
    with pytest.raises(MirstError, match="--jobs is 0"):
        run_study(load_spec(small_yaml, [f"data.path={phantoms}"]), tmp_path, engine=Local(0))
    with pytest.raises(MirstError, match=r"data\.path is not set"):
        run_study(load_spec(small_yaml), tmp_path)
    with pytest.raises(MirstError, match=r"has no study\.yaml"):
        read_results(tmp_path)


def test_a_folder_older_than_a_setting_is_the_same_study(finished, small_spec, tmp_path):
    shutil.copytree(finished, tmp_path / "old")
    study = tmp_path / "old" / "study.yaml"
    before = yaml.safe_load(study.read_text())
    for defense in before["defenses"]:
        defense.pop("random_start", None)
    study.write_text(yaml.safe_dump(before))
    rows = (tmp_path / "old" / "outcomes.csv").read_bytes()
    run_study(small_spec, tmp_path / "old")
    assert (tmp_path / "old" / "outcomes.csv").read_bytes() == rows
    study.write_text("defenses: [armour]")
    with pytest.raises(MirstError, match="a study that this version cannot read"):
        run_study(small_spec, tmp_path / "old")


def test_a_folder_of_an_older_version_is_read_and_resumed(finished, small_spec, tmp_path):
    old = tmp_path / "old"
    shutil.copytree(finished, old)
    (old / "failed.csv").rename(old / "diverged.csv")
    assert read_results(old).outcomes.equals(read_results(finished).outcomes)
    run_study(small_spec, old, engine=Local(1))
    assert (old / "failed.csv").exists()
    assert not (old / "diverged.csv").exists()


def test_a_resumed_study_hashes_its_pixels_once(finished, small_spec, monkeypatch):
    sizes, sha256 = [], hashlib.sha256

    def counted(data=b"", **options):
        sizes.append(memoryview(data).nbytes)
        return sha256(data, **options)

    monkeypatch.setattr(hashlib, "sha256", counted)
    run_study(small_spec, finished, engine=Local(1))
    assert sizes.count(24 * 32 * 32) == 1
