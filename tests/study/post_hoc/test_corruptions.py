import multiprocessing
import os
import shutil
import signal

import pandas as pd
import pytest

from mirst.errors import MirstError
from mirst.evaluation.corruptions import SETS
from mirst.report import write_report
from mirst.study import Local, corrupt_study, read_results
from mirst.study.layout import StudyFolder
from mirst.study.post_hoc.corruptions import Corruptions

pytestmark = pytest.mark.usefixtures("unpainted")


@pytest.fixture
def study(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "study")
    return tmp_path / "study"


def test_every_trial_under_every_corruption(study):
    seen = []
    table = pd.read_csv(corrupt_study(study, on_trial=seen.append))
    assert len(seen) == 8
    assert len(table) == 8 * (1 + 5 * len(SETS["ultrasound"]))
    clean = table[table["corruption"] == "none"].groupby(["defense", "drop_max"])["f1"].mean()
    summary = read_results(study).summary
    known = summary[(summary["attack"] == "none") & (summary["metric"] == "f1")].set_index(["defense", "drop_max"])
    for key, value in clean.items():
        assert value == pytest.approx(known.loc[key, "mean"])
    assert "F1 score under each corruption (ultrasound)" in write_report(study).read_text()


def test_finished_trials_are_not_run_again_unless_for_another_modality(study):
    first = corrupt_study(study).read_bytes()
    folder = StudyFolder(study).trial("ce-fold0-seed0")
    folder.model.unlink()
    assert corrupt_study(study).read_bytes() == first
    assert [Corruptions(name).is_done(folder) for name in ("ultrasound", "xray")] == [True, False]


def test_an_unknown_modality_gets_a_sentence_before_anything_runs(study):
    with pytest.raises(MirstError, match="unknown modality x-ray"):
        corrupt_study(study, modality="x-ray")


def test_no_study_or_other_images_get_a_sentence(study, tmp_path, phantoms):
    with pytest.raises(MirstError, match="not the folder of a finished study"):
        corrupt_study(tmp_path)
    shutil.copytree(phantoms, tmp_path / "other")
    (tmp_path / "other" / "benign" / "phantom-001.png").unlink()
    with pytest.raises(MirstError, match="other data"):
        corrupt_study(study, data=tmp_path / "other")


def test_a_trial_whose_worker_is_killed_is_retried_after_the_others(study):
    expected, ended, killed = corrupt_study(study).read_bytes(), [], []
    for trial in ("ce-fold0-seed0", "ce-fold1-seed0"):
        (study / "trials" / trial / "corruptions.csv").unlink()

    def kill_once(trial, progress):
        if not killed:
            killed.append(trial)
            for worker in multiprocessing.active_children():
                os.kill(worker.pid, signal.SIGKILL)

    with pytest.warns(UserWarning, match="trial ce-fold0-seed0: killed by SIGKILL; it is retried alone, after all"):
        table = corrupt_study(study, engine=Local(1), on_trial=ended.append, on_progress=kill_once)
    assert ended == ["ce-fold1-seed0", "ce-fold0-seed0"]
    assert table.read_bytes() == expected
