import itertools
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedGroupKFold

from mirst.data import Record, audit_records, make_folds, read_dataset, split_validation, warn_of_folds, write_phantoms
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
    with pytest.raises(MirstError, match=r"none of 50 draws of 2 folds .* lower folds\.count"):
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


def mixed_records(images):
    """One group for each row of `images`, with so many images of each class."""
    return [
        Record(Path(), f"class {label}", f"group {group}", "test", f"{group}-{label}-{number}")
        for group, row in enumerate(images)
        for label, count in enumerate(row)
        for number in range(count)
    ]


def can_be_split(images, count, validate):
    """Whether any way to share out the groups gives every part every class, by trying them all."""

    def whole(part):
        return bool((images[list(part)].sum(axis=0) > 0).all()) if len(part) else False

    def halves(part):
        return any(
            whole(own) and whole([i for i in part if i not in own])
            for size in range(1, len(part))
            for own in itertools.combinations(part, size)
        )

    groups = range(len(images))
    for folds in itertools.product(range(count), repeat=len(images)):
        tests = [[i for i in groups if folds[i] == fold] for fold in range(count)]
        trains = [[i for i in groups if folds[i] != fold] for fold in range(count)]
        if all(map(whole, tests)) and (not validate or all(map(halves, trains))):
            return True
    return False


def require_whole(records, fold, classes):
    for part in (fold.train, fold.test):
        assert {records[i].label for i in part} == classes
    assert not {records[i].group for i in fold.train} & {records[i].group for i in fold.test}


@settings(max_examples=60, deadline=None)
@given(
    st.integers(2, 3).flatmap(
        lambda classes: st.lists(
            st.lists(st.integers(0, 4), min_size=classes, max_size=classes).filter(any), min_size=3, max_size=6
        )
    ),
    st.integers(2, 3),
    st.booleans(),
    st.integers(0, 5),
)
def test_no_part_misses_a_class_or_the_folds_are_refused(rows, count, validate, seed):
    images = np.array(rows)
    if (images.sum(axis=0) == 0).any():
        return
    records, fraction = mixed_records(images), 0.15 * validate
    classes = {record.label for record in records}
    if not can_be_split(images, count, validate):
        with pytest.raises(MirstError, match="add images"):
            make_folds(records, count, seed=seed, val_fraction=fraction)
        return
    folds = make_folds(records, count, seed=seed, val_fraction=fraction)
    assert sorted(np.concatenate([fold.test for fold in folds])) == list(range(len(records)))
    for fold in folds:
        require_whole(records, fold, classes)
        if validate:
            split = split_validation(records, fold.train, fraction, seed=seed)
            require_whole(records, split, classes)
            assert {*split.train, *split.test} == {*fold.train}
    again = make_folds(records, count, seed=seed, val_fraction=fraction)
    assert all(np.array_equal(a.test, b.test) for a, b in zip(folds, again, strict=True))


MIXED = np.array([[4, 0], [3, 1], [4, 1], [1, 4], [2, 0], [3, 4], [3, 0], [3, 0]])
"""Groups of which scikit-learn's own folds miss a class."""


def test_folds_that_miss_a_class_are_drawn_again():
    records = mixed_records(MIXED)
    labels, groups = [r.label for r in records], [r.group for r in records]
    missed = []
    for seed in range(10):
        drawn = StratifiedGroupKFold(4, shuffle=True, random_state=seed).split(labels, labels, groups)
        missed.append(any({labels[i] for i in test} != {"class 0", "class 1"} for _, test in drawn))
        for fold in make_folds(records, 4, seed=seed):
            require_whole(records, fold, {"class 0", "class 1"})
    assert any(missed)


def test_folds_without_a_fault_are_those_of_scikit_learn():
    records = grouped_records()
    labels, groups = [r.label for r in records], [r.group for r in records]
    drawn = StratifiedGroupKFold(5, shuffle=True, random_state=3).split(labels, labels, groups)
    for fold, (train, test) in zip(make_folds(records, 5, seed=3, val_fraction=0.15), drawn, strict=True):
        assert np.array_equal(fold.train, train)
        assert np.array_equal(fold.test, test)


@pytest.mark.parametrize("kind", ["group", "random"])
def test_two_folds_leave_room_for_validation(kind):
    few = [Record(Path(), label, f"{label}{i}", "t") for label in "ab" for i in range(3)]
    make_folds(few, 2, kind)
    with pytest.raises(MirstError, match=r"fewer than the 4 that 2 folds with validation .* training\.val_fraction=0"):
        make_folds(few, 2, kind, val_fraction=0.15)
    uneven = [Record(Path(), "b", f"b{i}", "t") for i in (0, 0, 0, 0, 0, 0, 0, 1, 2, 3)]
    records = [*few[:3], Record(Path(), "a", "a9", "t"), *uneven]
    for fold in make_folds(records, 2, kind, val_fraction=0.15):
        split = split_validation(records, fold.train, 0.15, kind)
        assert {records[i].label for i in split.train} == {records[i].label for i in split.test} == {"a", "b"}


def test_the_audit_warns_of_classes_that_are_too_small(tmp_path):
    write_phantoms(tmp_path / "small", 3, seed=0)
    write_phantoms(tmp_path / "large", 6, seed=1)
    (warning,) = warn_of_folds(audit_records(read_dataset(tmp_path / "small"))).remarks()
    assert warning.startswith("WARNING: mirst run would reject small with 5 folds: class benign has 3 groups")
    assert warn_of_folds(audit_records(read_dataset(tmp_path / "large"))).remarks() == []
    both = read_dataset(tmp_path / "small") + read_dataset(tmp_path / "large")
    assert warn_of_folds(audit_records(both)).remarks() == [warning]
