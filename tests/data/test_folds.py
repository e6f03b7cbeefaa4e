from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from mirst.data import Record, make_folds, split_validation
from mirst.errors import MirstError


def grouped_records(groups_per_class=20, seed=0):
    rng = np.random.default_rng(seed)
    return [
        Record(Path(), label, f"{label}-{group}", "test")
        for label in ("benign", "malignant")
        for group in range(groups_per_class)
        for _ in range(rng.integers(1, 5))
    ]


@pytest.mark.parametrize("kind", ["group", "random"])
def test_folds_partition_the_records_and_stratify(kind):
    records = grouped_records()
    folds = make_folds(records, 5, kind)
    assert sorted(np.concatenate([fold.test for fold in folds])) == list(range(len(records)))
    share = np.mean([r.label == "malignant" for r in records])
    for fold in folds:
        assert set(fold.train) | set(fold.test) == set(range(len(records)))
        assert not set(fold.train) & set(fold.test)
        assert np.mean([records[i].label == "malignant" for i in fold.test]) == pytest.approx(share, abs=0.12)


def test_group_folds_keep_groups_whole_and_random_ones_do_not():
    records = grouped_records()

    def torn(kind):
        sides = defaultdict(set)
        for number, fold in enumerate(make_folds(records, 5, kind)):
            for i in fold.test:
                sides[records[i].group].add(number)
        return sum(len(numbers) > 1 for numbers in sides.values())

    assert torn("group") == 0
    assert torn("random") > 10


def test_the_seed_decides():
    records = grouped_records()
    a, b, c = (make_folds(records, 3, seed=seed)[0].test for seed in (0, 0, 1))
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)


def test_validation_split_keeps_groups_whole_inside_the_training_fold():
    records = grouped_records()
    train = make_folds(records, 5)[0].train
    split = split_validation(records, train, 0.2)
    assert set(split.train) | set(split.test) == set(train)
    assert not {records[i].group for i in split.train} & {records[i].group for i in split.test}
    assert len(split.test) / len(train) == pytest.approx(0.2, abs=0.08)
    assert {records[i].label for i in split.test} == {"benign", "malignant"}


@pytest.mark.parametrize(("kind", "what"), [("group", "groups"), ("random", "images")])
def test_fewer_groups_or_images_than_folds_is_refused(kind, what):
    records = [Record(Path(), label, f"{label}{i % 3}", "t") for label in "ab" for i in range(4)]
    with pytest.raises(MirstError, match=rf"{what}, fewer than the 5 folds"):
        make_folds(records, 5, kind)
    with pytest.raises(MirstError, match="at least 2"):
        make_folds(records, 1, kind)


def test_a_class_of_one_group_cannot_be_validated_on():
    records = [Record(Path(), "a", "g", "t")] * 4 + [Record(Path(), "b", f"h{i}", "t") for i in range(4)]
    with pytest.raises(MirstError, match="val_fraction=0"):
        split_validation(records, np.arange(8), 0.2)
