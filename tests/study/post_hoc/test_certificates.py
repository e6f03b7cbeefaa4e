"""Certificates of a study: as a key, as an analysis, beside every attack of its folder."""

import json
import shutil
import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import yaml

from mirst.display import JsonLines, StudyDisplay
from mirst.errors import MirstError
from mirst.evaluation import Progress
from mirst.nn import read_card
from mirst.report import write_report
from mirst.report.certificates import certified_tables, proof_and_attack
from mirst.report.certified_gaps import CERTIFIED, NONE, SEARCH, between, gap_quantiles, gap_text, nearest_attacks
from mirst.study import Local, certify_study, load_spec, measure_distances, read_results, run_study
from mirst.study.layout import StudyFolder
from mirst.study.post_hoc.suites import write_checks
from mirst.study.trial import all_trials
from tests.helpers import refused

EPS = (0.1 / 255, 2 / 255)
MODELS = "tests.study.post_hoc.test_certificates"
TRUST = ("--trust", f"{MODELS}:plain_cnn")
KEY = "certify=[0.5/255]"
CARD = "trials/ce-fold0-seed0/MODEL_CARD.md"


def plain_cnn(in_channels, num_classes):
    """Shallow enough that intervals certify some images."""
    from torch import nn

    return nn.Sequential(
        nn.Conv2d(in_channels, 4, 5, stride=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(4 * 7 * 7, num_classes),
    )


def random_cnn(in_channels, num_classes):
    """A model that adds noise to its images, for the refusals."""
    import torch

    from tests.helpers import small_cnn

    class Noisy(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.net = small_cnn(in_channels, num_classes)

        def forward(self, x):
            return self.net(x + 0.05 * torch.rand_like(x))

    return Noisy()


@pytest.fixture(scope="module")
def bare(small_yaml, phantoms, tmp_path_factory):
    """A study without certificates."""
    return trained(small_yaml, phantoms, tmp_path_factory.mktemp("bare") / "study")


def trained(small_yaml, phantoms, folder, *more, **listeners):
    settings = [f"data.path={phantoms}", f"model.name={MODELS}:plain_cnn", "training.lr=0.01", "seeds=[0]"]
    defenses = "defenses=[ce, {name: rst, steps: 2}]"
    run_study(load_spec(small_yaml, [*settings, defenses, *more]), folder, engine=Local(1), **listeners)
    return folder


@pytest.fixture(scope="module")
def certified(bare, tmp_path_factory):
    """The study with certificates and its report."""
    folder = shutil.copytree(bare, tmp_path_factory.mktemp("certified") / "study")
    certify_study(folder, EPS, engine=Local(1))
    write_report(folder)
    return folder


@pytest.fixture(scope="module")
def with_search(certified, tmp_path_factory):
    """The certified study with the smallest eps that misclassifies each image."""
    folder = shutil.copytree(certified, tmp_path_factory.mktemp("searched") / "study")
    measure_distances(folder, engine=Local(1))
    return folder


@pytest.fixture
def copied(certified, tmp_path):
    return shutil.copytree(certified, tmp_path / "study")


@pytest.fixture(scope="module")
def with_key(small_yaml, phantoms, tmp_path_factory):
    """The folder of the study with the key `certify`, and the progress of its certificates."""
    folder, seen = tmp_path_factory.mktemp("key") / "study", []
    trained(small_yaml, phantoms, folder, KEY, on_certificates=lambda trial, progress: seen.append((trial, progress)))
    return folder, seen


def all_files(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "run.json"
    }


def test_every_trial_has_a_row_per_image_and_eps(certified):
    rows = pd.read_csv(certified / "certificates.csv")
    outcomes = pd.read_csv(certified / "outcomes.csv")
    clean = outcomes[outcomes["attack"] == "none"]
    keys = ["defense", "drop_max", "fold", "seed", "source", "image"]
    for eps in EPS:
        own = rows[(rows["eps"] - eps).abs() < 1e-12]
        both = own.merge(clean, on=keys, suffixes=("", "_clean"))
        assert len(both) == len(own) == len(clean) == 48
        assert (both["prediction"] == both["prediction_clean"]).all()
        assert both["clean_score"].to_numpy() == pytest.approx(both["score_clean"].to_numpy(), abs=1e-5)
    assert (rows["certified"] == (rows["margin"] > 0)).all()
    assert (rows["largest_eps"] >= rows["eps"].where(rows["certified"], 0)).all()


def test_the_other_tables_keep_their_bytes(bare, certified):
    before, after = all_files(bare), all_files(certified)
    same = ["outcomes.csv", "summary.csv", "failed.csv", "study.yaml"]
    same += [name for name in before if name.startswith("trials/") and not name.endswith((".md", ".safetensors"))]
    assert len(same) > 10
    assert all(before[name] == after[name] for name in same)


def test_checkpoint_card_and_export_carry_the_figures(certified):
    folder = certified / "trials" / "ce-fold0-seed0"
    card = read_card(folder / "model.safetensors")
    results = read_results(certified)
    rows = results.certificates
    own = rows[(rows["defense"] == "ce") & (rows["fold"] == 0) & (rows["seed"] == 0)]
    assert [one.eps for one in card.certified] == pytest.approx(EPS)
    for one in card.certified:
        at = own[(own["eps"] - one.eps).abs() < 1e-12]
        assert one.images == len(at)
        assert one.metrics["accuracy"] == pytest.approx(at["certified"].mean())
    text = (certified / CARD).read_text()
    assert text.count("| certified (interval) |") == 2
    assert "cannot fall below" in text
    front = yaml.safe_load(text.split("---")[1])
    names = [result["dataset"]["config"] for result in front["model-index"][0]["results"]]
    assert "certified (interval) at eps 0.1/255" in names


def test_a_second_call_runs_only_what_is_missing(copied):
    seen = []
    certify_study(copied, EPS[:1], on_trial=seen.append)
    assert seen == []
    (copied / "trials" / "ce-fold1-seed0" / "certificates.json").unlink()
    before = (copied / "certificates.csv").read_bytes()
    certify_study(copied, EPS, engine=Local(1), on_trial=seen.append)
    assert seen == ["ce-fold1-seed0"]
    assert (copied / "certificates.csv").read_bytes() == before


def test_other_radii_are_added(copied):
    certify_study(copied, (0.005,), engine=Local(1))
    rows = pd.read_csv(copied / "certificates.csv")
    assert sorted(rows["eps"].unique()) == pytest.approx([EPS[0], 0.005, EPS[1]])
    record = json.loads((copied / "trials" / "ce-fold0-seed0" / "certificates.json").read_text())
    assert record["eps"] == [EPS[0], 0.005, EPS[1]]


def flip(copied):
    """Let an attack of the folder misclassify an image that is certified at its eps."""
    certificates, rows = pd.read_csv(copied / "certificates.csv"), pd.read_csv(copied / "outcomes.csv")
    image = certificates[certificates["certified"]].iloc[0]
    keys = ["defense", "drop_max", "fold", "seed", "source", "image"]
    own = (rows[keys] == image[keys]).all(axis=1) & (rows["attack"] == "pgd")
    assert own.sum() == 1
    other = {"benign": "malignant", "malignant": "benign"}[image["label"]]
    rows.loc[own, ["prediction", "eps"]] = [other, image["eps"]]
    rows.to_csv(copied / "outcomes.csv", index=False)
    return image["image"]


def test_an_attack_that_flips_a_certified_image_cannot_be_missed(copied):
    name = flip(copied)
    for act in (read_results, write_report):
        with pytest.raises(RuntimeError, match=r"certificates are wrong") as error:
            act(copied)
        assert name in str(error.value)


def test_both_sides_enclose_the_attacks_of_the_folder(certified):
    results = read_results(certified)
    tables = certified_tables(results)
    assert list(tables) == ["ce", "rst"]
    for table in tables.values():
        assert len(table) == 2 * 5
        assert (table["certified"] <= table["attacked"]).all()
        assert table.groupby("metric", sort=False)["certified"].apply(lambda one: one.is_monotonic_decreasing).all()
    section = proof_and_attack(results)
    assert [one.title for one in section.ends] == ["ce", "rst"]
    for one in section.ends:
        assert one.certified <= one.images == 24
        assert one.correct <= one.images
        far = [float(image.eps.removesuffix("/255")) for image in one.farthest]
        assert far == sorted(far, reverse=True)
        assert all(image.picture.startswith("data:image/png") for image in [*one.farthest, *one.nowhere])
    assert any(one.farthest for one in section.ends)


def by_hand(results, title):
    """The largest certified eps and the smallest of a successful attack, of each image that is classified correctly."""
    own = {name: rows[rows["defense"] == title] for name, rows in vars(results).items() if name in ATTACKED}
    found = {}
    for image, rows in own["certificates"].groupby(["fold", "image"]):
        first = rows.iloc[0]
        if first["prediction"] == first["label"]:
            flips = [(rows["eps"], rows["attacked_prediction"])]
            for name, prediction in ATTACKED.items():
                mine = own[name][(own[name]["fold"] == image[0]) & (own[name]["image"] == image[1])]
                flips.append((mine["eps"], mine[prediction]))
            wrong = [
                e for eps, after in flips for e, p in zip(eps, after, strict=True) if p not in (first["label"], None)
            ]
            found[image] = (first["largest_eps"], min([e for e in wrong if e == e], default=np.inf))
    return found


ATTACKED = {"certificates": "attacked_prediction", "outcomes": "prediction", "distances": "broken_prediction"}


def test_the_gap_between_proof_and_attack_is_known_for_every_image(with_search):
    results = read_results(with_search)
    nearest = nearest_attacks(results)
    for title in ("ce", "rst"):
        own = nearest[nearest["defense"] == title].set_index(["fold", "image"])
        expected = by_hand(results, title)
        assert len(expected) == len(own) > 6
        for image, (largest, eps) in expected.items():
            assert own.loc[image, ["largest_eps", "nearest_eps"]].tolist() == [largest, eps]
        assert (own["gap"] > 0).all()
    assert SEARCH in set(nearest["nearest_attack"])
    quantiles = gap_quantiles(results)
    assert quantiles["number"].sum() == len(nearest)
    row = quantiles.iloc[0]
    part = nearest[
        (nearest["defense"] == row["defense"]) & ((nearest["largest_eps"] > 0) == (row["images"] == CERTIFIED))
    ]
    assert row["median"] in sorted(part["gap"])[len(part) // 2 - 1 : len(part) // 2 + 1]
    assert [row["smallest"], row["largest"]] == [part["gap"].min(), part["gap"].max()]


def test_images_that_are_neither_certified_nor_misclassified_are_counted(certified):
    results = read_results(certified)
    counted, without = (
        between(replace(results, certificates=results.certificates.assign(**changed)))
        for changed in ({}, {"certified": False})
    )
    assert counted[["defense", "eps"]].values.tolist() == [[name, eps] for name in ("ce", "rst") for eps in EPS]
    for table in (counted, without):
        assert (table[["certified", "between", "misclassified"]].sum(axis=1) == table["images"]).all()
    moved = results.certificates.groupby(["defense", "eps"])["certified"].sum()
    assert moved.sum() > 0
    assert (without["between"] - counted["between"]).tolist() == moved.tolist()


def test_without_a_search_an_attack_may_not_have_been_found(certified):
    results = read_results(certified)
    text = gap_text(gap_quantiles(results))
    assert NONE in set(text["largest"])
    for name in ("gaps", "between"):
        assert (certified / "tables" / f"{name}.csv").exists()
    assert "most gaps are too large" in (certified / "report.html").read_text()


def test_an_attack_within_the_largest_certified_eps_cannot_be_missed(with_search, tmp_path):
    folder = shutil.copytree(with_search, tmp_path / "study")
    rows, certificates = pd.read_csv(folder / "distances.csv"), pd.read_csv(folder / "certificates.csv")
    image = certificates[certificates["largest_eps"] > 0].iloc[0]
    keys = ["defense", "drop_max", "fold", "seed", "source", "image"]
    own = (rows[keys] == image[keys]).all(axis=1)
    assert own.sum() == 1
    other = {"benign": "malignant", "malignant": "benign"}[image["label"]]
    rows.loc[own, ["eps", "broken_prediction"]] = [image["largest_eps"] / 2, other]
    rows.to_csv(folder / "distances.csv", index=False)
    with pytest.raises(RuntimeError, match="certificates are wrong"):
        read_results(folder)


def test_the_page_shows_the_section_only_with_certificates(bare, certified, tmp_path):
    heading = '<h2 id="certificates">Between proof and attack</h2>'
    assert heading in (certified / "report.html").read_text()
    assert (certified / "tables" / "certified.csv").exists()
    plain = shutil.copytree(bare, tmp_path / "plain")
    write_report(plain)
    page = (plain / "report.html").read_text()
    assert heading not in page
    assert f"<code>mirst certify {plain}</code>" in page
    assert not (plain / "tables" / "certified.csv").exists()


def test_a_search_gives_the_attacked_curve(certified, with_search):
    assert not proof_and_attack(read_results(certified)).searched
    results = read_results(with_search)
    assert results.distances is not None
    assert proof_and_attack(results).searched


def test_the_key_certifies_every_trial(with_key, small_yaml, phantoms):
    folder, seen = with_key
    rows = pd.read_csv(folder / "certificates.csv")
    assert len(rows) == 48
    assert rows["eps"].unique() == pytest.approx([0.5 / 255])
    assert {trial for trial, _ in seen} == {f"{name}-fold{fold}-seed0" for name in ("ce", "rst") for fold in (0, 1)}
    assert any(progress.what == "bounds by interval" for _, progress in seen)
    assert yaml.safe_load((folder / "study.yaml").read_text())["certify"] == [0.5 / 255]
    again = []
    trained(small_yaml, phantoms, folder, KEY, on_certificates=lambda *progress: again.append(progress))
    assert again == []


def test_the_key_changes_no_other_number_and_may_be_added_later(with_key, bare, small_yaml, phantoms, tmp_path):
    folder, _ = with_key
    for name in ("outcomes.csv", "summary.csv"):
        assert (bare / name).read_bytes() == (folder / name).read_bytes()
    assert "certify" not in (bare / "study.yaml").read_text()
    assert not list(bare.rglob("certificates*"))
    assert "certified" not in (bare / CARD).read_text()
    later, steps = shutil.copytree(bare, tmp_path / "later"), []
    trained(small_yaml, phantoms, later, KEY, on_step=steps.append)
    assert steps == []
    assert (later / "certificates.csv").read_bytes() == (folder / "certificates.csv").read_bytes()


@pytest.mark.parametrize("certify", ["[0]", "[2]", "[5/255, 5/255]", "[five]", "5/255"])
def test_bad_radii_are_refused(small_yaml, certify):
    with pytest.raises(MirstError, match="certify"):
        load_spec(small_yaml, [f"certify={certify}"])


def test_a_random_model_is_refused_before_any_training(small_yaml, phantoms, tmp_path):
    settings = [f"data.path={phantoms}", "certify=[5/255]", f"model.name={MODELS}:random_cnn", "defenses=[ce]"]
    with pytest.raises(MirstError, match="random draws"):
        run_study(load_spec(small_yaml, settings), tmp_path / "out", engine=Local(1))
    assert not (tmp_path / "out").exists()


def with_suite(folder):
    """A suite that flipped nothing, one of whose checks is in doubt."""
    study = StudyFolder(folder)
    trials = all_trials(read_results(folder).spec)
    for trial in trials:
        files = study.trial(trial.name)
        clean = pd.read_csv(files.outcomes).query("attack == 'none'")
        rows = pd.concat([clean, clean.assign(attack="standard", eps=EPS[0])])
        rows.to_csv(files.table("standard"), index=False)
        doubt = [{"name": "budget", "verdict": "suspect", "figures": "a doubt"}] if trial.fold == 0 else []
        files.suite_record("standard").write_text(json.dumps({"eps": [EPS[0]], "checks": doubt, "left_out": []}))
    pd.concat([pd.read_csv(study.trial(trial.name).table("standard")) for trial in trials]).to_csv(
        study.table("standard"), index=False
    )
    write_checks(study, trials, "standard")
    return folder


def test_certificates_settle_the_checks_whenever_they_come(bare, certified, tmp_path):
    first = with_suite(shutil.copytree(certified, tmp_path / "first"))
    last = with_suite(shutil.copytree(bare, tmp_path / "last"))
    assert set(pd.read_csv(last / "standard-checks.csv")["name"]) == {"budget"}
    certify_study(last, EPS, engine=Local(1))
    checks = pd.read_csv(first / "standard-checks.csv")
    assert checks["name"].tolist() == ["budget", "certificates"] * 2
    assert (checks.loc[checks["name"] == "certificates", "verdict"] == "pass").all()
    assert (first / "standard-checks.csv").read_bytes() == (last / "standard-checks.csv").read_bytes()
    assert not read_results(last).checks["standard"].empty


def test_the_command_prints_both_sides_and_writes_the_report(copied, mirst):
    code, out, _ = mirst("certify", copied, "--eps", "0.1/255,2/255", "--jobs", "1")
    assert code == 0
    assert "ce:" in out
    assert "rst:" in out
    assert "certified" in out
    assert "attacked" in out
    assert f"Certificates: {copied / 'certificates.csv'}" in out


def test_the_command_on_one_model(certified, phantoms, tmp_path, mirst):
    model = certified / "trials" / "ce-fold0-seed0" / "model.safetensors"
    code, out, _ = mirst(
        "certify", model, "--data", phantoms, "--eps", "1/255,5/255", "--out", tmp_path / "out", *TRUST
    )
    assert code == 0
    assert "Of 24 images" in out
    assert "1/255" in out
    rows, table = (pd.read_csv(tmp_path / "out" / name) for name in ("certificates.csv", "certified-metrics.csv"))
    assert len(rows) == 48
    assert len(table) == 10
    assert (table["certified"] <= table["attacked"]).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "--data"),
        (["--data", "DATA", "--eps", "five"], "--eps five"),
        (["--data", "DATA", "--eps", "0"], "eps is 0"),
        (["--data", "DATA", "--method", "exact"], "--method is exact"),
        (["--data", "DATA", "--jobs", "2"], "--jobs"),
        (["--data", "DATA", "--set", "data.size=32"], "has no effect"),
    ],
)
def test_bad_options_are_refused(certified, phantoms, tmp_path, mirst, options, message):
    model = certified / "trials" / "ce-fold0-seed0" / "model.safetensors"
    given = [phantoms if option == "DATA" else option for option in options]
    assert message in refused(mirst("certify", model, *given, *TRUST, "--out", tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_random_factory_is_refused_in_a_sentence(phantoms, mirst):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = mirst("certify", f"{MODELS}:random_factory", "--data", phantoms, "--set", "data.size=32")
    assert "random draws" in refused(result)


def random_factory():
    return random_cnn(1, 2)


def test_out_is_not_for_a_study(certified, tmp_path, mirst):
    assert "leave out --out" in refused(mirst("certify", certified, "--out", tmp_path / "out"))


def test_displays_show_the_progress(capsys):
    progress = Progress("bounds by interval", 5 / 255, 64, 130)
    with JsonLines(print) as lines:
        lines.certificates("ce-fold0-seed0", progress)
    event = json.loads(capsys.readouterr().out)
    assert (event["event"], event["trial"], event["done"]) == ("certificates", "ce-fold0-seed0", 64)
    from io import StringIO

    from rich.console import Console

    with StudyDisplay(Console(file=StringIO())) as display:
        display.certificates("ce-fold0-seed0", progress)
        assert display.bars.tasks[0].completed == 64
