import shutil
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirst.defenses import CE, RST
from mirst.study import Local, estimate_study
from mirst.study import cost as costs
from mirst.study.cost import Cost, measure
from mirst.study.engines.base import Engine
from mirst.study.engines.memory import CLEAR, forget_peak_memory, library_memory, peak_memory
from mirst.study.estimate import Sizes, makespan, trial_seconds
from mirst.study.prepared import prepare
from mirst.study.spec import TrialTraining
from mirst.study.train_model import train_model
from mirst.study.trial import all_trials
from mirst.training import TrainingRun, loop, selection
from mirst.training.validation import logits_on

COST = Cost(
    worker=1,
    began=0.0,
    setup=1.0,
    clean_step=0.01,
    step=0.08,
    clean_pass=0.001,
    selection=0.05,
    checkpoint=0.2,
    evaluation=0.4,
    certificate=0.0,
    first=0.0,
    memory=10,
    gpu_memory=0,
)
SIZES = Sizes(train=100, val=20, test=30)


def changed(spec, **changes):
    return type(spec).model_validate(spec.resolved() | changes)


def content(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@given(st.lists(st.integers(1, 9), min_size=1, max_size=12), st.integers(1, 4), st.integers(0, 5))
def test_makespan_is_that_of_a_pool_watched_second_by_second(seconds, workers, start):
    waiting, left, now = list(seconds), [0] * workers, start
    while waiting or any(left):
        left = [busy or (waiting.pop(0) if waiting else 0) for busy in left]
        left, now = [max(0, busy - 1) for busy in left], now + 1
    assert makespan(seconds, workers, start) == now


def test_a_trial_by_hand():
    """Ten epochs: two of warm-up, two of ramp, six at full eps, each of the six with an attack on validation."""
    settings = TrialTraining(epochs=10, warmup=0.2, ramp=0.2, select="best_robust")
    around = 1 + 10 * 0.2 + 30 * 0.4 + 20 * 0.001
    validation = 20 * (10 * 0.001 + 6 * 0.05)
    robust = 100 * (2 * 0.01 + 8 * 0.08)
    assert trial_seconds(COST, RST(), settings, SIZES) == pytest.approx(around + validation + robust)
    assert trial_seconds(COST, CE(), settings, SIZES) == pytest.approx(around + validation + 100 * 10 * 0.08)


def test_a_trial_without_validation_ends_with_a_pass_over_the_training_images():
    settings = TrialTraining(epochs=1, warmup=0, ramp=0, val_fraction=0)
    expected = 1 + 0.2 + 30 * 0.4 + 100 * 0.08 + 100 * 0.001
    assert trial_seconds(COST, RST(), settings, Sizes(100, 0, 30)) == pytest.approx(expected)


def test_a_robust_threshold_attacks_the_validation_images_once_more():
    plain, robust = (TrialTraining(epochs=2, threshold=rule) for rule in ("youden", {"robust": "youden"}))
    seconds = [trial_seconds(COST, RST(), settings, SIZES) for settings in (plain, robust)]
    assert seconds[1] - seconds[0] == pytest.approx(20 * 0.05)


@pytest.mark.parametrize(
    ("select", "threshold", "attacks"),
    [
        ("best_robust", "argmax", 3),
        ("best_robust_auc", "argmax", 3),
        ("best_robust_auc", {"robust": "youden"}, 4),
        ("last", "youden", 0),
    ],
)
def test_a_trial_is_what_fit_calls(small_spec, monkeypatch, tmp_path, select, threshold, attacks):
    """The epochs of each kind, and the attacks on validation images, counted in a training that runs."""
    training = {"epochs": 7, "warmup": 0.3, "ramp": 0.3, "select": select, "threshold": threshold}
    spec = changed(small_spec, training=training)
    trial, prepared, calls = all_trials(spec)[-1], prepare(spec), []
    train_epoch = TrainingRun.train_epoch

    def watched_epoch(run, data, index, *rest):
        calls.append("clean" if isinstance(run.settings.defense_at(run.defense, index), CE) else "full")
        return train_epoch(run, data, index, *rest)

    def watched_look(model, data, attack=None):
        calls.append("look" if attack is None else "selection")
        return logits_on(model, data, attack)

    monkeypatch.setattr(TrainingRun, "train_epoch", watched_epoch)
    monkeypatch.setattr(loop, "logits_on", watched_look)
    monkeypatch.setattr(selection, "logits_on", watched_look)
    train_model(trial.entry, prepared, prepared.folds[0].train, 0, tmp_path / "state.pt", lambda _: None)
    assert calls.count("clean") == costs.clean_epochs(spec.training, trial.entry.defense) == 2
    assert calls.count("full") == 5
    assert calls.count("look") == 7 + 1
    assert calls.count("selection") == attacks
    assert attacks - spec.training.operating_point.robust == costs.selection_epochs(spec.training)


def test_twice_the_epochs_are_twice_the_training():
    fixed = 1 + 30 * 0.4 + 20 * 0.001
    once, twice = (
        trial_seconds(COST, RST(), TrialTraining(epochs=epochs, select="best_robust"), SIZES) for epochs in (10, 20)
    )
    assert twice - fixed == pytest.approx(2 * (once - fixed))


class Clock:
    """Time that passes only when a piece runs."""

    def __init__(self, monkeypatch, first, image):
        self.now, self.first, self.image, self.calls = 0.0, first, image, []
        monkeypatch.setattr(costs.time, "perf_counter", lambda: self.now)

    def run(self, count):
        self.now += count * self.image + (0 if self.calls else self.first)
        self.calls.append(count)


def test_a_quick_piece_runs_often_on_many_images(monkeypatch):
    clock, watch = Clock(monkeypatch, first=0.7, image=0.001), costs._Watch()
    assert watch.pace(clock.run, 2, 64) == pytest.approx(0.001)
    assert watch.first == pytest.approx(0.7)
    assert clock.calls[:3] == [2, 2, 64]
    assert clock.calls.count(64) >= 4
    assert clock.now < 0.7 + 2 * costs.SECONDS


def test_a_slow_piece_runs_once_on_few_images(monkeypatch):
    clock, watch = Clock(monkeypatch, first=0.0, image=20.0), costs._Watch()
    assert watch.pace(clock.run, 2, 64) == 20
    assert clock.calls == [2]


def test_pieces_that_a_trial_lacks_cost_nothing(small_spec, monkeypatch):
    monkeypatch.setattr(costs, "SECONDS", 0.0)
    monkeypatch.setattr(costs, "LONGEST", 0.1)
    spec = changed(small_spec, training={"epochs": 3, "warmup": 0, "val_fraction": 0, "batch_size": 8})
    cost = measure(all_trials(spec)[-1], prepare(spec))
    assert cost.clean_step == cost.selection == cost.gpu_memory == 0
    assert min(cost.setup, cost.step, cost.clean_pass, cost.checkpoint, cost.evaluation, cost.memory) > 0
    assert cost.certificate == 0
    spec = changed(small_spec, training={"epochs": 5, "warmup": 0.2, "batch_size": 8, "select": "best_robust"})
    plain, robust = (measure(trial, prepare(spec)) for trial in (all_trials(spec)[0], all_trials(spec)[-1]))
    assert plain.clean_step == 0
    assert min(plain.selection, robust.clean_step, robust.selection) > 0


def test_an_estimate_of_a_whole_study_writes_nothing(small_spec, tmp_path):
    told = []
    estimate = estimate_study(small_spec, tmp_path / "out", engine=Local(2), on_measure=told.append)
    assert list(tmp_path.iterdir()) == []
    assert told == [["ce", "mirst+dm"]]
    assert [(column.title, column.trials) for column in estimate.columns] == [("ce", 4), ("mirst+dm", 4)]
    assert (estimate.trials, estimate.done, estimate.jobs) == (8, 0, 2)
    total = sum(column.trials * column.trial_seconds for column in estimate.columns)
    assert all(0 < column.epoch_seconds < column.trial_seconds for column in estimate.columns)
    assert estimate.seconds > total / 2
    largest = max(column.memory for column in estimate.columns)
    assert largest > 100e6
    assert estimate.memory > 2 * largest


def test_trials_that_are_there_are_left_out(finished, small_spec, tmp_path):
    shutil.copytree(finished, tmp_path / "part")
    (tmp_path / "part" / "trials" / "ce-fold1-seed0" / "outcomes.csv").unlink()
    before = content(tmp_path)
    estimate = estimate_study(small_spec, tmp_path / "part", engine=Local(2))
    assert [(column.title, column.trials) for column in estimate.columns] == [("ce", 1)]
    assert (estimate.trials, estimate.done) == (1, 7)
    assert content(tmp_path) == before
    all_reused = estimate_study(changed(small_spec, reuse=[str(finished)]), tmp_path / "new")
    assert (all_reused.columns, all_reused.trials, all_reused.done) == ([], 0, 8)
    assert not (tmp_path / "new").exists()


class InThisProcess(Engine):
    """One trial after another."""

    def parallel(self, spec):
        return 1

    def open_round(self, job, events):
        raise AssertionError

    def run(self, work, trials, prepared, study, events):
        for trial in trials:
            events.on_end(trial, work(trial, prepared, study, None))


def test_certificates_are_a_part_of_a_trial_also_of_one_that_is_done(finished, small_spec, tmp_path, monkeypatch):
    shutil.copytree(finished, tmp_path / "part")
    (tmp_path / "part" / "trials" / "ce-fold1-seed0" / "outcomes.csv").unlink()
    before, made = content(tmp_path), []

    def measured(trial, prepared):
        made.append(trial.entry.title)
        return replace(COST, certificate=100.0)

    monkeypatch.setattr(costs, "measure", measured)
    spec = changed(small_spec, certify=[1 / 255, 5 / 255])
    estimate = estimate_study(spec, tmp_path / "part", engine=InThisProcess())
    assert made == ["ce", "mirst+dm"]
    assert [(column.title, column.trials) for column in estimate.columns] == [("ce", 4), ("mirst+dm", 4)]
    ce, mirst = (column.trial_seconds for column in estimate.columns)
    assert mirst == 12 * 100
    assert ce > mirst  # one of the four is trained too
    assert estimate.done == 7
    assert content(tmp_path) == before


def test_certifying_an_image_is_measured(small_spec, monkeypatch):
    monkeypatch.setattr(costs, "SECONDS", 0.0)
    monkeypatch.setattr(costs, "LONGEST", 0.1)
    spec = changed(small_spec, certify=[1 / 255])
    prepared = prepare(spec)
    seen = []
    monkeypatch.setattr(costs, "certify", lambda model, data, eps, **settings: seen.append((len(data), eps, settings)))
    cost = measure(all_trials(spec)[0], prepared)
    assert cost.certificate > 0
    assert seen[0] == (1, (1 / 255,), {"positive": prepared.positive_index})


@pytest.mark.skipif(not CLEAR.exists(), reason="only Linux forgets a peak")
def test_peak_memory_is_in_bytes_and_can_be_forgotten():
    forget_peak_memory()
    before = peak_memory()
    np.ones(200_000_000, dtype=np.uint8)
    peak = peak_memory()
    assert 150e6 < peak - before < 300e6
    forget_peak_memory()
    assert peak_memory() < peak - 150e6


@pytest.mark.skipif(not CLEAR.exists(), reason="Linux tells it in /proc")
def test_memory_of_libraries_is_a_part_of_the_whole():
    assert 10e6 < library_memory() < peak_memory()
