import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirst.data import Box, parse_box
from mirst.errors import MirstError

edges = st.floats(-50, 150, allow_nan=False)


@given(edges, edges, edges, edges)
def test_the_part_within_an_image_is_the_intersection_or_an_error(x0, y0, x1, y1):
    if not min(min(x1, 100) - max(x0, 0), min(y1, 80) - max(y0, 0)) >= 1 - 1e-9:
        with pytest.raises(MirstError, match="covers less than a pixel of the 100 x 80 image"):
            Box(x0, y0, x1, y1).within(100, 80)
        return
    assert Box(x0, y0, x1, y1).within(100, 80) == (max(x0, 0), max(y0, 0), min(x1, 100), min(y1, 80), None)


def test_edges_as_shares_of_the_image_get_a_sentence():
    with pytest.raises(
        MirstError, match=r"0\.2,0\.3,0\.5,0\.6 covers less than a pixel of the 100 x 80 image; give its"
    ):
        Box(0.2, 0.3, 0.5, 0.6).within(100, 80)


def test_a_mask_of_an_image_that_was_turned_gets_a_sentence():
    with pytest.raises(MirstError, match=r"an image of 80 x 100 pixels, but the upright image has 100 x 80"):
        Box(3, 5, 10, 20, (80, 100)).within(100, 80)
    assert Box(3, 5, 10, 20, (80, 80)).within(80, 80)[:4] == (3, 5, 10, 20)


@pytest.mark.parametrize("frame", [(300, 60), (100, 63), (79, 80)])
def test_a_mask_of_another_image_gets_a_sentence(frame):
    words = (
        rf"belongs to an image of {frame[0]} x {frame[1]} pixels, but the upright image has 100 x 80; give the box or"
    )
    with pytest.raises(MirstError, match=words):
        Box(3, 5, 10, 20, frame).within(100, 80)
    assert Box(3, 5, 10, 20, (95, 80)).within(100, 80)  # a size that was rounded or cut


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 7))
def test_a_box_means_the_same_part_of_an_image_that_was_resized(width, height, factor):
    box = Box(3, 5, 3 + width, 5 + height)
    large = Box(3 * factor, 5 * factor, (3 + width) * factor, (5 + height) * factor, (100 * factor, 80 * factor))
    assert large.within(100, 80)[:4] == pytest.approx(box[:4])


def test_features_are_logs_of_aspect_and_share_of_the_image():
    assert Box(0, 0, 30, 15).features(100, 90) == pytest.approx((math.log(0.5), math.log(0.05)))


@pytest.mark.parametrize(
    "text", ["", "1,2,3", "1,2,3,4,5", "a,b,c,d", "5,0,1,9", "0,9,5,1", "0,0,nan,4", "0,0,inf,4", "1,1,1,2"]
)
def test_a_text_that_is_no_box_gets_a_sentence(text):
    with pytest.raises(MirstError, match="is not a box; give x0,y0,x1,y1"):
        parse_box(text)


def test_a_box_from_text_may_have_spaces_and_fractions():
    assert parse_box(" 1, 2.5 ,3,4 ") == Box(1, 2.5, 3, 4)
