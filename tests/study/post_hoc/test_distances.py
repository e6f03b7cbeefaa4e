import shutil

import numpy as np
import pandas as pd
import pytest

from mirst.errors import MirstError
from mirst.study import Local, measure_distances, read_results

KEYS = ["defense", "drop_max", "fold", "seed", "source", "image"]


def test_every_test_image_of_every_trial_has_its_distance(searched):
    results = read_results(searched)
    clean = results.outcomes[results.outcomes["attack"] == "none"]
    both = results.distances.merge(clean, on=KEYS, suffixes=("", "_clean"))
    assert len(both) == len(clean) == len(results.distances)
    assert (both["prediction"] == both["prediction_clean"]).all()
    assert ((both["eps"] == 0) == (both["prediction"] != both["label"])).all()
    broken = both[both["eps"].notna()]
    assert (broken["broken_prediction"] != broken["label"]).all()


def test_an_attack_that_broke_an_image_bounds_its_distance_loosely(searched):
    """The search is at least as strong as the study's short PGD, which breaks what it breaks within 5/255."""
    results = read_results(searched)
    pgd = results.outcomes[results.outcomes["attack"] == "pgd"].merge(results.distances, on=KEYS, suffixes=("", "_own"))
    broken = pgd[(pgd["prediction"] != pgd["label"])]
    assert len(broken)
    assert (broken["eps_own"] <= broken["linf"] + 1e-6).mean() > 0.95


def test_the_pictures_are_the_first_positives_to_break(searched):
    folder = searched / "trials" / "ce-fold0-seed0"
    rows = pd.read_csv(folder / "distances.csv")
    with np.load(folder / "distances.npz") as file:
        own = rows.iloc[file["rows"]]
        assert (own["label"] == "malignant").all()
        assert own["eps"].is_monotonic_increasing
        assert file["clean"].shape == file["perturbation"].shape == (len(own), 1, 32, 32)
        linf = np.abs(file["perturbation"].astype(float)).reshape(len(own), -1).max(1)
    assert linf == pytest.approx(own["eps"].to_numpy(), rel=1e-3)


def test_a_cut_off_search_goes_on_to_the_same_rows(searched, tmp_path):
    study = shutil.copytree(searched, tmp_path / "study")
    before = (study / "distances.csv").read_bytes()
    kept, lost = study / "trials" / "ce-fold0-seed0", study / "trials" / "mirst+dm-fold1-seed1"
    stamp = (kept / "distances.csv").stat().st_mtime_ns
    (lost / "distances.csv").unlink()
    (study / "distances.csv").unlink()
    seen = []
    measure_distances(study, engine=Local(1), on_trial=seen.append)
    assert seen == ["mirst+dm-fold1-seed1"]
    assert (study / "distances.csv").read_bytes() == before
    assert (kept / "distances.csv").stat().st_mtime_ns == stamp


def test_no_study_gets_a_sentence(tmp_path):
    with pytest.raises(MirstError, match="not the folder of a finished study"):
        measure_distances(tmp_path)
