import warnings

import pytest

from mirst.study import StudySpec
from mirst.study.collect import remove_partial_tables
from mirst.study.layout import StudyFolder
from mirst.study.load import load_spec
from mirst.study.trial import all_trials


@pytest.fixture
def spec(small_yaml) -> StudySpec:
    return load_spec(small_yaml)


@pytest.mark.parametrize("table", ["standard", "standard-checks", "boxes", "corruptions", "distances", "certificates"])
@pytest.mark.parametrize("lacking", [0, 1, 3])
def test_a_table_that_lacks_a_finished_trial_is_removed(tmp_path, spec, table, lacking):
    study, trials = StudyFolder(tmp_path), all_trials(spec)
    for trial in trials:
        study.trial(trial.name).path.mkdir(parents=True)
    study.table(table).touch()
    study.baselines.touch()  # belongs to no trial
    for trial in trials[lacking:]:
        study.trial(trial.name).table(table).touch()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        remove_partial_tables(study, trials)
    assert study.table(table).exists() == (lacking == 0)
    assert study.baselines.exists()
    expected = [f"{table}.csv lacked {lacking} of {len(trials)} models"] if lacking else []
    assert [str(warning.message).split(", so")[0] for warning in caught] == expected


def test_a_trial_that_failed_needs_no_table(tmp_path, spec):
    study, trials = StudyFolder(tmp_path), all_trials(spec)
    for trial in trials:
        study.trial(trial.name).path.mkdir(parents=True)
    study.trial(trials[0].name).diverged.write_text("in epoch 2")
    study.boxes.touch()
    for trial in trials[1:]:
        study.trial(trial.name).table("boxes").touch()
    remove_partial_tables(study, trials)
    assert study.boxes.exists()


def test_the_table_of_an_external_set_that_lacks_a_trial_is_removed_too(tmp_path, spec):
    study, trials = StudyFolder(tmp_path), all_trials(spec)
    external = study.external("clinic")
    for trial in trials:
        external.trial(trial.name).path.mkdir(parents=True)
    for path in (external.record, external.outcomes, external.ensembles()):
        path.touch()
    for trial in trials[1:]:
        external.trial(trial.name).outcomes.touch()
    with pytest.warns(UserWarning, match=r"external/clinic/outcomes\.csv lacked 1 of"):
        remove_partial_tables(study, trials)
    assert not external.outcomes.exists()
    assert external.ensembles().exists()
