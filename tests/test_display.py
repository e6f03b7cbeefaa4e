import pytest

from mirst.display import estimate_text
from mirst.study import ColumnEstimate, Estimate


def estimate(seconds, **changes):
    column = ColumnEstimate("rst+dm", 60, seconds / 30, 9.0, 600_000_000, 0)
    values = {"done": 0, "jobs": 2, "memory": 1_940_000_000, "gpu_memory": 0}
    return Estimate(columns=[column], seconds=seconds, **values | changes)


def test_an_estimate_in_plain_words():
    table, sentence = estimate_text(estimate(41 * 60)).rsplit("\n", 1)
    assert sentence == "About 41 min for 60 trials, 2 at a time; about 1.9 GB of memory."
    assert table.splitlines()[1].split() == ["rst+dm", "60", "82", "s", "9", "s", "0.6", "GB"]
    text = estimate_text(estimate(60, done=3, gpu_memory=4_000_000_000, jobs=99))
    assert text.endswith("60 at a time; about 1.9 GB of memory and 4.0 GB of the GPU's; 3 trials are done already.")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.21, "0.21 s"), (99, "99 s"), (100, "1.7 min"), (5400, "90 min"), (6000, "1 h 40 min"), (190_000, "2 days 5 h")],
)
def test_durations(seconds, words):
    assert f"About {words} for" in estimate_text(estimate(seconds))
