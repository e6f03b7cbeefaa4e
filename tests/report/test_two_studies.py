import json
import shutil

import pandas as pd
import pytest
import yaml

from mirst.errors import MirstError
from mirst.metrics import METRICS
from mirst.report import write_comparison
from mirst.report.differences import NOT_SIGNIFICANT
from mirst.report.two_studies import side_by_side, unlike
from mirst.study import read_results


@pytest.fixture
def pair(finished, tmp_path):
    for name in ("one", "other"):
        shutil.copytree(finished, tmp_path / name)
    return tmp_path / "one", tmp_path / "other"


def altered(folder, change):
    rows = pd.read_csv(folder / "outcomes.csv", keep_default_na=False)
    change(rows).to_csv(folder / "outcomes.csv", index=False)
    return read_results(folder)


def test_a_study_beside_itself_differs_in_nothing(pair):
    one, other = map(read_results, pair)
    rows = side_by_side(one, other)
    headline = [metric for metric in METRICS.values() if metric.headline]
    assert len(rows) == 2 * 2 * len(headline) > 0  # defenses, attacks, metrics
    for difference in rows["difference"]:
        value, low, high = (float(number.strip("[],")) for number in difference.split())
        assert low < value == 0 < high  # equal answers on a sample are not known to be equal on all images
    assert set(rows["reading"]) == {NOT_SIGNIFICANT}
    assert (rows["first"] == rows["second"]).all()
    assert unlike(one, other) == []
    page = write_comparison(*pair)
    assert page == pair[0] / "comparison-with-other.html"
    assert "The studies differ only in their defenses." in page.read_text()


def test_a_study_that_is_always_right_is_better(pair):
    right = altered(pair[1], lambda rows: rows.assign(prediction=rows["label"]))
    rows = side_by_side(read_results(pair[0]), right)
    attacked = rows[(rows["attack"] == "paper protocol") & (rows["metric"] == "F1 score") & (rows["defense"] == "ce")]
    assert attacked["second"].item().startswith("1.000 [0.")
    assert attacked["second"].item().endswith(", 1.000]")
    assert attacked["reading"].item() == "the second is better"


def test_between_other_images_there_is_no_difference(pair):
    other = altered(pair[1], lambda rows: rows.assign(image="x" + rows["image"]))
    rows = side_by_side(read_results(pair[0]), other)
    assert set(rows["difference"]) == {"-"}
    assert set(rows["reading"]) == {"not computed: different images or seeds"}


def test_what_differs_is_said(pair):
    study = yaml.safe_load((pair[1] / "study.yaml").read_text())
    study["training"]["epochs"] = 7
    study["defenses"][1]["steps"] = 4
    (pair[1] / "study.yaml").write_text(yaml.safe_dump(study))
    found = unlike(*map(read_results, pair))
    assert found[0] == "training.epochs: 3 in the first study, 7 in the second."
    assert [sentence.split(":")[0] for sentence in found] == ["training.epochs", "mirst+dm"]


def suited(folder, radii, suite="standard"):
    """The study as if its models had been attacked with a suite at these eps."""
    rows = pd.read_csv(folder / "outcomes.csv", keep_default_na=False)
    pgd = rows[rows["attack"] == "pgd"]
    parts = [pgd.assign(attack=suite, eps=eps, broken_by="") for eps in radii]
    pd.concat(parts).to_csv(folder / f"{suite}.csv", index=False)
    checks = pd.DataFrame([("ce", False, 0, 0, "square", "pass", "0")], columns=CHECKS)
    checks.to_csv(folder / f"{suite}-checks.csv", index=False)
    return read_results(folder)


CHECKS = ["defense", "drop_max", "fold", "seed", "name", "verdict", "figures"]
A, B, C = 5 / 255, 8 / 255, 2 / 255


@pytest.mark.parametrize(
    ("first", "second", "sentence", "compared"),
    [
        ([A], [A], None, True),
        (
            [A],
            [],
            "standard: not run on {other}, so it is not compared (mirst evaluate {other} --suite standard).",
            False,
        ),
        ([], [A], "standard: not run on {one}, so it is not compared (mirst evaluate {one} --suite standard).", False),
        (
            [A, B],
            [B],
            "standard: eps 5/255, 8/255 in the first study, eps 8/255 in the second; the comparison uses",
            True,
        ),
        ([B, C], [C, A], "standard: eps 2/255, 8/255 in the first study, eps 2/255, 5/255 in the second; ", True),
        ([A], [B], "standard: eps 5/255 in the first study, eps 8/255 in the second; the comparison uses", False),
    ],
)
def test_suites_that_differ_are_said_and_compared_at_the_same_eps(pair, first, second, sentence, compared):
    one, other = (
        suited(folder, radii) if radii else read_results(folder)
        for folder, radii in zip(pair, (first, second), strict=True)
    )
    told = unlike(one, other)
    assert len(told) == (sentence is not None)
    if sentence is not None:
        assert told[0].startswith(sentence.format(one=pair[0], other=pair[1]))
    rows = side_by_side(one, other)
    assert ("standard" in set(rows["attack"])) == compared
    assert all(text.startswith("+0.000 [-0.") for text in rows["difference"])  # never of zero width


@pytest.mark.parametrize("suite", ["distances", "corruptions"])
def test_other_evaluations_of_one_study_alone_are_said(pair, suite):
    columns = ["defense", "drop_max", "fold", "seed", "source", "image", "label"]
    rows = pd.read_csv(pair[1] / "outcomes.csv").drop_duplicates(["defense", "drop_max", "fold", "seed"])
    rows[columns].assign(eps=0.1, broken_prediction=None, broken_score=None).to_csv(
        pair[1] / f"{suite}.csv", index=False
    )
    (told,) = unlike(*map(read_results, pair))
    assert told.startswith(f"{suite}: not run on {pair[0]}")


def test_other_attacks_give_no_difference(pair):
    study = yaml.safe_load((pair[1] / "study.yaml").read_text())
    study["attacks"][1]["steps"] = 4
    (pair[1] / "study.yaml").write_text(yaml.safe_dump(study))
    one, other = map(read_results, pair)
    assert [sentence.split(":")[0] for sentence in unlike(one, other)] == ["attack pgd"]
    readings = side_by_side(one, other).groupby("attack")["reading"].unique().map(list).to_dict()
    assert readings == {"no attack": ["not significant"], "paper protocol": ["not computed: different attacks"]}


def test_another_positive_class_gives_no_difference(pair):
    run = json.loads((pair[1] / "run.json").read_text())
    run["data"]["positive"] = "benign"
    (pair[1] / "run.json").write_text(json.dumps(run))
    one, other = map(read_results, pair)
    assert unlike(one, other) == ["positive: malignant in the first study, benign in the second."]
    assert set(side_by_side(one, other)["reading"]) == {"not computed: different positive class"}


def test_nothing_to_compare_gets_a_sentence(pair):
    with pytest.raises(MirstError, match="are the same study"):
        write_comparison(pair[0], pair[0])
    study = yaml.safe_load((pair[1] / "study.yaml").read_text())
    study["defenses"] = [entry | {"label": f"x{entry['label']}"} for entry in study["defenses"]]
    (pair[1] / "study.yaml").write_text(yaml.safe_dump(study))
    altered(pair[1], lambda rows: rows.assign(defense="x" + rows["defense"]))
    with pytest.raises(MirstError, match="have no defense in common"):
        write_comparison(*pair)
    assert not list(pair[0].glob("comparison*"))
