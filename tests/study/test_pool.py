"""Workers that are really killed."""

import os
import signal
from pathlib import Path

import pytest

from mirst.errors import MirstError
from mirst.study.pool import over_trials
from mirst.study.prepare import prepare
from mirst.study.trial import all_trials


def die_once(trial, prepared, tell):
    """The first worker of the first trial is killed after it has spoken."""
    mark = Path(os.environ["MIRST_TEST_MARK"])
    tell(trial.name)
    if trial.name == "ce-fold0-seed0" and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return trial.seed


def die_always(trial, prepared, tell):
    if trial.name == "ce-fold0-seed0":
        os.kill(os.getpid(), signal.SIGKILL)
    return trial.seed


def fail(trial, prepared, tell):
    raise MirstError("the disk is full")


@pytest.fixture(scope="module")
def prepared(small_spec):
    return prepare(small_spec)


def run(work, prepared, jobs=2):
    ended, said = {}, []
    trials = all_trials(prepared.spec)

    def go():
        over_trials(trials, prepared, work, jobs, said.append, lambda trial, end: ended.setdefault(trial.name, end))

    return go, ended, said, trials


def test_a_killed_worker_costs_its_trial_a_new_beginning(prepared, tmp_path, monkeypatch):
    monkeypatch.setenv("MIRST_TEST_MARK", str(tmp_path / "mark"))
    go, ended, said, trials = run(die_once, prepared)
    go()
    assert ended == {trial.name: trial.seed for trial in trials}
    assert sorted(said) == sorted([*(trial.name for trial in trials), "ce-fold0-seed0"])


def test_a_trial_that_is_killed_twice_is_named_and_the_others_are_done(prepared):
    go, ended, _, trials = run(die_always, prepared)
    with pytest.raises(MirstError, match=r"killed twice, perhaps for memory: ce-fold0-seed0 \(signal 9\); the other"):
        go()
    assert ended == {trial.name: trial.seed for trial in trials if trial.name != "ce-fold0-seed0"}


def test_an_error_ends_all_with_the_trials_name(prepared):
    go, ended, _, _ = run(fail, prepared, jobs=1)
    with pytest.raises(MirstError, match="trial ce-fold0-seed0: the disk is full"):
        go()
    assert ended == {}
