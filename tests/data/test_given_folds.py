"""Folds that a data set gives."""

from pathlib import Path

import numpy as np
import pytest

from mirst.data import (
    SPLIT_LEAK,
    Record,
    audit_records,
    folds_of_split,
    given_validation,
    read_dataset,
    warn_of_split,
    write_phantoms,
)
from mirst.errors import MirstError


def records_of(*splits, labels="ab"):
    """Images of each split, of every class in turn."""
    return [
        Record(Path(f"{number}.png"), labels[number % len(labels)], None, "clinic", f"{number}.png", split=split)
        for number, split in enumerate(splits)
    ]


def parts(folds):
    return [(fold.train.tolist(), fold.test.tolist()) for fold in folds]


def test_each_name_is_a_fold_in_natural_order():
    records = records_of("10", "10", "9", "9", "2", "2")
    assert parts(folds_of_split(records, 3)) == [
        ([0, 1, 2, 3], [4, 5]),
        ([0, 1, 4, 5], [2, 3]),
        ([2, 3, 4, 5], [0, 1]),
    ]


@pytest.mark.parametrize(
    ("train", "val", "test"),
    [("train", "val", "test"), ("Train", "VALID", "Test"), ("training", "validation", "testing")],
)
def test_train_val_and_test_are_one_fold(train, val, test):
    records = records_of(train, train, val, val, test, test)
    (fold,) = folds_of_split(records, 1)
    assert parts([fold]) == [([0, 1, 2, 3], [4, 5])]
    assert given_validation(records, fold.train).tolist() == [2, 3]


def test_train_and_test_alone_hold_nothing_out():
    records = records_of("train", "train", "test", "test")
    (fold,) = folds_of_split(records, 1)
    assert parts([fold]) == [([0, 1], [2, 3])]
    assert len(given_validation(records, fold.train)) == 0


@pytest.mark.parametrize(
    ("splits", "count", "words"),
    [
        (("1", "1", None, "2"), 2, r"1 of 4 images have no split, 2.png among them"),
        (("1", "1", "2", "2"), 5, r"folds.count is 5, but the data set gives 2 \(1, 2\); set folds.count=2"),
        (("train", "train", "test", "test"), 2, r"gives 1 \(test, train\); set folds.count=1"),
        (("1", "1", "2", "2", "3"), 3, "the test part of the given fold 3 has no image of class b"),
        (("train", "val", "test", "test"), 1, "the training part of the given fold test has no image of class b"),
        (("train", "train", "test", "val"), 1, "the test part of the given fold test has no image of class b"),
    ],
)
def test_what_is_no_split_gets_a_sentence(splits, count, words):
    with pytest.raises(MirstError, match=words):
        folds_of_split(records_of(*splits), count)


@pytest.fixture
def images(tmp_path):
    write_phantoms(tmp_path, 4, seed=0)
    return sorted(tmp_path.glob("*/*.png"))


def manifest(folder, images, column, cells, groups=None):
    lines = [f"path,label,{column}" + (",group" if groups else "")]
    for number, (image, cell) in enumerate(zip(images, cells, strict=True)):
        group = f",{groups[number]}" if groups else ""
        lines.append(f"{image.relative_to(folder)},{image.parent.name},{cell}{group}")
    (folder / "list.csv").write_text("\n".join(lines))
    return folder / "list.csv"


@pytest.mark.parametrize(
    ("column", "cells", "expected"),
    [
        ("fold", ["1.0", "2.0"], ["1", "2"]),
        ("split", ["train", "test"], ["train", "test"]),
        ("fold", ["", "3"], [None, "3"]),
    ],
)
def test_a_manifest_gives_the_split(tmp_path, images, column, cells, expected):
    table = manifest(tmp_path, images, column, cells * (len(images) // 2))
    found = {record.name: record.split for record in read_dataset(table)}
    assert [found[str(image.relative_to(tmp_path))] for image in images[:2]] == expected


def test_a_manifest_with_a_split_and_a_fold_gets_a_sentence(tmp_path, images):
    table = manifest(tmp_path, images, "split,fold", ["train,1"] * len(images))
    with pytest.raises(MirstError, match=r"line 2 of .* has both a split and a fold"):
        read_dataset(table)


def test_groups_in_several_parts_are_named(tmp_path, images):
    cells, groups = ["train", "test"] * (len(images) // 2), ["p1"] * 2 + [f"q{n}" for n in range(len(images) - 2)]
    found = warn_of_split(audit_records(read_dataset(manifest(tmp_path, images, "split", cells, groups))))
    assert found.notes[0].startswith(f"{SPLIT_LEAK}: 1 group has images in several parts of the given split (2 images")
    assert all(image.name in found.notes[0] for image in images[:2])
    whole = read_dataset(manifest(tmp_path, images, "split", ["train", "test"] * (len(images) // 2)))
    assert not any(note.startswith(SPLIT_LEAK) for note in warn_of_split(audit_records(whole)).notes)


def test_class_folders_of_a_published_split_give_it(tmp_path):
    for part in ("train", "val", "test"):
        write_phantoms(tmp_path / part, 2, seed=len(part))
    records = read_dataset(tmp_path)
    assert {(record.name.split("/")[0], record.split) for record in records} == {
        (part, part) for part in ("train", "val", "test")
    }
    (fold,) = folds_of_split(records, 1)
    assert {records[i].split for i in fold.test} == {"test"}


def test_the_published_folds_of_busbra(real_data):
    records = read_dataset(real_data / "busbra")
    folds = folds_of_split(records, 4)
    assert [len(fold.test) for fold in folds] == [376, 385, 366, 365]  # kFold of 5-fold-cv.csv
    groups = np.array([record.group for record in records])
    assert not any(set(groups[fold.train]) & set(groups[fold.test]) for fold in folds)
