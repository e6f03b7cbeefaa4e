import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirst.data.value_range import EIGHT_BITS, Intensity, ValueRange, Values, covering, hull

NUMBERS = st.floats(-1e6, 1e6, width=32)
RANGES = st.tuples(NUMBERS, NUMBERS).map(lambda ends: ValueRange(min(ends), max(ends)))


@given(st.lists(RANGES, min_size=1, max_size=6))
def test_the_shared_range_holds_all_values_and_is_used_by_a_quarter(extents):
    low, high = covering(extents)
    lowest, highest = hull(extents)
    assert low <= lowest <= highest <= high
    assert high - low <= 4 * (highest - lowest)
    assert (low, high) in ((lowest, highest), (0, 1)) or (low == 0 and np.log2(high + 1) >= 8)
    assert covering(extents[::-1]) == (low, high)


@pytest.mark.parametrize("bits", range(8, 33))
def test_the_bits_of_integers_are_found(bits):
    top = 2**bits - 1
    assert covering([ValueRange(0, top)]) == (0, top)
    assert covering([ValueRange(1, top // 2 + 1)]) == (0, top)


def test_a_stated_range_counts_more_than_a_shared_one():
    stated = Values(np.array([[10.0, 20, 30]]), Intensity("window", ValueRange(10, 20)))
    assert stated.eight_bit((0, 1000)).tolist() == [[0, 255, 255]]
    assert stated.intensity == ("window", (10, 20))
    unstated = Values(np.array([[10.0, 500, 3000]]))
    assert unstated.eight_bit((0, 1000)).tolist() == [[3, 128, 255]]
    assert unstated.intensity == ("", (10, 3000))


def test_hidden_pixels_are_black_also_where_low_is_bright():
    hidden = np.array([[False, False, True]])
    values = Values(np.array([[0, 255, 9000]]), None, hidden, inverted=True)
    assert values.intensity.range == (0, 255)
    assert values.eight_bit().tolist() == [[255, 0, 0]]
    colour = Values(np.full((1, 3, 3), 255), EIGHT_BITS, hidden)
    assert colour.eight_bit()[0].tolist() == [[255] * 3, [255] * 3, [0] * 3]
    assert colour.intensity == EIGHT_BITS


def test_a_range_of_no_width_splits_the_values():
    values = Values(np.array([[6, 7, 8]]), Intensity("window", ValueRange(7, 7)))
    assert values.eight_bit().tolist() == [[0, 0, 255]]
