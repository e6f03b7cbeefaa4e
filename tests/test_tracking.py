"""What each tracker wrote, as its own program reads it."""

import importlib.util
import json
import shutil
import sys

import pytest

from mirst.errors import MirstError
from mirst.study import Local, Step, read_results, run_study
from mirst.study.history import epochs_so_far
from mirst.study.layout import StudyFolder
from mirst.study.summary import trial_metrics
from mirst.tracking import TRACKERS, open_tracker

TRIAL = "mirst+dm-fold0-seed0"
OUTPUT = {"tensorboard": "tensorboard", "mlflow": "mlflow.db", "wandb": "wandb"}


def of_tensorboard(folder):
    """By trial and tag, the steps and values."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = {}
    for place in (folder / "tensorboard").iterdir():
        events = EventAccumulator(str(place))
        events.Reload()
        found[place.name] = {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    return found


def of_mlflow(folder):
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{folder / 'mlflow.db'}")
    found = {}
    for run in client.search_runs([one.experiment_id for one in client.search_experiments()]):
        trial = run.data.tags["mlflow.runName"]
        assert trial not in found, "two runs of one trial"
        histories = {tag: client.get_metric_history(run.info.run_id, tag) for tag in run.data.metrics}
        found[trial] = {tag: [(m.step, m.value) for m in history] for tag, history in histories.items()}
    return found


def of_wandb(folder):
    """Records of wandb's own messages; the container is LevelDB's log format."""
    import wandb
    from wandb.proto.wandb_internal_pb2 import Record

    wandb.teardown()  # or the service that writes the files might not be done
    found = {}
    for file in (folder / "wandb").glob("offline-run-*/run-*.wandb"):
        trial, scalars = "", {}
        for data in leveldb_records(file.read_bytes()):
            record = Record.FromString(data)
            trial = record.run.display_name or trial
            for item in record.summary.update:
                tag = item.key or "/".join(item.nested_key)
                if tag.startswith("test/"):
                    scalars[tag] = [(0, json.loads(item.value_json))]
            values = {item.key or item.nested_key[0]: json.loads(item.value_json) for item in record.history.item}
            for tag in values.keys() - {key for key in values if key.startswith("_")}:
                scalars.setdefault(tag, []).append((values["_step"], values[tag]))
        assert trial not in found, "two runs of one trial"
        found[trial] = scalars
    return found


def leveldb_records(content):
    """After a header of 7 bytes: blocks of 32 KiB of parts, each with checksum, length and kind."""
    place, parts = 7, []
    while place + 7 <= len(content):
        if 32768 - place % 32768 < 7:
            place += 32768 - place % 32768
            continue
        length, kind = int.from_bytes(content[place + 4 : place + 6], "little"), content[place + 6]
        parts.append(content[place + 7 : place + 7 + length])
        place += 7 + length
        if kind in (1, 4):
            yield b"".join(parts)
            parts = []


READ = {"tensorboard": of_tensorboard, "mlflow": of_mlflow, "wandb": of_wandb}


@pytest.fixture(params=TRACKERS)
def kind(request):
    if importlib.util.find_spec(request.param) is None:
        pytest.skip(f"{request.param} is not installed: pip install 'mirst[{request.param}]'")
    return request.param


@pytest.fixture
def folder(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "small")
    return tmp_path / "small"


def track(kind, folder, steps):
    tracker = open_tracker(kind, folder)
    for step in steps:
        tracker.step(step)


def tracked(kind, folder, steps):
    """The scalars of the trial after a tracker received these steps, the last of which ends it."""
    track(kind, folder, steps)
    return READ[kind](folder)[TRIAL]


def test_a_run_sends_every_epoch_and_the_test_metrics(small_spec, tmp_path):
    """One run for all trackers that are installed."""
    out, kinds = tmp_path / "out", [name for name in TRACKERS if importlib.util.find_spec(name)]
    spec = small_spec.model_copy(update={"defenses": small_spec.defenses[1:], "seeds": (0,)})
    trackers = [open_tracker(kind, out) for kind in kinds]
    run_study(
        spec,
        out,
        engine=Local(2),
        on_plan=lambda plan: [one.plan(plan) for one in trackers],
        on_step=lambda step: [one.step(step) for one in trackers],
    )
    results, epochs = read_results(out), epochs_so_far(StudyFolder(out).trial(TRIAL))
    rows = results.outcomes[results.outcomes["fold"] == 0]
    metrics = trial_metrics(rows, results.classes, results.positive).to_dict("records")
    assert "tensorboard" in kinds
    for kind in kinds:
        assert (out / OUTPUT[kind]).exists()
        trials = READ[kind](out)
        found = trials[TRIAL]
        assert len(trials) == 2
        assert found["loss"] == [(e.number, pytest.approx(e.loss)) for e in epochs]
        assert found["validation/clean"] == [(e.number, pytest.approx(e.clean)) for e in epochs]
        assert found["validation/attacked"] == [(e.number, pytest.approx(e.attacked)) for e in epochs]
        assert found["term/adversarial"] == [(e.number, pytest.approx(e.terms["adversarial"])) for e in epochs]
        assert {tag: values[0][1] for tag, values in found.items() if tag.startswith("test/")} == {
            f"test/{row['attack']}/{row['metric']}": pytest.approx(row["value"]) for row in metrics
        }


def test_a_resumed_trial_has_each_epoch_once(kind, folder):
    """As after a kill in the second epoch: the first run's file lacks the rest, and the second sees only that."""
    epochs = epochs_so_far(StudyFolder(folder).trial(TRIAL))
    track(kind, folder, [Step(TRIAL, epochs[0])])
    found = tracked(kind, folder, [Step(TRIAL, epochs[2]), Step(TRIAL, None)])
    whole = tracked(kind, folder, [Step(TRIAL, epoch) for epoch in epochs] + [Step(TRIAL, None)])
    assert [step for step, _ in found["loss"]] == [1, 2, 3]
    assert found == whole
    assert tracked(kind, folder, [Step(TRIAL, None)]) == whole


