import numpy as np
import pytest

from mirst.data import decode, read_dataset
from mirst.data.duplicates import near_duplicates, perceptual_hash


def test_nothing_gives_nothing():
    assert near_duplicates(np.zeros((0, 64), dtype=bool)) == []


@pytest.mark.parametrize(("flipped", "same"), [(10, True), (11, False)])
def test_the_threshold_counts_bits(flipped, same):
    hashes = np.random.default_rng(0).integers(0, 2, (3, 64)).astype(bool)
    hashes[2] = hashes[0]
    hashes[2, :flipped] ^= True
    assert near_duplicates(hashes) == [0, 1, 0 if same else 2]


def test_copies_of_copies_form_one_group():
    chain = np.zeros((3000, 64), dtype=bool)
    for i in range(3000):
        chain[i, : min(i * 8, 64)] = True
    assert set(near_duplicates(chain)) == {0}


def test_different_patients_are_hardly_ever_taken_for_copies(real_data):
    """BUS-BRA's cases are the truth: of 1.1 million pairs across cases, at most a handful may match."""
    records = read_dataset(real_data / "busbra")
    first = near_duplicates(np.array([perceptual_hash(decode(r.file)) for r in records]))
    wrong = sum(records[i].group != records[j].group for i, j in enumerate(first))
    assert wrong <= 5
