"""Real Ray clusters of two nodes, which are processes of this machine."""

import os
import shutil
import signal
from contextlib import suppress
from pathlib import Path

import pandas as pd
import pytest

from mirst.study import (
    Ray,
    ensemble_study,
    estimate_study,
    load_spec,
    measure_distances,
    run_study,
    study_status,
)
from mirst.study.engines.base import RETRY
from mirst.study.trial import all_trials
from tests.helpers import rows_of_study

pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::FutureWarning:ray", "ignore:.*the optimised copy of the model:UserWarning"
)


@pytest.fixture(scope="module")
def two_nodes(small_spec):
    """A cluster that the tests of this file share, with their connection to it: its processes start slowly."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_worker_niceness", "0")  # its workers would wait for the other tests of this run
        from ray.cluster_utils import Cluster

        lean = {"num_cpus": 1, "include_log_monitor": False}
        cluster = Cluster(initialize_head=True, head_node_args=lean | {"include_dashboard": False, "no_monitor": True})
        cluster.add_node(**lean)
        with Ray(address=cluster.address).connected(small_spec):
            yield cluster
        with suppress(Exception):  # it cannot remove a node that is gone
            cluster.shutdown()


@pytest.fixture
def cluster(two_nodes):
    """The cluster, with a new node in place of one that a test before has removed."""
    if not two_nodes.worker_nodes:
        two_nodes.add_node(num_cpus=1, include_log_monitor=False)
    return two_nodes


def test_models_are_analysed_on_a_cluster_with_the_same_numbers_and_files(cluster, finished, searched, tmp_path):
    study = tmp_path / "study"
    shutil.copytree(finished, study)
    measure_distances(study, engine=Ray(address=cluster.address))
    assert (study / "distances.csv").read_bytes() == (searched / "distances.csv").read_bytes()
    folders = sorted((study / "trials").iterdir())
    assert len(folders) == 8
    for folder in folders:
        assert {p.name for p in folder.iterdir()} == {p.name for p in (searched / "trials" / folder.name).iterdir()}


def test_ensembles_are_attacked_on_a_cluster_with_the_same_numbers_and_files(cluster, finished, combined, tmp_path):
    ensemble_study(finished, tmp_path / "out", engine=Ray(address=cluster.address))
    assert (tmp_path / "out" / "outcomes.csv").read_bytes() == (combined / "outcomes.csv").read_bytes()
    folders = sorted((tmp_path / "out" / "trials").iterdir())
    assert len(folders) == 4
    for folder in folders:
        assert {p.name for p in folder.iterdir()} == {p.name for p in (combined / "trials" / folder.name).iterdir()}


def test_a_dry_run_measures_on_the_cluster(cluster, small_spec, tmp_path):
    estimate = estimate_study(small_spec, tmp_path / "out", engine=Ray(address=cluster.address))
    assert (estimate.jobs, estimate.trials) == (2, 8)
    assert all(column.trial_seconds > 0 for column in estimate.columns)
    assert list(tmp_path.iterdir()) == []


def test_a_killed_worker_and_a_damaged_checkpoint(cluster, small_yaml, phantoms, finished, tmp_path):
    spec = load_spec(small_yaml, [f"data.path={phantoms}", "seeds=[0]"])
    steps, out = [], tmp_path / "out"

    def on_step(step):
        steps.append(step)
        if len(steps) == 2:
            state = out / "trials" / step.trial / "state.pt"
            state.write_bytes(state.read_bytes()[:100])
            for pid in workers(cluster):
                os.kill(pid, signal.SIGKILL)

    words = (
        r"trial ce-fold0-seed0: .*state\.pt is damaged .* (resumes from the previous state|starts from the beginning)"
    )
    with pytest.warns(UserWarning, match=words):
        run_study(spec, out, engine=Ray(jobs=1, address=cluster.address), on_step=on_step)
    (kill,) = [step for step in steps if step.retry]
    assert kill.killed == "killed, perhaps for lack of memory"
    assert kill.retry == RETRY
    before, after = (pd.read_csv(folder / "outcomes.csv", dtype=str) for folder in (finished, out))
    pd.testing.assert_frame_equal(rows_of_study(before, after), after)


def workers(cluster):
    """Those of this cluster that run a trial now; another test may have a cluster at the same time."""
    raylets = {node.all_processes["raylet"][0].process.pid for node in cluster.list_all_nodes()}
    running = [int(p.parent.name) for p in Path("/proc").glob("[0-9]*/cmdline") if b"ray::serve" in p.read_bytes()]
    return [
        pid for pid in running if int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]) in raylets
    ]


def test_a_lost_node_costs_only_its_running_trials_and_changes_no_number(cluster, finished, small_spec, tmp_path):
    steps, out = [], tmp_path / "out"

    def on_step(step):
        steps.append(step)
        started = {step.trial for step in steps if step.epoch is not None}
        if len(started) == 3 and cluster.worker_nodes:
            cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)

    engine = Ray(address=cluster.address)
    assert engine.parallel(small_spec) == 2
    run_study(small_spec, out, engine=engine, on_step=on_step)
    assert {(step.killed, step.retry) for step in steps if step.killed} == {
        ("its machine was lost", "on another machine")
    }
    ends = [step.trial for step in steps if step.epoch is None and not step.retry]
    assert sorted(ends) == sorted(trial.name for trial in all_trials(small_spec))
    assert (out / "outcomes.csv").read_bytes() == (finished / "outcomes.csv").read_bytes()
    assert {trial.state for trial in study_status(out).trials} == {"done"}
    for trial in (out / "trials").iterdir():
        assert {p.name for p in trial.iterdir()} == {p.name for p in (finished / "trials" / trial.name).iterdir()}