def test_trials_that_ended_untold_are_told_by_the_next_run(kind, folder, small_spec):
    """As where a study was killed between a trial's last row and its event file, or ran without a tracker."""
    tracker = open_tracker(kind, folder)
    for _ in range(2):
        run_study(small_spec, folder, on_plan=tracker.plan, on_step=tracker.step)
        found = READ[kind](folder)
        assert len(found) == 8
        whole = found[TRIAL]
        assert [step for step, _ in whole["loss"]] == [1, 2, 3]
        assert len(whole["test/none/f1"]) == 1


def test_a_trial_that_goes_on_after_its_worker_was_killed_misses_no_epoch(kind, folder):
    """The second epoch was saved, and the worker killed before it could tell."""
    epochs = epochs_so_far(StudyFolder(folder).trial(TRIAL))
    kill = Step(TRIAL, None, killed="killed by SIGKILL", retry="alone, after all others finish")
    found = tracked(kind, folder, [Step(TRIAL, epochs[0]), kill, Step(TRIAL, epochs[2]), Step(TRIAL, None)])
    assert [step for step, _ in found["loss"]] == [1, 2, 3]


def test_what_is_no_tracker_gets_a_sentence(folder):
    with pytest.raises(MirstError, match=r"--track is wandbs; choose tensorboard, mlflow, wandb"):
        open_tracker("wandbs", folder)


@pytest.mark.parametrize("name", TRACKERS)
def test_a_tracker_that_is_not_installed_gets_the_command(name, folder, monkeypatch):
    for module in [name, *(key for key in sys.modules if key.startswith(f"{name}."))]:
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setitem(sys.modules, "alembic", None)
    with pytest.raises(MirstError, match=rf"--track {name} needs .*; pip install 'mirst\[{name}\]'"):
        open_tracker(name, folder)
