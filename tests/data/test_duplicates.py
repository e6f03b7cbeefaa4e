from mirst.data import read_dataset
from mirst.data.duplicates import near_duplicates


def test_nothing_gives_nothing():
    assert near_duplicates([]) == []


def test_different_patients_are_hardly_ever_taken_for_copies(real_data):
    """BUS-BRA's cases are the truth: of 1.1 million pairs across cases, at most a handful may match."""
    records = read_dataset(real_data / "busbra")
    first = near_duplicates([r.path for r in records])
    wrong = sum(records[i].group != records[j].group for i, j in enumerate(first))
    assert wrong <= 5
