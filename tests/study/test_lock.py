"""Who may run in a results folder, and what is told of a run from outside."""

import json
import os
import re
import shutil
import signal
import time
from dataclasses import replace

import pytest

from mirst.display import status_text
from mirst.errors import MirstError
from mirst.study import locked, study_status
from mirst.study.identity import holds_study
from mirst.study.layout import StudyFolder
from mirst.study.lock import holder
from mirst.study.prepared import prepare
from tests.commands import Forked, started


def holding(folder):
    """A process that runs in `folder` until it is killed."""
    process = Forked(hold, folder)
    assert process.stdout.readline() == "in\n"
    return process


def hold(folder):
    with locked(folder):
        print("in", flush=True)
        time.sleep(600)


def test_one_at_a_time_and_a_killed_one_leaves_no_lock(tmp_path):
    other = holding(tmp_path)
    try:
        assert str(holder(tmp_path)).startswith(f"process {other.pid} on ")
        with (
            pytest.raises(MirstError, match=f"is in use by process {other.pid} on .* since .*; wait for it or stop it"),
            locked(tmp_path),
        ):
            pass
    finally:
        other.send_signal(signal.SIGKILL)
        other.communicate()
    assert holder(tmp_path) is None
    with locked(tmp_path):
        assert str(holder(tmp_path)).startswith(f"process {os.getpid()} on ")
    assert holder(tmp_path) is None


def test_the_lock_does_not_make_a_folder_foreign(tmp_path, small_spec):
    with locked(tmp_path):
        pass
    assert not holds_study(StudyFolder(tmp_path), prepare(small_spec))


def test_a_second_run_says_who_holds_the_folder(mirst, finished, small_yaml, phantoms, tmp_path):
    folder = tmp_path / "small"
    shutil.copytree(finished, folder)
    other = holding(folder)
    try:
        runs = (["run", small_yaml, "--data", phantoms, "--out", folder], ["evaluate", folder, "--suite", "distances"])
        for run in runs:
            code, _, err = mirst(*run)
            assert code == 2
            assert err.startswith(f"mirst: {folder} is in use by process {other.pid}")
        assert mirst("report", folder)[0] == 0
    finally:
        other.send_signal(signal.SIGKILL)
        other.communicate()


def test_status_of_a_study_under_way_and_of_a_finished_one(finished, small_yaml, phantoms, tmp_path):
    assert {one.state for one in study_status(finished).trials} == {"done"}
    assert {one.epochs for one in study_status(finished).trials} == {3}
    out = tmp_path / "out"
    run = started("run", small_yaml, "--data", phantoms, "--out", out, "--quiet")
    try:
        while not list(out.glob("trials/*/state.pt")) and run.poll() is None:
            time.sleep(0.02)
        found = study_status(out)
    finally:
        run.send_signal(signal.SIGKILL)
        run.communicate()
    assert found.holder.pid == run.pid
    states = [trial.state for trial in found.trials]
    assert len(states) == 8
    assert {"running", "waiting"} <= set(states)
    words = status_text(found)
    assert words.startswith("8 trials: ")
    assert f"In use by process {run.pid} on " in words
    assert re.search(r"\d running", words)
    assert ": epoch " in words
    stopped = status_text(replace(found, holder=None))
    assert re.search(r"\d interrupted", stopped)
    assert not re.search(r"\d running", stopped)
    assert "Not running." in stopped


def test_a_damaged_checkpoint_is_one_line_of_the_status(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "out")
    trial = tmp_path / "out" / "trials" / "ce-fold0-seed0"
    for file in trial.iterdir():
        file.unlink()
    (trial / "state.pt").touch()
    told, err = started("status", tmp_path / "out").communicate()
    assert err == f"mirst: {trial}/state.pt is damaged (EOFError); training starts from the beginning\n"
    assert "1 interrupted" in told


def test_status_on_the_command_line(mirst, finished):
    code, told, _ = mirst("status", finished)
    assert code == 0
    assert told == "8 trials: 8 done. Not running.\n"
    code, told, _ = mirst("status", finished, "--json")
    assert code == 0
    assert json.loads(told)["trials"][0] == {"trial": "ce-fold0-seed0", "state": "done", "epochs": 3, "reason": None}


def test_a_diverged_trial_is_told_with_its_reason(finished, tmp_path):
    folder = tmp_path / "small"
    shutil.copytree(finished, folder)
    trial = folder / "trials" / "ce-fold0-seed0"
    (trial / "outcomes.csv").unlink()
    (trial / "diverged.txt").write_text("the loss is nan")
    (told,) = [one for one in study_status(folder).trials if one.state == "diverged"]
    assert (told.trial, told.reason) == ("ce-fold0-seed0", "the loss is nan")


def test_what_is_no_study_gets_a_sentence(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "old")
    (tmp_path / "old" / "study.yaml").write_text("defenses: [armour]")
    with pytest.raises(MirstError, match="a study that this version cannot read"):
        study_status(tmp_path / "old")
    with pytest.raises(MirstError, match="does not contain a study; give the results folder"):
        study_status(tmp_path)
