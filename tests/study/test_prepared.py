"""What the trials of a study share."""

import pickle

import numpy as np
import pytest

from mirst.data import split_validation
from mirst.study import load_spec
from mirst.study import prepared as module
from mirst.study.prepared import prepare, training_shares


@pytest.mark.parametrize("kind", ["group", "random"])
def test_workers_get_the_shares_of_every_fold_and_split_nothing(kind, small_yaml, phantoms, monkeypatch):
    spec = load_spec(small_yaml, [f"data.path={phantoms}", f"folds.kind={kind}"])
    prepared = prepare(spec)
    fraction, seed = spec.training.val_fraction, spec.folds.seed
    expected = [split_validation(prepared.records, fold.train, fraction, kind, seed) for fold in prepared.folds]
    assert len(expected) == 2

    def fail(*_):
        raise AssertionError("a worker would import scikit-learn")

    monkeypatch.setattr(module, "split_validation", fail)
    sent = pickle.loads(pickle.dumps(prepared))  # noqa: S301 - its own bytes
    for fold, split in zip(sent.folds, expected, strict=True):
        own, held_out = training_shares(sent, fold.train)
        assert np.array_equal(own, split.train)
        assert np.array_equal(held_out, split.test)
    with pytest.raises(AssertionError, match="scikit-learn"):
        training_shares(sent, np.arange(len(sent.records)))
