from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from sklearn.model_selection import StratifiedGroupKFold

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


def grouped(counts):
    """Records of one group per pair: its images of class a and of class b."""
    return [
        Record(Path(), label, f"g{number}", "t")
        for number, pair in enumerate(counts)
        for label, count in zip("ab", pair, strict=True)
        for _ in range(count)
    ]


HARD = [
    (3, [(10, 1), (1, 6), (8, 7), (0, 9)]),
    (2, [(0, 9), (11, 0), (3, 7), (0, 2)]),
    (3, [(9, 0), (3, 0), (0, 11), (3, 1), (11, 0), (0, 7), (4, 0)]),
    (2, [(50, 1), (1, 50)]),
    (5, [(1, 200), *[(0, 1)] * 10, *[(1, 0)] * 4]),
]
"""Groups of which scikit-learn's splitter makes a fold without a class for at least one of the seeds below."""


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("count", "counts"), HARD)
def test_every_fold_holds_every_class_on_both_sides(count, counts, seed):
    records = grouped(counts)
    folds = make_folds(records, count, seed=seed)
    assert sorted(np.concatenate([fold.test for fold in folds])) == list(range(len(records)))
    for fold in folds:
        for side in (fold.train, fold.test):
            assert {records[i].label for i in side} == {"a", "b"}
        assert not {records[i].group for i in fold.train} & {records[i].group for i in fold.test}
    again = make_folds(records, count, seed=seed)
    assert all(np.array_equal(one.test, other.test) for one, other in zip(folds, again, strict=True))


def test_the_hard_groups_are_hard():
    for count, counts in HARD[:3]:
        labels, units = np.array([(r.label, r.group) for r in grouped(counts)]).T
        splits = StratifiedGroupKFold(count, shuffle=True, random_state=0).split(labels, labels, units)
        assert any(len(set(labels[test])) == 1 for _, test in splits)


def test_folds_that_cannot_hold_every_class_are_refused():
    """Each class is in two groups, but two of the three groups are needed for one fold."""
    records = [Record(Path(), label, group, "t") for group in ("ab", "ac", "bc") for label in group]
    with pytest.raises(MirstError, match=r"no 2 folds were found .* lower folds\.count"):
        make_folds(records, 2)
    with pytest.raises(MirstError, match="val_fraction=0"):
        split_validation(records, np.arange(6), 0.5)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("counts", [counts for _, counts in HARD])
def test_both_sides_of_a_validation_split_hold_every_class(counts, seed):
    records = grouped(counts)
    split = split_validation(records, np.arange(len(records)), 0.2, seed=seed)
    for side in (split.train, split.test):
        assert {records[i].label for i in side} == {"a", "b"}


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
