"""Workers that are really killed."""

import multiprocessing
import os
import signal
import time
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch

from mirst.errors import MirstError
from mirst.report import notes, paper_table, write_report
from mirst.study import Local, load_spec, read_results, run_study, study_status
from mirst.study.engines.local import over_trials
from mirst.study.prepared import prepare
from mirst.study.trial import all_trials
from mirst.training.signals import signals_held


@pytest.fixture
def spec(small_yaml, phantoms):
    return load_spec(small_yaml, [f"data.path={phantoms}", "seeds=[0]"])


class Killer:
    """Hears a study of one worker at a time, and kills that at the steps that `when` picks."""

    def __init__(self, when):
        self.when, self.steps = when, []

    def __call__(self, step):
        self.steps.append(step)
        if self.when(step):
            for worker in multiprocessing.active_children():
                os.kill(worker.pid, signal.SIGKILL)


def of_study(rows, study):
    """The rows of another study's trials that `study` has too, as text."""
    keys = ["defense", "drop_max", "fold", "seed"]
    return rows.merge(study[keys].drop_duplicates(), on=keys)


def test_a_trial_whose_worker_is_killed_goes_on_after_the_others_and_ends_with_the_same_numbers(
    spec, finished, tmp_path
):
    first = [True]
    killer = Killer(lambda step: step.epoch is not None and first and first.pop())
    run_study(spec, tmp_path / "out", engine=Local(1), on_step=killer)
    (kill,) = [step for step in killer.steps if step.again]
    assert kill.killed == "killed by SIGKILL"
    ends = [step for step in killer.steps if step.epoch is None and not step.again]
    assert [(end.diverged, end.killed) for end in ends] == [(None, None)] * 4
    assert ends[-1].trial == kill.trial
    before, after = (pd.read_csv(folder / "outcomes.csv", dtype=str) for folder in (finished, tmp_path / "out"))
    pd.testing.assert_frame_equal(of_study(before, after), after)


def test_a_trial_whose_worker_is_killed_twice_is_given_up_and_tried_by_the_next_run(spec, finished, tmp_path):
    out = tmp_path / "out"
    killer = Killer(lambda step: step.epoch is not None and step.trial == "ce-fold1-seed0")
    run_study(spec, out, engine=Local(1), on_step=killer)
    last = killer.steps[-1]
    assert (last.trial, last.again) == ("ce-fold1-seed0", None)
    assert last.killed == "its worker was twice killed by SIGKILL"
    assert {trial.trial: trial.reason for trial in study_status(out).trials if trial.state == "killed"} == {
        last.trial: last.killed
    }
    results = read_results(out)
    assert list(results.diverged["reason"]) == [last.killed]
    assert {line.split("|")[3].strip() for line in paper_table(results).splitlines()[2:8]} == {"-"}
    assert sum(note.startswith("KILLED: ce on fold 1 with seed 0") for note in notes(results)) == 1
    assert "KILLED" in write_report(out).read_text()
    run_study(spec, out, engine=Local(1))
    before, after = (pd.read_csv(folder / "outcomes.csv", dtype=str) for folder in (finished, out))
    pd.testing.assert_frame_equal(of_study(before, after), after)
    assert read_results(out).diverged.empty


def test_a_trial_without_memory_is_told_as_such_and_the_others_go_on(spec):
    prepared, trials, ends, kills = prepare(spec), all_trials(spec), [], []
    over_trials(
        trials,
        prepared,
        hoard,
        2,
        lambda _: None,
        on_end=lambda trial, result: ends.append(trial.name),
        on_kill=lambda trial, reason, again: kills.append((trial.name, reason, again)),
    )
    assert sorted(ends) == sorted(trial.name for trial in trials if not trial.name.startswith("ce"))
    reasons = {
        "ce-fold0-seed0": "out of memory (tried to allocate 4503599627370496 bytes)",
        "ce-fold1-seed0": "out of memory (unable to allocate 4.00 PiB)",
    }
    assert sorted(kills) == sorted(
        (trial, reason, again) for trial, reason in reasons.items() for again in (True, False)
    )


def test_an_interrupt_lets_workers_end_what_they_hold(spec, tmp_path):
    """Each ends its work on the first signal; the study waits for that."""
    prepared, trials, begun = prepare(spec), all_trials(spec), []

    def hear(message):
        begun.append(message)
        if len(begun) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        over_trials(trials, prepared, partial(hold, tmp_path), 2, hear, lambda trial, result: None)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(begun)
    assert multiprocessing.active_children() == []


def hoard(trial, prepared, tell):
    if trial.name == "ce-fold0-seed0":
        torch.empty(2**50, dtype=torch.float32)
    if trial.name == "ce-fold1-seed0":
        np.empty(2**49)


def hold(folder, trial, prepared, tell):
    with signals_held(True) as stopped:
        tell(trial.name)
        while not stopped():
            time.sleep(0.02)
        (folder / trial.name).touch()


def test_other_work_says_that_its_worker_was_killed_or_ended(spec):
    prepared, trials = prepare(spec), all_trials(spec)
    nothing = [lambda _: None, lambda trial, result: None]
    with pytest.raises(MirstError, match=r"trial ce-fold0-seed0 was killed by SIGKILL; .*--jobs 1 needs less"):
        over_trials(trials, prepared, shoot_itself, 2, *nothing)
    with pytest.raises(MirstError, match="trial ce-fold0-seed0 ended with exit code 7"):
        over_trials(trials[:1], prepared, leave, 1, *nothing)
    with pytest.raises(MirstError, match="trial ce-fold0-seed0: the disk is full"):
        over_trials(trials, prepared, fail, 1, *nothing)
    with pytest.raises(ZeroDivisionError) as caught:
        over_trials(trials[:1], prepared, divide, 1, *nothing)
    assert "in divide" in caught.value.__notes__[0]
    assert multiprocessing.active_children() == []


def shoot_itself(trial, prepared, tell):
    if trial.name == "ce-fold0-seed0":
        os.kill(os.getpid(), signal.SIGKILL)
    signal.pause()


def leave(trial, prepared, tell):
    os._exit(7)


def fail(trial, prepared, tell):
    raise MirstError("the disk is full")


def divide(trial, prepared, tell):
    return 1 / 0
