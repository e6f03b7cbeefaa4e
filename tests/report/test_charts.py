"""The charts against the numbers that they show."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from mirst.report.charts import Axis, Line, Whisker, interval_chart, line_chart


def places(svg, kind):
    """The points of all lines of a class."""
    found = [one for one in ElementTree.fromstring(svg).iter("polyline") if kind in one.get("class").split()]
    return [[tuple(map(float, place.split(","))) for place in one.get("points").split()] for one in found]


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (0, 30, [0, 10, 20, 30]),
        (0, 3, [0, 1, 2, 3]),
        (-1, 1, [-1, -0.5, 0, 0.5, 1]),
    ],
)
def test_ticks_are_round_numbers(low, high, ticks):
    assert Axis("", low, high).ticks == pytest.approx(ticks)
    assert not any(f"{tick:g}" == "-0" for tick in Axis("", low, high).ticks)


def test_a_line_is_where_its_numbers_are():
    chart = line_chart("ce", [Line("clean", [0, 1, 2], [0, 0.5, 1], series=1)], Axis("x", 0, 2), Axis("y"), "alt")
    ((start, middle, end),) = places(chart.svg, "line")
    assert middle == pytest.approx(np.add(start, end) / 2)
    assert start[0] < end[0]
    assert start[1] > end[1]  # up is less
    assert places(chart.svg, "s1")
    assert chart.legend == {"clean": 1}


def test_a_gap_interrupts_a_line_and_has_no_dot():
    line = Line("a", range(5), [0.1, 0.2, np.nan, 0.4, 0.5], marked=[1, 2])
    svg = line_chart("ce", [line], Axis("x", 0, 4), Axis("y"), "alt").svg
    assert [len(one) for one in places(svg, "line")] == [2, 2]
    assert svg.count("<circle") == 1


def test_intervals_have_a_row_each_and_say_what_is_missing():
    nothing = float("nan")
    whiskers = [Whisker("ce", 0.5, 0.25, 0.75), Whisker("<b>", nothing, nothing, nothing, missing="too few")]
    svg = interval_chart("F1", whiskers, Axis("F1"), 'of "ce"', references=[(0.5, 0)]).svg
    (((low, _), (high, _)),) = places(svg, "line")
    (value,) = (float(one) for one in re.findall(r'<circle [^>]*cx="([\d.]+)"', svg))
    assert value == pytest.approx((low + high) / 2, abs=0.1)
    (reference,) = places(svg, "reference")
    assert {x for x, _ in reference} == {value}
    texts = [one.text for one in ElementTree.fromstring(svg).iter("text")]
    assert {"ce", "<b>", "too few"} <= set(texts)
    assert ElementTree.fromstring(svg).get("aria-label") == 'of "ce"'
