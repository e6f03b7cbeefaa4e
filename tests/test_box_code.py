import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mirst.box_code import box_code, box_features, is_known, quantised, without_box
from mirst.errors import MirstError

aspects, areas = st.floats(-4, 4), st.floats(-12, 0)


def spelled(plane):
    """The features of one plane, read digit by digit: an oracle without tensor arithmetic."""
    digits = "".join(str(int(value)) for value in plane.flatten().tolist())
    assert set(digits) <= {"0", "1"}
    assert "1" not in digits[33:]
    aspect, area = int(digits[1:17], 2), int(digits[17:33], 2)
    return digits[0] == "1", (-4 + 8 * aspect / 65535, -12 + 12 * area / 65535)


@given(st.lists(st.tuples(aspects, areas), min_size=1, max_size=5), st.sampled_from([16, 32, 64]))
def test_the_plane_spells_both_features(boxes, size):
    planes = box_code(np.array(boxes), size)
    assert planes.shape == (len(boxes), 1, size, size)
    read, known = box_features(planes)
    assert known.all()
    assert torch.equal(read, quantised(torch.tensor(boxes, dtype=torch.float64)))
    for plane, box, own in zip(planes, boxes, read.tolist(), strict=True):
        said, values = spelled(plane)
        assert said
        assert values == pytest.approx(box, abs=12 / 65535 / 2 + 1e-6)
        assert own == pytest.approx(values, abs=1e-6)


@given(st.tuples(aspects, areas), st.integers(0, 2**31), st.booleans())
def test_no_perturbation_below_one_half_changes_the_box(box, seed, clipped):
    plane = box_code(torch.tensor([box]), 16)
    noise = torch.rand(plane.shape, generator=torch.Generator().manual_seed(seed)) * 0.998 - 0.499
    moved = (plane + noise).clamp(0, 1) if clipped else plane + noise
    assert torch.equal(box_features(moved)[0], box_features(plane)[0])
    assert box_features(moved)[1].all()
    corner = plane + 0.49 * torch.sign(0.5 - plane)
    assert torch.equal(box_features(corner)[0], box_features(plane)[0])


def test_values_out_of_range_are_clipped():
    read, known = box_features(box_code(torch.tensor([[9.0, -20.0], [-math.inf, 3.0]]), 16))
    assert read.tolist() == [[4.0, -12.0], [-4.0, 0.0]]
    assert known.all()


@pytest.mark.parametrize("row", [(math.nan, -1.0), (0.5, math.nan), (math.nan, math.nan)])
def test_nan_says_that_no_box_is_known(row):
    features = torch.tensor([row, (0.5, -1.0)])
    plane = box_code(features, 16)
    assert not plane[0].any()
    read, known = box_features(plane)
    assert known.tolist() == is_known(features).tolist() == [False, True]
    assert read[0].tolist() == quantised(features)[0].tolist() == [0.0, 0.0]


def test_the_plane_has_no_gradient():
    plane = box_code(torch.zeros(1, 2), 16).requires_grad_()
    assert not box_features(plane)[0].requires_grad


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_any_floating_type_carries_the_box(dtype):
    plane = box_code(torch.tensor([[0.123, -4.567]]), 16)
    assert torch.equal(box_features(plane.to(dtype))[0], box_features(plane)[0])


def test_bad_input_gets_a_sentence():
    with pytest.raises(MirstError, match="box features have the shape"):
        box_code(torch.zeros(3), 16)
    with pytest.raises(MirstError, match="needs 33 pixels, but images of 5 px have 25; raise size"):
        box_code(torch.zeros(1, 2), 5)
    assert box_code(torch.zeros(1, 2), 6).shape == (1, 1, 6, 6)


@pytest.mark.parametrize(("channels", "left"), [(1, 1), (2, 1), (3, 3), (4, 3)])
def test_displays_show_image_channels_only(channels, left):
    images = np.random.default_rng(0).random((5, channels, 4, 4))
    assert np.array_equal(without_box(images), images[:, :left])
    assert np.array_equal(without_box(images[0]), images[0, :left])
