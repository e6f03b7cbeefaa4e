"""Event files as TensorBoard itself reads them."""

import shutil

import pytest

from mirst.errors import MirstError
from mirst.study import Local, Step, read_results, run_study
from mirst.study.history import epochs_so_far
from mirst.study.layout import StudyFolder
from mirst.study.summary import trial_metrics
from mirst.tracking import TensorBoard, open_tracker

accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
TRIAL = "mirst+dm-fold0-seed0"


def scalars(folder, trial=TRIAL):
    """By tag, the steps and values of a trial's event file."""
    events = accumulator.EventAccumulator(str(folder / "tensorboard" / trial))
    events.Reload()
    return {tag: [(one.step, one.value) for one in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


@pytest.fixture
def folder(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "small")
    return tmp_path / "small"


def tracked(folder, steps):
    tracker = open_tracker("tensorboard", folder)
    for step in steps:
        tracker.step(step)
    return scalars(folder)


def test_a_run_sends_every_epoch_and_the_test_metrics(small_spec, tmp_path):
    out = tmp_path / "out"
    spec = small_spec.model_copy(update={"defenses": small_spec.defenses[1:], "seeds": (0,)})
    tracker = TensorBoard(out)
    run_study(spec, out, engine=Local(2), on_plan=tracker.plan, on_step=tracker.step)
    found, epochs = scalars(out), epochs_so_far(StudyFolder(out).trial(TRIAL))
    assert found["loss"] == [(e.number, pytest.approx(e.loss)) for e in epochs]
    assert found["validation/clean"] == [(e.number, pytest.approx(e.clean)) for e in epochs]
    assert found["validation/attacked"] == [(e.number, pytest.approx(e.attacked)) for e in epochs]
    assert found["term/adversarial"] == [(e.number, pytest.approx(e.terms["adversarial"])) for e in epochs]
    results = read_results(out)
    rows = results.outcomes[results.outcomes["fold"] == 0]
    metrics = trial_metrics(rows, results.classes, results.positive)
    assert {tag for tag in found if tag.startswith("test/")} == {
        f"test/{row['attack']}/{row['metric']}" for row in metrics.to_dict("records")
    }
    assert len(list((out / "tensorboard").iterdir())) == 2


def test_a_resumed_trial_has_each_epoch_once(folder):
    """As after a kill in the second epoch: the first run's file lacks the rest, and the second sees only that."""
    epochs = epochs_so_far(StudyFolder(folder).trial(TRIAL))
    tracked(folder, [Step(TRIAL, epochs[0])])
    found = tracked(folder, [Step(TRIAL, epochs[2]), Step(TRIAL, None)])
    whole = tracked(folder, [Step(TRIAL, epoch) for epoch in epochs] + [Step(TRIAL, None)])
    assert [step for step, _ in found["loss"]] == [1, 2, 3]
    assert found == whole
    assert tracked(folder, [Step(TRIAL, None)]) == whole


def test_trials_that_ended_untold_are_told_by_the_next_run(folder, small_spec):
    """As where a study was killed between a trial's last row and its event file, or ran without a tracker."""
    tracker = open_tracker("tensorboard", folder)
    for _ in range(2):
        run_study(small_spec, folder, on_plan=tracker.plan, on_step=tracker.step)
        assert len(list((folder / "tensorboard").iterdir())) == 8
        whole = tracked(folder.parent / "small", [])
        assert [step for step, _ in whole["loss"]] == [1, 2, 3]
        assert len(whole["test/none/f1"]) == 1


def test_a_trial_that_goes_on_after_its_worker_was_killed_misses_no_epoch(folder):
    """The second epoch was saved, and the worker killed before it could tell."""
    epochs = epochs_so_far(StudyFolder(folder).trial(TRIAL))
    kill = Step(TRIAL, None, killed="killed by SIGKILL", retry="alone, after all others finish")
    found = tracked(folder, [Step(TRIAL, epochs[0]), kill, Step(TRIAL, epochs[2]), Step(TRIAL, None)])
    assert [step for step, _ in found["loss"]] == [1, 2, 3]


def test_what_is_no_tracker_or_not_installed_gets_a_sentence(folder, monkeypatch):
    with pytest.raises(MirstError, match=r"--track is wandb; choose tensorboard"):
        open_tracker("wandb", folder)
    monkeypatch.setitem(__import__("sys").modules, "tensorboard.summary.writer.record_writer", None)
    with pytest.raises(MirstError, match=r"pip install 'mirst\[tensorboard\]'"):
        open_tracker("tensorboard", folder)
