import shutil

import pandas as pd
import pytest
import yaml

from mirst.errors import MirstError
from mirst.report import write_comparison
from mirst.report.differences import NOISE
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
    assert len(rows) == 2 * 2 * 2  # defenses, attacks, metrics
    for difference in rows["difference"]:
        value, low, high = (float(number.strip("[],")) for number in difference.split())
        assert low < value == 0 < high  # equal answers on a sample are not known to be equal on all images
    assert set(rows["reading"]) == {NOISE}
    assert (rows["first"] == rows["second"]).all()
    assert unlike(one, other) == []
    page = write_comparison(*pair)
    assert page == pair[0] / "comparison-with-other.html"
    assert "Nothing but the defenses" in page.read_text()


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
    assert set(rows["reading"]) == {"other images or seeds"}


def test_what_differs_is_said(pair):
    study = yaml.safe_load((pair[1] / "study.yaml").read_text())
    study["training"]["epochs"] = 7
    study["defenses"][1]["steps"] = 4
    (pair[1] / "study.yaml").write_text(yaml.safe_dump(study))
    found = unlike(*map(read_results, pair))
    assert [sentence.split(":")[0] for sentence in found] == ["training", "mirst+dm"]


def test_nothing_to_compare_gets_a_sentence(pair):
    with pytest.raises(MirstError, match="are the same study"):
        write_comparison(pair[0], pair[0])
    study = yaml.safe_load((pair[1] / "study.yaml").read_text())
    study["defenses"] = [entry | {"label": f"x{place}"} for place, entry in enumerate(study["defenses"])]
    (pair[1] / "study.yaml").write_text(yaml.safe_dump(study))
    with pytest.raises(MirstError, match="have no defense in common"):
        write_comparison(*pair)
    assert not list(pair[0].glob("comparison*"))
