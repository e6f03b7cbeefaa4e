"""Workers that are really killed."""

import multiprocessing
import os
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from mirst.errors import MirstError
from mirst.report import ReportContext, notes, paper_table, write_report
from mirst.study import Local, load_spec, read_results, run_study, study_status
from mirst.study.engines.base import RETRY, Events, Kill, Work
from mirst.study.layout import StudyFolder
from mirst.study.prepared import prepare
from mirst.study.trial import all_trials
from mirst.training.signals import signals_held
from tests.helpers import rows_of_study

pytestmark = pytest.mark.usefixtures("unpainted")


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


def test_a_trial_whose_worker_is_killed_goes_on_after_the_others_and_ends_with_the_same_numbers(
    spec, finished, tmp_path
):
    first = [True]
    killer = Killer(lambda step: step.epoch is not None and first and first.pop())
    run_study(spec, tmp_path / "out", engine=Local(1), on_step=killer)
    (kill,) = [step for step in killer.steps if step.retry]
    assert kill.killed == "killed by SIGKILL"
    ends = [step for step in killer.steps if step.epoch is None and not step.retry]
    assert [(end.diverged, end.killed) for end in ends] == [(None, None)] * 4
    assert ends[-1].trial == kill.trial
    before, after = (pd.read_csv(folder / "outcomes.csv", dtype=str) for folder in (finished, tmp_path / "out"))
    pd.testing.assert_frame_equal(rows_of_study(before, after), after)


def test_a_trial_whose_worker_is_killed_twice_is_given_up_and_tried_by_the_next_run(spec, finished, tmp_path):
    out = tmp_path / "out"
    killer = Killer(lambda step: step.epoch is not None and step.trial == "ce-fold1-seed0")
    run_study(spec, out, engine=Local(1), on_step=killer)
    last = killer.steps[-1]
    assert (last.trial, last.retry) == ("ce-fold1-seed0", None)
    assert last.killed == "its worker failed twice: killed by SIGKILL"
    assert {trial.trial: trial.reason for trial in study_status(out).trials if trial.state == "killed"} == {
        last.trial: last.killed
    }
    results = read_results(out)
    assert list(results.failed["reason"]) == [last.killed]
    assert {line.split("|")[3].strip() for line in paper_table(ReportContext(results)).splitlines()[2:8]} == {"-"}
    assert sum(note.startswith("KILLED: ce on fold 1 with seed 0") for note in notes(results)) == 1
    assert "KILLED" in write_report(out).read_text()
    run_study(spec, out, engine=Local(1))
    before, after = (pd.read_csv(folder / "outcomes.csv", dtype=str) for folder in (finished, out))
    pd.testing.assert_frame_equal(rows_of_study(before, after), after)
    assert read_results(out).failed.empty


@dataclass
class Log:
    """What an engine calls."""

    messages: list[str] = field(default_factory=list)
    ends: dict[str, object] = field(default_factory=dict)
    kills: list[tuple[str, Kill]] = field(default_factory=list)

    def events(self):
        return Events(
            on_end=lambda trial, result: self.ends.update({trial.name: result}),
            on_message=lambda trial, content: self.messages.append(content),
            on_kill=lambda trial, kill: self.kills.append((trial.name, kill)),
        )


def test_a_trial_that_runs_out_of_memory_is_retried_alone_and_the_others_finish(spec, tmp_path):
    trials, log = all_trials(spec), Log()
    Local(2).run(Hoard(), trials, prepare(spec), StudyFolder(tmp_path), log.events())
    assert sorted(log.ends) == sorted(trial.name for trial in trials if not trial.name.startswith("ce"))
    assert len(log.ends) == 2
    reasons = {
        "ce-fold0-seed0": "out of memory (tried to allocate 4503599627370496 bytes)",
        "ce-fold1-seed0": "out of memory (unable to allocate 4.00 PiB)",
    }
    assert set(log.kills[:2]) == {(trial, Kill(reason, RETRY)) for trial, reason in reasons.items()}
    assert set(log.kills[2:]) == {
        (trial, Kill(f"its worker failed twice: {reason}", None)) for trial, reason in reasons.items()
    }


def test_an_interrupt_lets_workers_finish_what_they_do(spec, tmp_path):
    """Each ends its work on the first signal; the study waits for that."""
    started = []

    def interrupt(trial, name):
        started.append(name)
        if len(started) == 2:
            raise KeyboardInterrupt

    events = Events(on_end=lambda trial, result: None, on_message=interrupt)
    with pytest.raises(KeyboardInterrupt):
        Local(2).run(Hold(tmp_path), all_trials(spec), prepare(spec), StudyFolder(tmp_path), events)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(started)
    assert multiprocessing.active_children() == []


def test_a_worker_has_the_variables_of_its_study_and_not_of_the_first_one(spec, tmp_path, monkeypatch):
    prepared, seen = prepare(spec), []
    for value in ("first", "second", None):
        if value is None:
            monkeypatch.delenv("MIRST_TEST_VARIABLE")
        else:
            monkeypatch.setenv("MIRST_TEST_VARIABLE", value)
        log = Log()
        Local(1).run(Read(), all_trials(spec)[:1], prepared, StudyFolder(tmp_path), log.events())
        seen += log.ends.values()
    assert seen == ["first", "second", None]


class Read(Work):
    def __call__(self, trial, prepared, study, send):
        return os.environ.get("MIRST_TEST_VARIABLE")


class Hoard(Work):
    def __call__(self, trial, prepared, study, send):
        if trial.name == "ce-fold0-seed0":
            torch.empty(2**50, dtype=torch.float32)
        if trial.name == "ce-fold1-seed0":
            np.empty(2**49)


@dataclass
class Hold(Work):
    folder: Path

    def __call__(self, trial, prepared, study, send):
        with signals_held(True) as stopped:
            send(trial.name)
            while not stopped():
                time.sleep(0.02)
            (self.folder / trial.name).touch()


@pytest.mark.parametrize(
    ("work", "error", "words"),
    [
        (
            "ShootItself",
            MirstError,
            r"its worker failed twice: killed by SIGKILL; .*with --jobs 1 if memory is short",
        ),
        ("Leave", MirstError, "trial ce-fold0-seed0 ended with exit code 7"),
        ("Fail", MirstError, "trial ce-fold0-seed0: the disk is full"),
        ("Divide", ZeroDivisionError, "division by zero"),
    ],
)
def test_a_failure_of_any_work_is_reported_with_its_trial(spec, tmp_path, work, error, words):
    events = Events(on_end=lambda trial, result: None)
    with pytest.raises(error, match=words) as caught:
        Local(1).run(globals()[work](), all_trials(spec)[:1], prepare(spec), StudyFolder(tmp_path), events)
    if error is ZeroDivisionError:
        assert "1 / 0" in caught.value.__notes__[0]
    assert multiprocessing.active_children() == []


class ShootItself(Work):
    def __call__(self, trial, prepared, study, send):
        os.kill(os.getpid(), signal.SIGKILL)
        signal.pause()


class Leave(Work):
    def __call__(self, trial, prepared, study, send):
        os._exit(7)


class Fail(Work):
    def __call__(self, trial, prepared, study, send):
        raise MirstError("the disk is full")


class Divide(Work):
    def __call__(self, trial, prepared, study, send):
        return 1 / 0
