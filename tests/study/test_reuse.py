import pandas as pd
import pytest

from mirst.study import run_study


def changed(spec, **changes):
    return type(spec).model_validate(spec.resolved() | changes)


def test_shared_trials_are_copied_and_the_others_run(finished, small_spec, tmp_path):
    spec = changed(small_spec, defenses=["gr", "ce"], reuse=[str(finished), str(tmp_path / "missing")])
    plans = []
    run_study(spec, tmp_path / "out", on_plan=plans.append)
    assert plans[0].reused == plans[0].done == 4
    assert {trial.split("-")[0] for trial in plans[0].pending} == {"gr"}
    before, after = (pd.read_csv(folder / "outcomes.csv", dtype=str) for folder in (finished, tmp_path / "out"))
    rows = [table[table["defense"] == "ce"].reset_index(drop=True) for table in (before, after)]
    pd.testing.assert_frame_equal(*rows)
    run_study(spec, tmp_path / "out", on_plan=plans.append)
    assert (plans[1].reused, plans[1].done, plans[1].pending) == (0, 8, {})


@pytest.mark.parametrize(
    "changes",
    [
        {"training": {"epochs": 1, "batch_size": 8, "val_fraction": 0.2, "select": "best_robust"}},
        {"attacks": ["fgsm"]},
        {"folds": {"count": 2, "seed": 1}},
    ],
)
def test_a_study_of_other_numbers_lends_nothing(finished, small_spec, tmp_path, changes):
    spec = changed(small_spec, defenses=["ce"], seeds=[0], reuse=[str(finished)], **changes)
    plans = []
    run_study(spec, tmp_path / "out", on_plan=plans.append)
    assert plans[0].reused == 0
    assert len(plans[0].pending) == 2
